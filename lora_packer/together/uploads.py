"""An upload from its submission to its end, whichever the version of the API: the words for it, and the wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from lora_packer.duration import format_duration
from lora_packer.errors import JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.together import refusal
from lora_packer.together.client import Client
from lora_packer.together.polling import poll
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import Job, Submission

if TYPE_CHECKING:
    from lora_packer.together import Api

STALE_AFTER = timedelta(minutes=10)
"""How long a job may stand still before that is told; not the service's number, which names none."""

_ASK = "Correct what it names and submit again, or ask the service's support with this id."


def submitting(submission: Submission, look: str, hints: Mapping[int, str] | None = None) -> Purpose:
    """Return the purpose of the request that creates the job; ``look`` is where the job is found, if there is one, and
    ``hints`` are more next steps by HTTP status."""
    return Purpose(
        action=f"submit the adapter '{submission.model_name}'",
        hints={
            403: "Check that the key in TOGETHER_API_KEY may upload models, that the presigned URL is alive, or for a "
            "Hub repo that HF_TOKEN may read it.",
            409: refusal.NEW_NAME,
            **(hints or {}),
        },
        in_doubt=f"The job may exist: the request was not repeated. Look for '{submission.model_name}' on {look} "
        "before you submit again.",
        secrets=submission.secrets,
    )


def wait_for_job(
    api: Api,
    client: Client,
    job_id: str,
    *,
    timeout: timedelta,
    on_change: Callable[[Job], None],
    on_trouble: Callable[[ServiceError], None] | None = None,
    on_stale: Callable[[Job, timedelta], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """Look at a job until it is complete, and return it; see ``polling.poll`` for the arguments.

    Raises JobFailedError, WaitTimeoutError, and ServiceError where looking cannot succeed later.
    """
    ended = poll(
        lambda: api.job(client, job_id, retry=False),  # the wait itself is the retry
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
    raise _timed_out(job_id, timeout, job, trouble, api.OPTION)


def _failed(job: Job) -> JobFailedError:
    said = [update.message for update in job.updates if update.message and update.status.lower() == job.status.lower()]
    said = said or [update.message for update in job.updates if update.message][-1:]
    reason = "; ".join(dict.fromkeys(said)) or "the service gives no reason"
    hint = (
        refusal.advice(reason) or "Correct what it names and submit again, or ask the service's support with this id."
    )
    return JobFailedError(f"Job {job.id} ended as {job.status}: {reason.rstrip('.')}.", hint=hint)


def _timed_out(
    job_id: str, timeout: timedelta, seen: Job | None, trouble: ServiceError | None, option: str
) -> WaitTimeoutError:
    state = f"was still {seen.status}" if seen else "could not be looked at"
    message = f"Job {job_id} {state} after {format_duration(timeout)}."
    if trouble is not None:
        message += f" The last look failed: {trouble.message}"
    hint = f"Go on with `lora-packer wait {job_id}{option}`."
    if seen and trouble is None:
        hint += " A job that stands still most often means that its source can no longer be read."
    return WaitTimeoutError(message, hint=hint)
