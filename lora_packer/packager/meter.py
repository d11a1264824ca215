"""How far the work has come."""

from __future__ import annotations

import threading
from collections.abc import Callable

# Is told (bytes done, bytes in all); it may be called from another thread, but never twice at a time.
Progress = Callable[[int, int], None]


class Stopped(Exception):  # noqa: N818 - never leaves the packager
    """Raised in a thread whose work is not wanted any more."""


class Meter:
    """Counts the bytes that were worked on, whatever thread did it, and can stop them all.

    Args:
        total: how many bytes there are in all.
        tell: is told how many are done.
    """

    def __init__(self, total: int = 0, tell: Progress | None = None) -> None:
        self._total = total
        self._tell = tell
        self._done = 0
        self._is_stopped = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes as done. Raises Stopped when the work is to end early."""
        with self._lock:
            if self._is_stopped:
                raise Stopped
            self._done += count
            if self._tell is not None and count:
                self._tell(self._done, self._total)

    def stop(self) -> None:
        """Make every later ``add`` raise Stopped."""
        self._is_stopped = True
