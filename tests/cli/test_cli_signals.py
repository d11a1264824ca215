"""A signal ends the program in 130, without a traceback, whenever it comes; one that is to be ignored is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_KILL = "import os, time; os.kill(os.getpid(), {number}); time.sleep(60)"
_WHEN = {
    "while it loads": """
class Finder:
    def find_spec(self, name, *rest):
        if name == "lora_packer.cli":
            exec(KILL)
sys.meta_path.insert(0, Finder())
""",
    "while it runs": """
import lora_packer.cli
lora_packer.cli.build = lambda names: lambda given: (os.kill(os.getpid(), NUMBER), time.sleep(60))
""",
    "in the middle of an exec": """
import lora_packer.cli
lora_packer.cli.build = lambda names: lambda given: exec(KILL)
""",
    "while a class is made": """
import lora_packer.cli
class Named:
    def __set_name__(self, owner, name):
        exec(KILL)
lora_packer.cli.build = lambda names: lambda given: type("Made", (), {"named": Named()})
""",
    "where Python would drop it": """
import lora_packer.cli
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), NUMBER)
        for _ in range(1000):
            pass
def run(given):
    Dropped()
    time.sleep(60)
lora_packer.cli.build = lambda names: run
""",
    "at its end": """
import atexit, lora_packer.cli
lora_packer.cli.build = lambda names: lambda given: atexit.register(lambda: exec(KILL))
""",
}
# Python takes itself down, and is no longer listening.
_BEHIND_ITS_END = """
import lora_packer.cli
class Last:
    def __del__(self, kill=os.kill, write=os.write, own=os.getpid(), number=NUMBER):
        kill(own, number)
        write(2, b"late\\n")
sys.modules["last"] = Last()
def run(given):
    print("done")
    sys.exit(3)
lora_packer.cli.build = lambda names: run
"""
_RUN = "\nimport lora_packer.__main__\nlora_packer.__main__.main()\n"


def run(number: signal.Signals, program: str) -> subprocess.CompletedProcess[str]:
    begin = f"import os, sys, time\nNUMBER = {int(number)}\nKILL = {_KILL.format(number=int(number))!r}\n"
    command = [sys.executable, "-c", begin + program + _RUN]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("when", _WHEN)
def test_a_signal_ends_it(number: signal.Signals, when: str) -> None:
    ended = run(number, _WHEN[when])
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("when", ["while it runs", "at its end"])
def test_a_signal_that_is_ignored_changes_nothing(when: str) -> None:
    program = f"import signal\nsignal.signal(NUMBER, signal.SIG_IGN)\ntime.sleep = id\n{_WHEN[when]}"
    ended = run(signal.SIGHUP, program)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_comes_when_all_is_done_changes_nothing(number: signal.Signals) -> None:
    ended = run(number, _BEHIND_ITS_END)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "done\n", "late\n")
