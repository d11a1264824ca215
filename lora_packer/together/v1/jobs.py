"""Uploads through version 1 of the service's API: ``POST /models`` and ``GET /jobs/{id}``.

Requests and answers are those of docs.together.ai/docs/dedicated-endpoints/v1/adapter and of openapi.yaml in
github.com/togethercomputer/openapi; where the two differ (``model_id``, ``args`` and the times are missing from the
page's examples) nothing is expected that one of them leaves out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from lora_packer.errors import InputError, ServiceError
from lora_packer.redact import Secret, escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import listed, text
from lora_packer.together.client import Client
from lora_packer.together.model import (
    SUBMITTED,
    HubRepo,
    Job,
    StatusUpdate,
    Submission,
    canonical_status,
    is_job_id,
)
from lora_packer.together.polling import wait_for
from lora_packer.together.refusal import Purpose

_MAX_UPDATES = 200  # of a job, the last ones
_MODELS_PAGE = "the My models page of the service's dashboard or at GET /v1/jobs"


def submit(client: Client, submission: Submission) -> Job:
    """Create the upload job and return it as ``Submitted``.

    The request goes out once: a name can be used once only, and a second request would meet its own first. Raises
    ServiceError where the service refuses or its answer is not to be had, InputError where v1 cannot express it.
    """
    body, secrets = _body(submission)
    purpose = Purpose(
        action=f"submit the adapter '{submission.model_name}'",
        hints={
            403: "Check that the key in TOGETHER_API_KEY may upload models, that the presigned URL is alive, or for a "
            "Hub repo that HF_TOKEN may read it.",
            409: refusal.NEW_NAME,
        },
        in_doubt=f"The job may exist: the request was not repeated. Look for '{submission.model_name}' on "
        f"{_MODELS_PAGE} before you submit again.",
        secrets=secrets,
    )
    answer = client.request("POST", "/models", body, retry=False, purpose=purpose)
    data = answer.get("data") if isinstance(answer, dict) else None
    job_id = data.get("job_id") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(job_id, str) or not is_job_id(job_id):
        raise _without_job(answer, purpose)
    return Job(
        id=job_id,
        status=SUBMITTED,
        model_name=text(data.get("model_name"), client.token, *secrets),
        model_id=text(data.get("model_id"), client.token, *secrets),
    )


def job(client: Client, job_id: str) -> Job:
    """Return the job as the service sees it now. Raises ServiceError, and InputError where the id cannot be one."""
    return _look(client, job_id, retry=True)


def find(client: Client, model_name: str) -> Job | None:
    """Return the newest job for a model of this name that did not fail; None where there is none. Raises ServiceError.

    This is how a submission whose answer was lost is found again: the service lists jobs with the name in ``args``.
    """
    purpose = Purpose(action="list the upload jobs")
    answer = client.request("GET", "/jobs", retry=True, purpose=purpose)
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise refusal.unreadable(purpose, 200, "lists no jobs")
    found = [(str(item.get("created_at") or ""), item) for item in listed if _is_of(item, model_name)]
    for _, item in sorted(found, key=lambda pair: pair[0], reverse=True):
        seen = _job_from(item, item["job_id"], client.token)
        if seen is not None and not seen.has_failed:
            return seen
    return None


def hosts(client: Client, base_model: str) -> bool:
    """Whether ``GET /models?dedicated=true`` lists the base model. Raises ServiceError."""
    purpose = Purpose(action="list the models on dedicated endpoints")
    answer = client.request("GET", "/models?dedicated=true", retry=True, purpose=purpose)
    return any(item.get("id") == base_model for item in listed(answer, purpose))


def _is_of(item: Any, model_name: str) -> bool:
    arguments = item.get("args") if isinstance(item, dict) else None
    named = arguments.get("modelName") if isinstance(arguments, dict) else None
    job_id = item.get("job_id") if isinstance(item, dict) else None
    return (
        isinstance(named, str)
        and named.rpartition("/")[2] == model_name
        and isinstance(job_id, str)
        and is_job_id(job_id)
    )


def wait(
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
    """Return the job once it is complete; see ``polling.wait_for`` for the arguments and the errors."""
    return wait_for(
        job_id,
        lambda: _look(client, job_id, retry=False),  # the wait itself is the retry
        timeout=timeout,
        on_change=on_change,
        on_trouble=on_trouble,
        on_stale=on_stale,
        sleep=sleep,
        clock=clock,
    )


def _body(submission: Submission) -> tuple[dict[str, str], tuple[Secret, ...]]:
    """Return the request's body, and the secrets in it."""
    source = submission.source
    body = {"model_name": submission.model_name, "model_type": "adapter", "base_model": submission.base_model}
    secrets: tuple[Secret, ...]
    if isinstance(source, HubRepo):
        if source.revision not in (None, "main"):
            raise InputError(
                f"The v1 API takes no revision: it would upload the default branch of {source.id}, not "
                f"'{source.revision}'.",
                hint="Leave the revision out, or publish that revision's files through S3.",
            )
        body["model_source"] = source.url
        secrets = (submission.hf_token,) if submission.hf_token else ()
        if submission.hf_token:
            body["hf_token"] = submission.hf_token.reveal()
    else:
        body["model_source"] = source.reveal()
        # Besides the URL itself each value of its query: an error of S3's repeats them one by one.
        values = (value for _, value in parse_qsl(urlsplit(source.reveal()).query))
        secrets = (source, *(Secret(value) for value in values if len(value) >= 20))
    if submission.description:
        body["description"] = submission.description
    return body, secrets


def _without_job(answer: Any, purpose: Purpose) -> ServiceError:
    """The service answers some refusals with 200, a message and no data (a comment in together 2.42.0,
    lib/cli/api/models/upload.py)."""
    said = refusal.said_in(answer)
    if said is None:
        return refusal.unreadable(purpose, 200, "names no job")
    hint = refusal.advice(said) or "Correct what it names, then submit again."
    return refusal.error(purpose, "the service refused it", said, hint, 200)


def _look(client: Client, job_id: str, *, retry: bool) -> Job:
    if not is_job_id(job_id):
        raise InputError(
            f"'{escape(job_id, 60)}' is not a job id.", hint="Give the id that `lora-packer submit` printed: job-..."
        )
    purpose = Purpose(
        action=f"look at job {job_id}",
        hints={404: "Check the id: the service knows no such job under this key."},
    )
    answer = client.request("GET", f"/jobs/{quote(job_id, safe='')}", retry=retry, purpose=purpose)
    found = _job_from(answer, job_id, client.token)
    if found is None:
        raise refusal.unreadable(purpose, 200, "names no status")
    return found


def _job_from(answer: Any, job_id: str, token: Secret) -> Job | None:
    """Return the job that an answer describes; None where it names no status."""
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(status, str) or not status.strip():
        return None
    status = scrub(status, token)
    arguments = answer.get("args")
    return Job(
        id=job_id,
        status=canonical_status(status),
        model_name=text(arguments.get("modelName"), token) if isinstance(arguments, dict) else None,
        updates=_updates(answer.get("status_updates"), token),
        raw_status=escape(status, 60),
    )


def _updates(value: Any, token: Secret) -> tuple[StatusUpdate, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        StatusUpdate(
            status=text(entry.get("status"), token) or "",
            message=text(entry.get("message"), token, limit=400) or "",
            timestamp=text(entry.get("timestamp"), token) or "",
        )
        for entry in value[-_MAX_UPDATES:]
        if isinstance(entry, dict)
    )
