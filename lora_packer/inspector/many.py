"""``check_many``: many adapters, concurrently; one that cannot be read stops no other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import field
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from lora_packer.arguments import BaseSource, require_base, require_codes, require_one_of, require_path
from lora_packer.base_model.fallback import find_base
from lora_packer.base_model.shared import Bases, sharing
from lora_packer.errors import InputError, InternalError, LoraPackerError
from lora_packer.finding import Finding, Unchecked
from lora_packer.frozen import frozen
from lora_packer.inspector.check import check, require_rules
from lora_packer.inspector.report import SCHEMA_VERSION, AdapterSummary, BaseModelSummary, Report
from lora_packer.inspector.suppression import Suppression, require_suppressions
from lora_packer.redact import escape, fit, scrub, without_own
from lora_packer.targets import DEFAULT_TARGET, chosen
from lora_packer.workers import open_pool

__all__ = ["Listed", "Result", "Unreadable", "check_each", "check_many", "filled", "overall", "prepared", "summary_of"]

_AHEAD = 64  # tasks handed to an executor before the first of them ends: it may have many workers
# A check by header takes some milliseconds: to hand each over by itself took a third as long again.
_TOGETHER, _MANY = 8, 64


@frozen
class Listed:
    """One adapter among many, and what it has of its own; None: what holds for all."""

    adapter: str | Path
    base_model: str | None = None
    base_config: BaseSource | None = None
    target: str | None = None


@frozen
class Unreadable:
    """What stands in a report's place where there is none: ``error`` says why. Its other fields are a report's.

    Its status is ``inconclusive`` where the Hub could not be asked, else ``unreadable``; nothing of it is ever ``ok``.
    """

    adapter: AdapterSummary
    target: str
    error: LoraPackerError
    base_model: BaseModelSummary = field(default_factory=lambda: BaseModelSummary(None, None, None))
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    ok: Literal[False] = False

    @property
    def status(self) -> Literal["inconclusive", "unreadable"]:
        """Why there is no report."""
        return "inconclusive" if self.error.exit_code == _INCONCLUSIVE else "unreadable"

    @property
    def summary(self) -> dict[str, int]:
        """Count the findings, of which there are none."""
        return {"errors": 0, "warnings": 0, "infos": 0}

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``check --format json`` has it among the reports."""
        error = self.error
        told = {
            "type": type(error).__name__,
            "message": fit(error.message),
            "hint": fit(error.hint) if error.hint else None,
            "exit_code": error.exit_code,
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "adapter": {"source": self.adapter.source},
            "error": told,
        }


Result = Report | Unreadable
_INCONCLUSIVE = 3  # an exit code


def check_many(
    adapters: Iterable[str | Path | Listed],
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    target_file: str | Path | None = None,
    weights: bool = True,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    suppress: Sequence[Suppression] = (),
    fail_on: Literal["error", "warning"] = "error",
    stats: bool | Literal["if-read"] = False,
) -> Iterator[Result]:
    """Check many adapters, and yield a report of each, in the order given, as soon as it and those before it are there.

    A base model that several share is built once. What cannot be read yields an ``Unreadable`` in its report's place,
    and the others go on.

    Args:
        adapters: what ``check`` takes; or ``Listed``, with a base model or a target of its own.
        executor: any ``concurrent.futures.Executor``, such as Dask's (``client.get_executor()``). It is not shut down.
            None: workers of this machine.
        jobs: how many of those; by default as many as there are processors.
        base_config, base_model, target, target_file, weights, select, ignore, suppress, fail_on, stats: as ``check``
            has them, for all.

    Raises:
        InputError: an argument makes no sense, or ``base_config`` cannot be read.
    """
    if isinstance(adapters, str | Path):
        raise InputError("adapters is a single one.", hint="Give a list: check_many([...]).")
    options = {
        "target_file": target_file,
        "weights": weights,
        "fail_on": fail_on,
        "stats": stats,
        "select": select,
        "ignore": ignore,
        "suppress": suppress,
    }
    defaults = Listed("", base_model, base_config, target)
    listed = [filled(item if isinstance(item, Listed) else Listed(item), defaults) for item in adapters]
    return _in_order(prepared(listed, options, executor=executor, jobs=jobs))


def prepared(
    listed: Sequence[Listed], options: Mapping[str, Any], *, executor: Executor | None = None, jobs: int | None = None
) -> Iterator[tuple[int, Result]]:
    """Return what ``check_each`` yields, with what holds for all judged before it begins. Raises InputError."""
    for name in ("select", "ignore"):
        require_codes(options[name], name)
        require_rules(options[name])
    require_suppressions(options.get("suppress", ()))
    require_one_of(options["fail_on"], "fail_on", ("error", "warning"))
    for item in listed:
        require_path(item.adapter, "adapters")
        require_base(item.base_config, "base_config")
    for target in {item.target for item in listed if item.target is not None}:
        chosen(target, options.get("target_file"))
    return check_each(listed, options, executor=executor, jobs=jobs)


