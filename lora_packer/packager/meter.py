"""How far the work has come, and work that goes on in a thread beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

# Is told (bytes done, bytes in all); it may be called from another thread, but never twice at a time.
Progress = Callable[[int, int], None]

P = ParamSpec("P")
T = TypeVar("T")


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


@contextmanager
def aside(meter: Meter, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Iterator[Future[T]]:
    """Run a task in a thread while the block runs; the future has its result.

    When the block fails or is interrupted the meter is stopped, so that a task which counts its bytes ends soon. Either
    way the thread has ended when the block is left.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(task, *args, **kwargs)
        try:
            yield future
        except BaseException:
            meter.stop()
            raise
