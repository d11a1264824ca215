"""The four ways work goes on beside: one task aside, one ahead, many in their order, many in any order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
_MOST_AHEAD = 32
_MAX_THREADS = 16
_LARGE_BLOCK = 16 << 20


@contextmanager
def aside(
    stop: Callable[[], None], task: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
) -> Iterator[Future[Result]]:
    """Run a task in a thread while the block runs; the future has its result.

    When the block fails or is interrupted ``stop`` is called, which is to end the task soon. Either way the thread has
    ended when the block is left.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(task, *args, **kwargs)
        try:
            yield future
        except BaseException:
            stop()
            raise


def ahead(task: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
    """Begin a task whose result is wanted later; the future has it, or its error.

    The thread is a daemon: a result that nobody wants any more is not waited for.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(task(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed over, and raised where the result is wanted
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


@contextmanager
def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Iterator[Result]]:
    """Run ``work`` on every item in as many threads as there are processors; give the results in the items' order.

    Up to four items for each thread, 32 at most, are worked on ahead of the result that is waited for. Threads gain
    only by work that lets go of Python's lock, as ISA-L and zlib do. They have ended when the block is left: a
    generator that held them could be collected in any thread, and wait there for ever.
    """
    _keep_freed_memory()
    threads = processors()
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


def unordered(
    items: Iterable[Item], work: Callable[[Item], Result], done: Callable[[Result], None], *, threads: int
) -> None:
    """Run ``work`` on every item, ``threads`` at a time, and ``done`` on every result, in the calling thread.

    Items are taken in the calling thread, in order, one ahead of the threads, so that few of them are in memory. The
    first error stops the rest: what runs ends, then it is raised. The threads are daemons: Ctrl-C does not wait for a
    slow request.
    """
    todo: SimpleQueue[Item | None] = SimpleQueue()
    results: SimpleQueue[Result | Exception] = SimpleQueue()
    running = 0

    def worker() -> None:
        while (item := todo.get()) is not None:
            try:
                results.put(work(item))
            except Exception as error:  # noqa: BLE001 - handed over, and raised in the calling thread
                results.put(error)

    def collect() -> None:
        nonlocal running
        result = results.get()
        running -= 1
        if isinstance(result, Exception):
            raise result
        done(result)

    for _ in range(threads):
        Thread(target=worker, daemon=True).start()
    try:
        for item in items:
            if running == threads:
                collect()
            todo.put(item)
            running += 1
        while running:
            collect()
    except Exception:
        while running:
            with suppress(Exception):
                collect()
        raise
    finally:
        for _ in range(threads):
            todo.put(None)


def _keep_freed_memory() -> None:
    """Have glibc keep up to 32 MB of freed memory for the next results, instead of giving it back to the kernel.

    Its thresholds for that follow the largest block that was freed (M_MMAP_THRESHOLD in mallopt(3)); this one is never
    touched. That and pieces of 1 MiB in one go, instead of small steps, took 10 % off --compress; elsewhere it does
    nothing.
    """
    bytearray(_LARGE_BLOCK)


def processors() -> int:
    """Return how many threads work: one for each processor that this process may use, 16 at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MAX_THREADS)
