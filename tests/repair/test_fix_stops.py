"""``fix`` that is stopped: whatever stops it, the place has the whole folder or none, and the copy ahead is the same file."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY, TINY_BASE, Tensors, tiny_tensors, write_adapter

import lora_packer
from lora_packer.repair import ahead

WEIGHTS = "adapter_model.safetensors"

# A first repair that says that it is its turn, and waits to be stopped.
MENDING = """
import sys
from lora_packer.repair import mend

def waits(draft, setting):
    print("waiting", flush=True)
    sys.stdin.read()
    return draft, []

mend.FIRST = (waits, *mend.FIRST)
"""
# A copy that has written some of the file, and waits.
COPYING = """
import os, sys
from lora_packer.repair import content

content._AT_ONCE = 1000
copied = os.copy_file_range
calls = []

def waits(*args, **more):
    calls.append(args)
    if len(calls) == 2:
        print("waiting", flush=True)
        sys.stdin.read()
    return copied(*args, **more)

os.copy_file_range = waits
"""
NONE_UNNAMED = "import os; del os.O_TMPFILE"  # as on a system that has no files without a name
RUN = "from lora_packer.__main__ import main; main()"


def without_prefix(folder: Path) -> Path:
    return write_adapter(folder, {name.removeprefix(PREFIX): tensor for name, tensor in tiny_tensors().items()})


def stopped(number: int, tmp_path: Path, *programs: str) -> int:
    """Run ``fix`` until it waits, send it a signal, and return how it ended."""
    command = [sys.executable, "-c", "\n".join((*programs, RUN)), "fix", tmp_path / "broken", "-o", tmp_path / "out"]
    child = subprocess.Popen(
        [*command, "--base-config", TINY_BASE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(number)
        if number == signal.SIGINT:  # what is being copied comes to its end first
            assert child.stdin is not None
            child.stdin.close()
        return child.wait(60)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(number: int, tmp_path: Path) -> None:
    without_prefix(tmp_path / "broken")
    assert stopped(number, tmp_path, MENDING) == 130
    assert names(tmp_path) == ["broken"]


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path) -> None:
    without_prefix(tmp_path / "broken")
    assert stopped(signal.SIGINT, tmp_path, COPYING) == 130
    assert names(tmp_path) == ["broken"]


@pytest.mark.parametrize("when", [MENDING, COPYING], ids=["mending", "copying"])
def test_a_kill_leaves_nothing(when: str, tmp_path: Path) -> None:
    without_prefix(tmp_path / "broken")
    assert stopped(signal.SIGKILL, tmp_path, when) == -signal.SIGKILL
    assert names(tmp_path) == ["broken"]


def test_where_no_file_is_unnamed_a_kill_leaves_what_is_hidden_and_the_next_run_removes_it(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    without_prefix(tmp_path / "broken")
    assert stopped(signal.SIGKILL, tmp_path, NONE_UNNAMED, COPYING) == -signal.SIGKILL
    left = [name for name in names(tmp_path) if name.startswith(".out.lora-packer-")]
    assert (len(left), names(tmp_path)) == (1, [*left, "broken"])
    assert cli("fix", tmp_path / "broken", "-o", tmp_path / "out", "--base-config", TINY_BASE).code == 0
    assert names(tmp_path) == ["broken", "out"]


@pytest.mark.parametrize("kind", ["copied ahead", "written anew", "computed"])
def test_a_full_disk_leaves_nothing(kind: str, tmp_path: Path) -> None:
    tensors, more = tiny_tensors(), []
    if kind == "copied ahead":
        without_prefix(tmp_path / "broken")
    elif kind == "written anew":
        write_adapter(
            tmp_path / "broken",
            {
                n.replace("lora_A", "lora_X").replace("lora_B", "lora_A").replace("lora_X", "lora_B"): t
                for n, t in tensors.items()
            },
        )
    else:
        write_adapter(tmp_path / "broken", tensors)
        more = ["--allow", "bfloat16"]
    done = subprocess.run(
        [sys.executable, "-m", "lora_packer", "fix", tmp_path / "broken", "--base-config", TINY_BASE, *more],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == ["broken"]


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


GUESSES: dict[str, tuple[bool, Callable[[Tensors], Tensors]]] = {
    "nothing is wrong": (True, lambda tensors: tensors),
    "a prefix lost": (True, renamed(lambda name: name.removeprefix(PREFIX))),
    "a prefix twice": (True, renamed(lambda name: PREFIX + name)),
    "wrappers": (True, renamed(lambda name: name.replace(".q_proj", "._orig_mod.q_proj"))),
    "an adapter's name": (True, renamed(lambda name: name.replace("lora_A", "lora_A.run7"))),
    "one segment lost": (False, renamed(lambda name: name.replace("model.model.model.", "model.model.", 1))),
    "transposed": (False, lambda tensors: {n: np.ascontiguousarray(t.T) for n, t in tensors.items()}),
}


@pytest.mark.parametrize("kind", GUESSES)
def test_what_is_copied_ahead_is_kept_where_it_is_the_file(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_kept, breaks = GUESSES[kind]
    seen: list[bool] = []
    asked = ahead.Ahead.is_of

    def watched(self: ahead.Ahead, parts: Any) -> bool:
        seen.append(asked(self, parts))
        return seen[-1]

    monkeypatch.setattr(ahead.Ahead, "is_of", watched)
    broken = write_adapter(tmp_path / "broken", breaks(tiny_tensors()))
    result = lora_packer.fix(broken, tmp_path / "fixed", base_config=TINY_BASE)
    assert (result.ok, seen) == (True, [is_kept])
    assert (tmp_path / "fixed" / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()


def test_a_copy_ahead_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ahead, "write_parts", full)
    with pytest.raises(OSError, match="No space"):
        lora_packer.fix(without_prefix(tmp_path / "broken"), tmp_path / "fixed", base_config=TINY_BASE)
    assert names(tmp_path) == ["broken"]


def test_where_the_kernel_cannot_copy_the_file_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def not_here(*_: object, **__: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", not_here)
    result = lora_packer.fix(without_prefix(tmp_path / "broken"), tmp_path / "fixed", base_config=TINY_BASE)
    assert result.ok
    assert (tmp_path / "fixed" / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()


def test_a_second_look_at_the_file_finds_another_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was written is compared with what had to be: its header, and its length."""
    finish = ahead.Ahead.finish

    def spoils(self: ahead.Ahead, parts: Any) -> None:
        finish(self, parts)
        with self.folder.path(WEIGHTS).open("r+b") as file:
            file.truncate(file.seek(0, 2) - 1)

    monkeypatch.setattr(ahead.Ahead, "finish", spoils)
    with pytest.raises(lora_packer.InputError, match="disk is at fault"):
        lora_packer.fix(without_prefix(tmp_path / "broken"), tmp_path / "fixed", base_config=TINY_BASE)
    assert names(tmp_path) == ["broken"]
