"""How far a command is: a bar on a terminal, JSON lines for a program, and nothing in a pipe."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from lora_packer.cli.common import Output

_WIDTH = 24
_INTERVAL = 0.1  # seconds between two lines


class ProgressDisplay:
    """Shows bytes, rate and time left of one piece of work on stderr.

    With ``--format json`` each line there is one event: ``{"event": "progress", "stage": ..., "done": ..., "total":
    ...}`` (bytes). The last one has ``done`` equal to ``total``.

    Args:
        output: what the command was asked for.
        stage: what is being done.
        clock: seconds that only grow.
    """

    def __init__(self, output: Output, stage: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stage = stage
        self._clock = clock
        self._started = clock()
        self._shown = float("-inf")
        self._is_drawn = False
        self._show: Callable[[int, int], None] | None = None
        if output.quiet:
            return
        if not output.is_text:
            self._show = self._event
        elif sys.stderr.isatty():
            self._show = self._bar

    def __call__(self, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` bytes are done."""
        now = self._clock()
        if self._show is None or (done < total and now - self._shown < _INTERVAL):
            return
        self._shown = now
        self._show(done, total)

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_drawn = False

    def _event(self, done: int, total: int) -> None:
        event = {"event": "progress", "stage": self._stage, "done": done, "total": total}
        sys.stderr.write(json.dumps(event) + "\n")
        sys.stderr.flush()

    def _bar(self, done: int, total: int) -> None:
        self._is_drawn = True
        rate = done / max(self._clock() - self._started, 0.001)
        left = (total - done) / max(rate, 1.0)
        filled = _WIDTH * done // total if total else _WIDTH
        sizes = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.0f} MB/s, {left:.0f} s left"
        sys.stderr.write(f"\r\x1b[K{self._stage:<9} [{'#' * filled}{'.' * (_WIDTH - filled)}] {sizes}")
        sys.stderr.flush()