def filled(item: Listed, defaults: Listed) -> Listed:
    """Return an adapter with what holds for all where it has nothing of its own.

    One with its own base model has not the others' base config, which would be another model's.
    """
    own = item.base_model is not None or item.base_config is not None
    base_model = item.base_model if own else defaults.base_model
    base_config = item.base_config if own else defaults.base_config
    return Listed(item.adapter, base_model, base_config, item.target or defaults.target)


def check_each(
    listed: Sequence[Listed], options: Mapping[str, Any], *, executor: Executor | None = None, jobs: int | None = None
) -> Iterator[tuple[int, Result]]:
    """Check adapters, and yield the place of each in the list with its report, as they end.

    Raises InputError where a base config that is given for all of them cannot be read.
    """
    run = uuid.uuid4().hex
    _read_shared(listed, run)
    work = partial(_checked_in_turn, run, dict(options))
    together = _TOGETHER if not options["weights"] and len(listed) >= _MANY else 1
    tasks = [listed[at : at + together] for at in range(0, len(listed), together)]
    results: Iterator[tuple[int, list[Result]]]
    with open_pool(len(listed), jobs) if executor is None else nullcontext(executor) as pool:
        results = enumerate(map(work, tasks)) if pool is None else _running(pool, work, tasks)
        for at, found in results:
            yield from enumerate(found, at * together)


def _read_shared(listed: Sequence[Listed], run: str) -> None:
    """Read a base config that all of them share before there are workers: they have it then, and it is told once."""
    given = {str(item.base_config) for item in listed if isinstance(item.base_config, str | Path)}
    if len(given) == 1 and len(listed) > 1 and all(item.base_config is not None for item in listed):
        with _of_run(run):
            try:
                find_base(given.pop())
            except InputError:
                raise
            except LoraPackerError:
                pass  # each report says that it could not be had


Task = Sequence[Listed]


def _running(
    pool: Executor, work: Callable[[Task], list[Result]], tasks: Sequence[Task]
) -> Iterator[tuple[int, list[Result]]]:
    """Yield the results of tasks as they end, with so many handed over at a time."""
    ended: SimpleQueue[tuple[int, Future[list[Result]]]] = SimpleQueue()
    todo = enumerate(tasks)
    waiting: dict[int, Future[list[Result]]] = {}

    def hand_over(count: int) -> None:
        for at, item in islice(todo, count):
            future = waiting[at] = pool.submit(work, item)
            future.add_done_callback(lambda done, at=at: ended.put((at, done)))  # type: ignore[misc]

    try:
        hand_over(_AHEAD)
        while waiting:
            at, future = ended.get()
            del waiting[at]
            yield at, future.result()
            hand_over(1)
    finally:
        for future in waiting.values():
            future.cancel()


def _in_order(results: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    early: dict[int, Result] = {}
    following = 0
    for at, result in results:
        early[at] = result
        while following in early:
            yield early.pop(following)
            following += 1


# In a worker: what the run that it works for shares. There is one run at a time that matters.
_bases: dict[str, Bases] = {}
_MOST_RUNS = 2


@contextmanager
def _of_run(run: str) -> Iterator[None]:
    bases = _bases.setdefault(run, Bases())
    for old in list(_bases)[:-_MOST_RUNS]:
        _bases.pop(old, None)
    with sharing(bases):
        yield


def _checked_in_turn(run: str, options: Mapping[str, Any], task: Task) -> list[Result]:
    return [_checked(run, options, item) for item in task]


def _checked(run: str, options: Mapping[str, Any], item: Listed) -> Result:
    """Check one adapter; whatever happens is a result."""
    target = item.target or DEFAULT_TARGET
    try:
        with _of_run(run):
            return check(
                item.adapter,
                base_config=item.base_config,
                base_model=item.base_model,
                target=target,
                **options,
            )
    except LoraPackerError as error:
        return _unreadable(item, target, error)
    except MemoryError:
        return _unreadable(item, target, InternalError("There is not enough memory for this."))
    except Exception as error:  # noqa: BLE001 - one adapter stops no other
        message = f"This is a bug in lora-packer, and no verdict ({type(error).__name__}: {escape(str(error))})."
        return _unreadable(item, target, InternalError(message, hint="Check this adapter alone to see where."))


def _unreadable(item: Listed, target: str, error: LoraPackerError) -> Unreadable:
    error.__traceback__ = error.__cause__ = error.__context__ = None  # it goes from one process to another
    source = scrub(without_own(str(item.adapter)))  # anything may stand here by mistake: a key, a presigned URL
    return Unreadable(AdapterSummary(source, 0, 0, 0, (), ()), target, error)


def summary_of(results: Iterable[Result]) -> dict[str, int]:
    """Count results by their status."""
    counts = {"adapters": 0, "ok": 0, "failed": 0, "inconclusive": 0, "unreadable": 0}
    for result in results:
        counts["adapters"] += 1
        counts[result.status] += 1
    return counts


def overall(summary: Mapping[str, int]) -> Literal["ok", "failed", "inconclusive"]:
    """Return the status of all: failed where any failed or could not be read, else inconclusive where any was."""
    if summary["failed"] or summary["unreadable"]:
        return "failed"
    return "inconclusive" if summary["inconclusive"] else "ok"
