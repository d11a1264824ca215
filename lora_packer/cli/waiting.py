"""What a command shows while it waits: on a terminal a line that counts, and nothing in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from lora_packer.cli.common import Output
from lora_packer.cli.streams import columns
from lora_packer.duration import format_duration

_TICK = 1.0  # seconds between two drawings
_FRAMES = "|/-\\"


class WaitingLine:
    """Sleeps between two looks, and shows for how long: ``/ Running, 3 min 12 s``.

    The line is gone when a sleep ends, so that whatever is told next begins at its own.

    Args:
        output: what the command was asked for.
        clock, sleep: the time, in seconds.

    Attributes:
        state: what is waited for, or what it is at.
    """

    def __init__(
        self,
        output: Output,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.state = ""
        self._is_shown = output.is_text and not output.quiet and sys.stderr.isatty()
        self._clock, self._sleep = clock, sleep
        self._started = clock()
        self._frame = 0

    def sleep(self, seconds: float) -> None:
        """Sleep, and count on the terminal."""
        if not self._is_shown:
            self._sleep(seconds)
            return
        try:
            while seconds > 0:
                self._draw()
                self._sleep(min(_TICK, seconds))
                seconds -= _TICK
        finally:
            self._write("")

    def _draw(self) -> None:
        self._frame = (self._frame + 1) % len(_FRAMES)
        elapsed = format_duration(timedelta(seconds=int(self._clock() - self._started)))
        room = columns() - 1 - len(f"{_FRAMES[self._frame]} , {elapsed}")
        state = self.state if len(self.state) <= room else f"{self.state[: max(room - 1, 0)]}…"
        self._write(f"{_FRAMES[self._frame]} {state}, {elapsed}")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
