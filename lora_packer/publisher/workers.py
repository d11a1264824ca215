"""A few threads that work off jobs which are made one at a time, so that few of them are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def work_off(
    jobs: Iterable[Job], work: Callable[[Job], Result], done: Callable[[Result], None], *, threads: int
) -> None:
    """Run ``work`` on every job, ``threads`` at a time, and ``done`` on every result, in the calling thread.

    Jobs are taken from ``jobs`` in the calling thread, in order, one ahead of the threads. The first error stops the
    rest: running jobs end, then it is raised. The threads are daemons: Ctrl-C does not wait for a slow request.
    """
    todo: SimpleQueue[Job | None] = SimpleQueue()
    results: SimpleQueue[Result | Exception] = SimpleQueue()
    running = 0

    def worker() -> None:
        while (job := todo.get()) is not None:
            try:
                results.put(work(job))
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
        for job in jobs:
            if running == threads:
                collect()
            todo.put(job)
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
