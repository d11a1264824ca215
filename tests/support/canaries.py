"""A pytest plugin: every credential variable holds a canary, and none may be seen in what the tests leave behind.

usage: PYTHONPATH=tests/support python -m pytest -p canaries (``make canaries``)

Looked at are what each test printed, what it logged (INFO of all libraries), the files below its ``tmp_path`` and the
arguments of the programs that it started. A test that wants no credentials, or others, may fail under it: the run's
exit code says whether a canary was seen, and nothing else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# What begins each of them, in a form that the variable takes.
_MARK = "CanaryCanaryCanary"
VARIABLES = {
    "TOGETHER_API_KEY": f"tgp_v1_{_MARK}Together",
    "HF_TOKEN": f"hf_{_MARK}HuggingFace00",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{_MARK}HuggingFace01",
    "AWS_SECRET_ACCESS_KEY": f"{_MARK}Secret/Access+Key",
    "AWS_SESSION_TOKEN": f"{_MARK}Session//Token==",
    "AWS_SECURITY_TOKEN": f"{_MARK}Security//Token==",
}
_OF_CREDENTIALS = "credentials"  # AWS's file of them, which tests write
_LARGEST = 2**20  # bytes of a file that is looked through

_seen: list[str] = []
_logged: list[str] = []
_started: list[str] = []


class _Keeping(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _logged.append(record.getMessage())


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        _started.append(" ".join(map(str, arguments[1])))


def pytest_configure() -> None:
    """Listen to every program that is started, and to every log."""
    sys.addaudithook(_audit)
    logging.getLogger().addHandler(_Keeping(logging.INFO))
    logging.getLogger().setLevel(logging.INFO)


@pytest.fixture(autouse=True)
def _canaries(_clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set them after the environment was cleaned; a test may set others."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Look before the test's folder goes."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    _look(item.nodeid, "a log record", _logged)
    _look(item.nodeid, "the arguments of a program", _started)
    _look(item.nodeid, "the output", _printed())
    if isinstance(folder, Path):
        for path in folder.rglob("*"):
            if path.name == _OF_CREDENTIALS or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size <= _LARGEST:
                _look(item.nodeid, f"the file {path.name}", [path.read_text(errors="replace")])
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at what was captured of a test that passed; that of one that failed shows its locals, too."""
    if report.passed:
        _look(report.nodeid, "the captured output", [text for _, text in report.sections])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the exit code say whether one was seen."""
    print(f"\ncanaries seen: {len(_seen)}")
    for one in _seen:
        print(f"  {one}")
    session.exitstatus = 1 if _seen or not session.testscollected else 0


def _printed() -> list[str]:
    """What the commands printed since the last look."""
    from recorded import PRINTED

    global _told
    fresh = [text for _, text in PRINTED[_told:]]
    _told = len(PRINTED)
    return fresh


_told = 0


def _look(where: str, what: str, texts: list[str]) -> None:
    if any(_MARK in text for text in texts):
        _seen.append(f"{where}: {what}")
    if texts in (_logged, _started):
        texts.clear()
