"""Standard output and standard error as they are found: open, closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

from lora_packer.files import STDOUT
from lora_packer.redact import inert

_STDERR = 2
_A_GUESS = 80  # columns


def open_standard_streams() -> None:
    """Give a process that was started without some of its three streams others in their place.

    A file that is opened later would get the number of a closed stream, and what is meant for a person would be
    written into it. Where standard output was closed, to write to it fails, as it does for every other program.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _STDERR:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _Closed(_buffer(STDOUT), "utf-8")
    buffer = _buffer(_STDERR) if sys.stderr is None else getattr(sys.stderr, "buffer", None)
    if buffer is not None:
        sys.stderr = _Notes(buffer, "utf-8" if sys.stderr is None else sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_stdout_closed() -> bool:
    """Whether standard output was closed when the process was started."""
    return isinstance(sys.stdout, _Closed)


def leave_stdout() -> None:
    """Write nothing to standard output any more, nor what is left in its buffer when Python ends."""
    _point_at_nothing(sys.stdout)


def interrupt_on_signals() -> None:
    """Make SIGTERM, SIGQUIT and a terminal that is closed unwind like Ctrl-C: nothing half-written stays behind.

    What is to be ignored (a hang-up behind ``nohup``) stays ignored. An interrupt that comes while Python cleans up
    behind the program, where it would be lost, comes again.
    """

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)  # Windows has not all of them
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    alarm = getattr(signal, "SIGALRM", None)
    if alarm is not None:
        signal.signal(alarm, interrupt)
        sys.unraisablehook = _not_lost


_AGAIN = 0.01  # seconds


def _not_lost(ignored: sys.UnraisableHookArgs) -> None:
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(ignored)


def columns(stream: TextIO | None = None) -> int:
    """Return how wide the terminal is on which a stream (default: that of notes) is shown; COLUMNS says otherwise, and
    80 is a guess."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and 0 < int(told) < 10_000:
        return int(told)
    try:
        return os.get_terminal_size((stream or sys.stderr).fileno()).columns or _A_GUESS
    except (OSError, ValueError, AttributeError):
        return _A_GUESS


def folded(text: str, stream: TextIO) -> str:
    """Return text for a person as a stream shows it: folded to its width on a terminal, else as it is.

    No line of it is one that a CI system takes for a command, whatever stands where a line was folded.
    """
    if not stream.isatty():
        return inert(text)
    from lora_packer.cli.fold import fold

    return inert(fold(text, columns(stream)))


class _Closed(io.TextIOWrapper):
    """Standard output that was closed from the beginning."""


class _Notes(io.TextIOWrapper):
    """Standard error. Where it takes nothing, what is told there is lost: that changes no result and no exit code."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _point_at_nothing(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _point_at_nothing(self)


def _buffer(descriptor: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))


def _point_at_nothing(stream: object) -> None:
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)
