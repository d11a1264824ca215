"""An upload from the questions before it to its end, whichever the version of the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol

from lora_packer.duration import format_duration
from lora_packer.errors import JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.redact import shell_word
from lora_packer.together.client import Client
from lora_packer.together.next_steps import NEW_NAME, next_step
from lora_packer.together.polling import poll
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import Job, Sent, Submission
from lora_packer.together.versions import option

STALE_AFTER = timedelta(minutes=10)
"""How long a job may stand still before that is told; not the service's number, which names none."""

_ASK = "Correct what it names and submit again, or ask the service's support with this id."


class UploadApi(Protocol):
    """What every version of the service's API can do about uploads; see ``Api``.

    Attributes:
        NAME: what ``--api`` calls this version.
    """

    NAME: str

    def submit(self, client: Client, submission: Submission) -> Job:
        """Create the upload job, once."""

    def job(self, client: Client, job_id: str, *, retry: bool = True) -> Job:
        """Return the job as the service sees it now."""

    def find(self, client: Client, model_name: str, sent: Sent | None = None) -> Job | None:
        """Return the newest job that did not fail for a model of this name, and may be what was sent; or None."""

    def based_on(self, client: Client, job: Job, base_model: str) -> bool | None:
        """Whether a job's model is one of this base model; None where the service does not tell."""

    def named(self, client: Client, job: Job) -> str | None:
        """What the model of a job is called, without the account's name; None where the service does not tell."""

    def hosts(self, client: Client, base_model: str) -> bool:
        """Whether the service says that it serves the base model on dedicated endpoints."""


def ask_ahead(
    api: UploadApi,
    client: Client,
    model_name: str,
    base_model: str,
    note: Callable[[str, str], None],
    *,
    skip_existing: bool = False,
) -> Job | None:
    """Ask the service what would make it refuse, before gigabytes are sent: the key, the base model, the name.

    ``note`` is told a step and a sentence. A question without an answer is told and no more: the submission itself
    decides. Where the name is taken by an upload that is complete, ``skip_existing`` returns its job, for whoever can
    tell what it fetched. Raises ServiceError where the key is refused or the name is taken.
    """
    try:
        hosted, earlier = api.hosts(client, base_model), api.find(client, model_name)
    except ServiceError as error:
        if error.status == 401:
            raise
        note("ask", f"{error.message} The submission will tell.")
        return None
    if earlier is not None:
        if skip_existing and earlier.is_complete:
            return earlier
        words = f"lora-packer wait {shell_word(earlier.id)}{option(api.NAME, earlier.id)}"
        raise ServiceError(
            f"The model name '{model_name}' already exists: job {earlier.id} is {earlier.status}. Nothing was sent.",
            hint=f"Wait for it with `{words}`, then run this again." if skip_existing else NEW_NAME,
            status=409,
        )
    if not hosted:
        note("warning", f"the service does not list {base_model} among the models of dedicated endpoints")
    return None


def submitting(submission: Submission, look: str, hints: Mapping[int, str] | None = None) -> Purpose:
    """Return the purpose of the request that creates the job; ``look`` is where the job is found, if there is one, and
    ``hints`` are more next steps by HTTP status."""
    return Purpose(
        action=f"submit the adapter '{submission.model_name}'",
        hints={
            403: "Check that the key in TOGETHER_API_KEY may upload models, that the presigned URL is alive, or for a "
            "Hub repo that HF_TOKEN may read it.",
            409: NEW_NAME,
            **(hints or {}),
        },
        in_doubt=f"The job may exist: the request was not repeated. Look for '{submission.model_name}' on {look} "
        "before you submit again.",
        secrets=submission.secrets,
    )


def wait_for_job(
    api: UploadApi,
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
    raise _timed_out(job_id, timeout, job, trouble, option(api.NAME, job_id))


def _told_of(job: Job) -> str:
    """What the service says about the state that the job is in."""
    said = [update.message for update in job.updates if update.message and update.status.lower() == job.status.lower()]
    return "; ".join(dict.fromkeys(said))


def _failed(job: Job) -> JobFailedError:
    last = [update.message for update in job.updates if update.message][-1:]
    reason = _told_of(job) or "".join(last) or "the service gives no reason"
    return JobFailedError(f"Job {job.id} ended as {job.status}: {reason.rstrip('.')}.", hint=next_step(reason) or _ASK)


def _timed_out(
    job_id: str, timeout: timedelta, seen: Job | None, trouble: ServiceError | None, words: str
) -> WaitTimeoutError:
    state = f"was still {seen.status}" if seen else "could not be looked at"
    message = f"Job {job_id} {state} after {format_duration(timeout)}."
    fault = _told_of(seen) if seen and seen.is_in_trouble else ""
    if fault:
        message = f"{message[:-1]}: {fault.rstrip('.')}. Where it stays so, ask the service's support with this id."
    if trouble is not None:
        message += f" The last look failed: {trouble.message}"
    if seen and trouble is None and not fault:
        message += " A job that stands still most often means that its source can no longer be read."
    hint = f"Go on with `lora-packer wait {shell_word(job_id)}{words}`."
    return WaitTimeoutError(message, hint=hint)
