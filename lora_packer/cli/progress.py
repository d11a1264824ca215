"""How far a command is: a bar on a terminal, JSON lines for a program, and nothing in a pipe."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from lora_packer.cli.common import Output
from lora_packer.cli.streams import columns
from lora_packer.duration import format_duration

_LONGEST_BAR, _SHORTEST_BAR = 24, 8  # characters
_INTERVAL = 0.1  # seconds between two lines
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


class ProgressDisplay:
    """Shows bytes, rate and time left of one piece of work on stderr, in the width of the terminal.

    What an earlier run did, which the first call tells, is no part of the rate. There is no time left to tell before
    the second call. With ``--format json`` each line there is one event: ``{"event": "progress", "stage": ...,
    "done": ..., "total": ...}`` (bytes). The last one has ``done`` equal to ``total``.

    Args:
        output: what the command was asked for.
        stage: what is being done.
        clock: seconds that only grow.
    """

    def __init__(self, output: Output, stage: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stage = stage
        self._clock = clock
        self._began: tuple[float, int] | None = None  # when, and how many bytes were done then
        self._shown = float("-inf")
        self._is_drawn = False
        self._show: Callable[[int, int, float], None] | None = None
        if output.quiet:
            return
        if not output.is_text:
            self._show = self._event
        elif sys.stderr.isatty():
            self._show = self._bar

    def __call__(self, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` bytes are done."""
        now = self._clock()
        if self._began is None or done < self._began[1]:  # it begins, or begins anew
            self._began = now, done
        if self._show is None or (done < total and now - self._shown < _INTERVAL):
            return
        self._shown = now
        self._show(done, total, now)

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_drawn = False

    def _event(self, done: int, total: int, _now: float) -> None:
        event = {"event": "progress", "stage": self._stage, "done": done, "total": total}
        sys.stderr.write(json.dumps(event) + "\n")
        sys.stderr.flush()

    def _bar(self, done: int, total: int, now: float) -> None:
        assert self._began is not None
        begin, before = self._began
        rate = (done - before) / (now - begin) if now > begin and done > before else None
        self._is_drawn = True
        sys.stderr.write(f"\r\x1b[K{line(self._stage, done, total, rate, columns() - 1)}")
        sys.stderr.flush()


def line(stage: str, done: int, total: int, rate: float | None, width: int) -> str:
    """Return how far a piece of work is, in at most ``width`` characters: what there is no room for is left out.

    ``rate`` is in bytes a second; None where it is not known yet.
    """
    percent = f"{100 * done // total if total else 100} %"
    left = [f"{format_duration(timedelta(seconds=math.ceil((total - done) / rate)))} left"] if rate else []
    speed = [f"{_bytes(rate, rate)}/s"] if rate else []
    for told in (
        [_sizes(done, total), *speed, *left],
        [percent, *speed, *left],
    ):
        words = ", ".join(told)
        room = width - len(f"{stage:<9} [] {words}")
        if room >= _SHORTEST_BAR:
            length = min(room, _LONGEST_BAR)
            filled = length * done // total if total else length
            return f"{stage:<9} [{'#' * filled}{'.' * (length - filled)}] {words}"
    for told in ([percent, *speed, *left], [percent, *left]):  # too narrow for a bar
        words = f"{stage} {', '.join(told)}"
        if len(words) <= width:
            return words
    return f"{stage} {percent}"[: max(width, 0)]


def _sizes(done: int, total: int) -> str:
    unit, size = _unit(total)
    return f"{_number(done / size)} of {_number(total / size)} {unit}"


def _bytes(count: float, scale: float) -> str:
    unit, size = _unit(scale)
    return f"{_number(count / size)} {unit}"


def _unit(scale: float) -> tuple[str, float]:
    return next((one for one in _UNITS if scale >= one[1]), _UNITS[-1])


def _number(value: float) -> str:
    """One digit behind the point where there is one before it."""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"
