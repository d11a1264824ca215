"""Waiting for a job or an endpoint: look, sleep a little longer each time, never take "could not look" for an end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from lora_packer.duration import format_duration
from lora_packer.errors import JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.together.endpoint import Endpoint
from lora_packer.together.model import Job
from lora_packer.together.refusal import advice, is_transient

STALE_AFTER = timedelta(minutes=10)
"""How long a job may stand still before that is told; not the service's number, which names none."""

T = TypeVar("T")

_FIRST_INTERVAL, _LONGEST_INTERVAL, _GROWTH = 1.0, 20.0, 1.5  # seconds, seconds, times


def poll(
    look: Callable[[], T],
    *,
    is_end: Callable[[T], bool],
    told: Callable[[T], object],
    timeout: timedelta,
    on_change: Callable[[T], None],
    on_trouble: Callable[[ServiceError], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    stale_after: timedelta | None = None,
    on_stale: Callable[[T, timedelta], None] | None = None,
) -> tuple[T | None, ServiceError | None]:
    """Look at something until it ends or the time is up; it is looked at once in any case.

    Args:
        look: returns it as it is now; a transient ServiceError is tolerated until the time is up.
        is_end: whether it is at its end.
        told: what of it counts as a change.
        timeout: how long to wait.
        on_change: called with the first look and after each change; last with the end.
        on_trouble: called with each error that is tolerated.
        sleep, clock: the time, in seconds.
        stale_after, on_stale: where it did not change for so long, ``on_stale`` is called, once for each state.

    Returns the last look (None where every look failed) and the error of the last attempt, if it failed. Raises
    ServiceError where looking cannot succeed later.
    """
    started = changed = clock()
    deadline = started + timeout.total_seconds()
    interval = _FIRST_INTERVAL
    seen: T | None = None
    trouble: ServiceError | None = None
    reported = False
    while True:
        try:
            now = look()
        except ServiceError as error:
            # An unreadable success in the middle of a wait is a gateway's hiccup; at its start it is a wrong address.
            if not (is_transient(error) or (seen is not None and error.status == 200)):
                raise
            trouble = error
            if on_trouble is not None:
                on_trouble(error)
        else:
            trouble = None
            if seen is None or told(now) != told(seen):
                changed, reported = clock(), False
                on_change(now)
            seen = now
            if is_end(now):
                return now, None
            still = timedelta(seconds=clock() - changed)
            if stale_after is not None and on_stale is not None and still >= stale_after and not reported:
                reported = True
                on_stale(now, still)
        left = deadline - clock()
        if left <= 0:
            return seen, trouble
        sleep(min(interval, left))
        interval = min(interval * _GROWTH, _LONGEST_INTERVAL)


def wait_for(
    job_id: str,
    look: Callable[[], Job],
    *,
    timeout: timedelta,
    on_change: Callable[[Job], None],
    on_trouble: Callable[[ServiceError], None] | None,
    on_stale: Callable[[Job, timedelta], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    again: str = "",
) -> Job:
    """Look at a job until it is complete, and return it; see ``poll`` for the arguments.

    ``again`` is what the command to go on with needs besides the job's id. Raises JobFailedError, WaitTimeoutError,
    and ServiceError where looking cannot succeed later.
    """
    ended = poll(
        look,
        is_end=lambda job: job.is_complete or job.has_failed,
        told=lambda job: (job.status, job.updates),
        timeout=timeout,
        on_change=on_change,
        on_trouble=on_trouble,
        sleep=sleep,
        clock=clock,
        stale_after=STALE_AFTER,
        on_stale=on_stale,
    )
    job, trouble = ended
    if job is not None and job.is_complete:
        return job
    if job is not None and job.has_failed:
        raise _failed(job)
    raise _timed_out(job_id, timeout, job, trouble, again)


def wait_until_serving(
    look: Callable[[], Endpoint],
    *,
    timeout: timedelta,
    on_change: Callable[[Endpoint], None],
    on_trouble: Callable[[ServiceError], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Endpoint:
    """Look at an endpoint until it serves, and return it; see ``wait_for``.

    Raises ServiceError where it fails or is stopped, WaitTimeoutError. Both say that it may still cost money.
    """
    ended = poll(
        look,
        is_end=lambda endpoint: endpoint.is_serving or endpoint.has_failed or endpoint.is_ending,
        told=lambda endpoint: (endpoint.state, endpoint.reason),
        timeout=timeout,
        on_change=on_change,
        on_trouble=on_trouble,
        sleep=sleep,
        clock=clock,
    )
    endpoint, trouble = ended
    if endpoint is None:
        raise WaitTimeoutError(
            f"The endpoint could not be looked at for {format_duration(timeout)}: {trouble.message if trouble else ''}",
            hint="It may cost money: look at it in the service's dashboard.",
        )
    if endpoint.is_serving:
        return endpoint
    stop = f"`{endpoint.stop_command}`"
    if endpoint.has_failed or endpoint.is_ending:
        reason = f": {endpoint.reason}" if endpoint.reason else ""
        hint = f"End it with {stop}, then deploy again."
        raise ServiceError(f"Endpoint {endpoint.id} is {endpoint.state}{reason}.", hint=hint, status=None)
    raise WaitTimeoutError(
        f"Endpoint {endpoint.id} was still {endpoint.state} after {format_duration(timeout)}.",
        hint=f"It goes on, and {endpoint.cost}. Run the same command again to wait on.",
    )


def _failed(job: Job) -> JobFailedError:
    said = [update.message for update in job.updates if update.message and update.status.lower() == job.status.lower()]
    said = said or [update.message for update in job.updates if update.message][-1:]
    reason = "; ".join(dict.fromkeys(said)) or "the service gives no reason"
    hint = advice(reason) or "Correct what it names and submit again, or ask the service's support with this id."
    return JobFailedError(f"Job {job.id} ended as {job.status}: {reason.rstrip('.')}.", hint=hint)


def _timed_out(
    job_id: str, timeout: timedelta, seen: Job | None, trouble: ServiceError | None, again: str
) -> WaitTimeoutError:
    state = f"was still {seen.status}" if seen else "could not be looked at"
    message = f"Job {job_id} {state} after {format_duration(timeout)}."
    if trouble is not None:
        message += f" The last look failed: {trouble.message}"
    hint = f"Go on with `lora-packer wait {job_id}{again}`."
    if seen and trouble is None:
        hint += " A job that stands still most often means that its source can no longer be read."
    return WaitTimeoutError(message, hint=hint)
