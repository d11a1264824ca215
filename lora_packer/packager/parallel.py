"""Work that threads do for the calling one, handed back in order: compressing and inflating, piece by piece."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
_MOST_AHEAD = 32
_MAX_THREADS = 16
_LARGE_BLOCK = 16 << 20


@contextmanager
def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Iterator[Result]]:
    """Run ``work`` on every item in as many threads as there are processors; give the results in the items' order.

    Up to four items for each thread, 32 at most, are worked on ahead of the result that is waited for. Threads gain
    only by work that lets go of Python's lock, as ISA-L and zlib do. They have ended when the block is left: a
    generator that held them could be collected in any thread, and wait there for ever.
    """
    _keep_freed_memory()
    threads = _threads()
    ahead = min(_AHEAD * threads, _MOST_AHEAD)
    waiting: deque[Future[Result]] = deque()

    def results() -> Iterator[Result]:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    with ThreadPoolExecutor(threads) as pool:
        try:
            yield results()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _keep_freed_memory() -> None:
    """Have glibc keep up to 32 MB of freed memory for the next results, instead of giving it back to the kernel.

    Its thresholds for that follow the largest block that was freed (M_MMAP_THRESHOLD in mallopt(3)); this one is never
    touched. That and pieces of 1 MiB in one go, instead of small steps, took 10 % off --compress; elsewhere it does
    nothing.
    """
    bytearray(_LARGE_BLOCK)


def _threads() -> int:
    """Return how many threads work: one for each processor that this process may use, 16 at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MAX_THREADS)
