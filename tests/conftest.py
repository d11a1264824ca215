"""What every test shares: an environment without credentials, no network but loopback, and the command line as a function."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from recorded import record
from schemas import validate_printed

from lora_packer.files import FileState

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that looks through the whole run's output comes last."""
    items.sort(key=lambda item: "test_no_secrets" in item.nodeid)


def pytest_sessionstart() -> None:
    """In a shell's background and under nohup these signals are ignored, and would be in each process a test starts."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No credentials, no configuration and no home of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "HF_", "TOGETHER_", "LORA_PACKER_", "HUGGING", "GITHUB_")):
            monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "no-home"
    monkeypatch.setenv("HOME", str(nowhere))
    monkeypatch.setenv("HF_HOME", str(nowhere / "hf"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "aws-credentials"))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """A test that would leave this machine fails at once."""
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests do not use the network: {address!r}")
        real_connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connect)
    yield
    patch.undo()


@pytest.fixture
def no_change_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system whose clock did not move, or that keeps no time that cannot be set back."""
    real = FileState.of
    monkeypatch.setattr(FileState, "of", classmethod(lambda _, found: replace(real(found), changed_ns=0)))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run the command line in this process: ``cli("check", folder, input="...")``."""

    def run(*arguments: object, input: str = "") -> Result:
        from lora_packer.cli import build

        out, err = io.StringIO(), io.StringIO()
        code = 0
        stdin, sys.stdin = sys.stdin, io.StringIO(input)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                build()([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        finally:
            sys.stdin = stdin
        record(arguments, out.getvalue(), err.getvalue())
        validate_printed(arguments, out.getvalue())
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def cli_process() -> Callable[..., Result]:
    """Run the command line as a process of its own: ``cli_process("check", folder, env={...})``."""

    def run(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None, input: str = "") -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "lora_packer", *map(str, arguments)],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
        )
        record(arguments, done.stdout, done.stderr)
        validate_printed(arguments, done.stdout)
        return Result(done.returncode, done.stdout, done.stderr)

    return run
