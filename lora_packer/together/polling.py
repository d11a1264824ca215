"""Waiting for a job: look, sleep a little longer each time, and never take "could not look" for an end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from lora_packer.duration import format_duration
from lora_packer.errors import JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.together.model import Job
from lora_packer.together.refusal import advice, is_transient

_FIRST_INTERVAL, _LONGEST_INTERVAL, _GROWTH = 1.0, 20.0, 1.5  # seconds, seconds, times


def wait_for(
    job_id: str,
    look: Callable[[], Job],
    *,
    timeout: timedelta,
    on_change: Callable[[Job], None],
    on_trouble: Callable[[ServiceError], None] | None,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Job:
    """Look at a job until it is complete, and return it; it is looked at once in any case.

    Args:
        job_id: the job's id, for the errors.
        look: returns the job as it is now; a transient ServiceError of its own is tolerated until the time is up.
        timeout: how long to wait.
        on_change: called with the first look, and whenever the status or the steps have changed; last with the end.
        on_trouble: called with each error that is tolerated.
        sleep, clock: the time, in seconds.

    Raises JobFailedError, WaitTimeoutError, and ServiceError where looking cannot succeed later.
    """
    deadline = clock() + timeout.total_seconds()
    interval = _FIRST_INTERVAL
    seen: Job | None = None
    trouble: ServiceError | None = None
    while True:
        try:
            job = look()
        except ServiceError as error:
            # An unreadable success in the middle of a wait is a gateway's hiccup; at its start it is a wrong address.
            if not (is_transient(error) or (seen and error.status == 200)):
                raise
            trouble = error
            if on_trouble is not None:
                on_trouble(error)
        else:
            trouble = None
            if seen is None or (job.status, job.updates) != (seen.status, seen.updates):
                on_change(job)
            seen = job
            if job.is_complete:
                return job
            if job.has_failed:
                raise _failed(job)
        left = deadline - clock()
        if left <= 0:
            raise _timed_out(job_id, timeout, seen, trouble)
        sleep(min(interval, left))
        interval = min(interval * _GROWTH, _LONGEST_INTERVAL)


def _failed(job: Job) -> JobFailedError:
    said = [update.message for update in job.updates if update.message and update.status.lower() == job.status.lower()]
    said = said or [update.message for update in job.updates if update.message][-1:]
    reason = "; ".join(dict.fromkeys(said)) or "the service gives no reason"
    hint = advice(reason) or "Correct what it names and submit again, or ask the service's support with this id."
    return JobFailedError(f"Job {job.id} ended as {job.status}: {reason.rstrip('.')}.", hint=hint)


def _timed_out(job_id: str, timeout: timedelta, seen: Job | None, trouble: ServiceError | None) -> WaitTimeoutError:
    state = f"was still {seen.status}" if seen else "could not be looked at"
    message = f"Job {job_id} {state} after {format_duration(timeout)}."
    if trouble is not None:
        message += f" The last look failed: {trouble.message}"
    hint = f"Go on with `lora-packer wait {job_id}`."
    if seen and trouble is None:
        hint += " A job that stands still most often means that its source can no longer be read."
    return WaitTimeoutError(message, hint=hint)
