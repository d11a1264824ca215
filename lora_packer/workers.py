"""Workers that check adapters beside each other: processes of this machine, threads, or those of a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from lora_packer.errors import InputError, InternalError
from lora_packer.redact import escape
from lora_packer.threads import processors

# From how many tasks on a process of its own pays: to fork two takes as long as to check some ten small adapters.
_WORTH_A_PROCESS = 8


@contextmanager
def open_pool(tasks: int, jobs: int | None = None) -> Iterator[Executor | None]:
    """Give workers of this machine for so many tasks, or None where one after the other is as good.

    Most of a check is Python's own work, of which threads do one at a time: processes took half of the time on two
    processors, threads all of it. They are forked, so that what is loaded need not be loaded again; where that is not
    safe (macOS, Windows, a process with threads), threads have to do.
    """
    workers = min(jobs or processors(), tasks)
    if workers <= 1:
        yield None
        return
    if tasks < _WORTH_A_PROCESS or not _can_fork():
        pool: Executor = ThreadPoolExecutor(workers)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise InternalError(
            "A worker was ended from outside, maybe for want of memory.", hint="Try it with --jobs 1."
        ) from None
    except BaseException:
        _end_workers()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _can_fork() -> bool:
    return sys.platform.startswith("linux") and threading.active_count() == 1 and hasattr(os, "fork")


def _begin_worker() -> None:
    """Leave interrupts to what they do by default: the process that gives the work tells about them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _end_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.terminate()


# --- a cluster -------------------------------------------------------------------------------------------------------


@contextmanager
def open_executor(url: str) -> Iterator[Executor]:
    """Give the workers of a cluster: ``dask://host:port`` or ``ray://host:port``.

    Raises InputError where the URL is none of these, the package is missing or the cluster does not answer.
    """
    scheme, _, address = url.partition("://")
    if scheme not in _CLUSTERS or not address:
        raise InputError(
            f"'{escape(url, 80)}' names no executor.", hint="Give dask://host:port or ray://host:port with --executor."
        )
    with _CLUSTERS[scheme](address) as executor:
        yield executor


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise _missing("dask", "distributed") from None
    try:
        client = Client(f"tcp://{address}", timeout=30)
    except (OSError, ValueError) as error:
        raise _unreachable("Dask", address, error) from None
    with client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _ray(address: str) -> Iterator[Executor]:
    try:
        import ray
    except ImportError:
        raise _missing("ray", "'ray[client]'") from None
    try:
        ray.init(f"ray://{address}", log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable("Ray", address, error) from None
    try:
        yield _RayExecutor(ray)
    finally:
        ray.shutdown()


class _RayExecutor(Executor):
    """Ray's tasks as an executor: each call is one task."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._call = ray.remote(_called)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call the function."""
        future: Future[Any] = self._call.remote(fn, args, kwargs).future()
        return future


def _called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


_CLUSTERS = {"dask": _dask, "ray": _ray}


def _missing(scheme: str, package: str) -> InputError:
    return InputError(
        f"--executor {scheme}:// needs the package {package}, which is not installed here.",
        hint=f"pip install {package}",
    )


def _unreachable(what: str, address: str, error: Exception) -> InputError:
    return InputError(
        f"{what} at '{escape(address, 80)}' does not answer: {escape(str(error), 160)}.",
        hint="Check host and port; the scheduler has to be running.",
    )
