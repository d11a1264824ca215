"""Run one hostile case in a process of its own, and judge what came out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from hostile.case import CANARY, ROOT, Case

_MOST_SHOWN = 120
_LINE = 400
# A program that runs another one and tells what it took: the memory of this process is not to count.
_MEASURE = Path(__file__).with_name("measure.py")
_SHORT = Path(__file__).with_name("short.py")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_WORKFLOW = re.compile(r"^::", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case ended with: exit code, processor seconds, megabytes, and what is wrong with it."""

    case: Case
    exit: int
    seconds: float
    megabytes: int
    wrong: tuple[str, ...]


def run(case: Case, folder: Path, slowness: float = 1.0) -> Outcome:
    """Make the case's input in a folder, run it there, and remove the folder.

    ``slowness``: how much slower this machine is than the one that the bound in seconds is for.
    """
    arguments = case.build(folder)
    before = _files(folder)
    home = folder.with_name(f"{folder.name}-home")
    home.mkdir()
    command = [
        sys.executable,
        "-S",
        str(_MEASURE),
        json.dumps(_request(case, slowness)),
        sys.executable,
        *([str(_SHORT)] if case.short_deadlines else ["-m", "lora_packer"]),
        *arguments,
    ]
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=_environment(case, home),
            capture_output=True,
            timeout=case.deadline + 10,
            check=False,
        )
        measured = json.loads(ended.stderr.rpartition(b"\x00")[2] or b"{}")
        output = (ended.stdout + ended.stderr.rpartition(b"\x00")[0]).decode("utf-8", "backslashreplace")
        wrong = list(_wrong(case, folder, before, output, measured, slowness))
        return Outcome(
            case, measured.get("exit", -1), measured.get("seconds", 0), measured.get("megabytes", 0), tuple(wrong)
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _request(case: Case, slowness: float) -> dict[str, object]:
    signal = None if case.signal_after is None else (case.signal_after[0], case.signal_after[1] * slowness)
    return {"deadline": case.deadline, "stdout": case.stdout, "signal": signal}


def _environment(case: Case, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    own = {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(home / "hf"),
        "PYTHONWARNINGS": "error",
        "COLUMNS": "120",
    }
    return {**kept, **own, **case.environment}


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _wrong(
    case: Case, folder: Path, before: set[str], output: str, measured: dict[str, float], slowness: float
) -> Iterable[str]:
    if measured.get("killed"):
        yield f"it had not ended after {case.deadline:g} s"
    elif measured.get("exit") not in case.exits:
        yield f"exit {measured.get('exit')}, expected {sorted(case.exits)}: {_shown(output)}"
    if measured.get("seconds", 0) > case.seconds * slowness:
        yield f"it took {measured['seconds']:.1f} s of the processor's time"
    if measured.get("megabytes", 0) > case.megabytes:
        yield f"it took {measured['megabytes']} MB"
    if "Traceback (most recent call last)" in output or "Exception ignored" in output:
        yield f"a traceback: {_shown(output[-_MOST_SHOWN:])}"
    if (found := _CONTROL.search(output)) is not None:
        yield f"a control character: {_shown(output[max(0, found.start() - 40) :])}"
    if (found := _WORKFLOW.search(output)) is not None:
        yield f"a workflow command at the start of a line: {_shown(output[found.start() :])}"
    if (longest := max(map(len, output.splitlines()), default=0)) > _LINE:
        yield f"a line of {longest} characters"
    if CANARY in output:
        yield f"a credential: {_shown(output[max(0, output.index(CANARY) - 60) :])}"
    if not output.strip() and not case.silent:
        yield "nothing was said"
    left = {name for name in _files(folder) - before if not any(fnmatch(name, glob) for glob in case.leaves)}
    if left:
        yield f"left behind: {', '.join(sorted(left)[:3])}"
    if case.judge is not None and (told := case.judge(folder)):
        yield told


def _shown(text: str) -> str:
    return repr(text[:_MOST_SHOWN])
