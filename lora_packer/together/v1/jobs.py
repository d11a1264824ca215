"""Uploads through version 1 of the service's API: ``POST /models`` and ``GET /jobs/{id}``.

Requests and answers are those of docs.together.ai/docs/dedicated-endpoints/v1/adapter and of openapi.yaml in
github.com/togethercomputer/openapi; where the two differ (``model_id``, ``args`` and the times are missing from the
page's examples) nothing is expected that one of them leaves out.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from lora_packer.errors import InputError
from lora_packer.redact import escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import fields, listed, objects, text
from lora_packer.together.client import Client
from lora_packer.together.next_steps import V1_GONE
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import (
    SUBMITTED,
    Job,
    Sent,
    StatusUpdate,
    Submission,
    canonical_status,
    is_job_id,
    told_source,
)
from lora_packer.together.uploads import submitting

_MAX_UPDATES = 200  # of a job, the last ones


def submit(client: Client, submission: Submission) -> Job:
    """Create the upload job and return it as ``Submitted``.

    The request goes out once: a name can be used once only, and a second request would meet its own first. Raises
    ServiceError where the service refuses or its answer is not to be had, InputError where v1 cannot express it.
    """
    body = {
        "model_name": submission.model_name,
        "model_source": submission.address(),
        "model_type": "adapter",
        "base_model": submission.base_model,
    }
    if submission.hf_token:
        body["hf_token"] = submission.hf_token.reveal()
    if submission.description:
        body["description"] = submission.description
    gone = dict.fromkeys((404, 410), V1_GONE)
    purpose = submitting(submission, "the My models page of the service's dashboard or at GET /v1/jobs", gone)
    answer = fields(client.request("POST", "/models", body, retry=False, purpose=purpose))
    data = fields(answer.get("data"))
    job_id = data.get("job_id")
    if not is_job_id(job_id):
        raise refusal.without(purpose, answer, "names no job")
    return Job(
        id=job_id,
        status=SUBMITTED,
        model_name=text(data.get("model_name"), *submission.secrets),
        model_id=text(data.get("model_id"), *submission.secrets),
    )


def job(client: Client, job_id: str, *, retry: bool = True) -> Job:
    """Return the job as the service sees it now. Raises ServiceError, and InputError where the id cannot be one."""
    if not is_job_id(job_id):
        raise InputError(
            f"'{escape(job_id, 60)}' is not a job id.", hint="Give the id that `lora-packer submit` printed: job-..."
        )
    purpose = Purpose(
        action=f"look at job {job_id}",
        hints={404: "Check the id: the service knows no such job under this key."},
    )
    answer = client.request("GET", f"/jobs/{quote(job_id, safe='')}", retry=retry, purpose=purpose)
    found = _job_from(fields(answer), job_id)
    if found is None:
        raise refusal.without(purpose, answer, "names no status")
    return found


def find(client: Client, model_name: str, sent: Sent | None = None) -> Job | None:
    """Return the newest job for a model of this name that did not fail; None where there is none. Raises ServiceError.

    This is how a submission whose answer was lost is found again, by ``sent``: the service lists jobs with the name
    and the source in ``args``.
    """
    purpose = Purpose(action="list the upload jobs")
    answer = client.request("GET", "/jobs", retry=True, purpose=purpose)
    mine = [item for item in _listed(answer, purpose) if _name_in(item).rpartition("/")[2] == model_name]
    for item in sorted(mine, key=lambda item: str(item.get("created_at") or ""), reverse=True):
        if sent is not None and not sent.may_be(fields(item.get("args")).get("modelSource"), item.get("created_at")):
            continue
        job_id = item.get("job_id")
        seen = _job_from(item, job_id) if is_job_id(job_id) else None
        if seen is not None and not seen.has_failed:
            return seen
    return None


def hosts(client: Client, base_model: str) -> bool:
    """Whether ``GET /models?dedicated=true`` lists the base model. Raises ServiceError."""
    purpose = Purpose(action="list the models on dedicated endpoints")
    answer = client.request("GET", "/models?dedicated=true", retry=True, purpose=purpose)
    return any(item.get("id") == base_model for item in listed(answer, purpose))


def based_on(client: Client, job: Job, base_model: str) -> None:  # noqa: ARG001 - version 2 knows it
    """Whether a job's model is one of this base model: version 1 does not tell."""
    return


def named(client: Client, job: Job) -> str | None:  # noqa: ARG001 - version 2 asks for it
    """What the model of a job is called, without the account's name; None where the service does not tell."""
    return job.model_name.rpartition("/")[2] if job.model_name else None


def _listed(answer: Any, purpose: Purpose) -> list[dict[str, Any]]:
    """The jobs of a list, or of a mapping by their ids, as one of the service's other clients reads it
    (github.com/oumi-ai/oumi, src/oumi/deploy/together_client.py). Raises ServiceError."""
    data = fields(answer).get("data")
    if isinstance(data, dict):
        return [{"job_id": job_id, **fields(item)} for job_id, item in data.items()]
    return listed(answer, purpose)


def _name_in(item: dict[str, Any]) -> str:
    named = fields(item.get("args")).get("modelName") or item.get("modelName")
    return named if isinstance(named, str) else ""


def _job_from(item: dict[str, Any], job_id: str) -> Job | None:
    """Return the job that an answer describes; None where it names no status."""
    status = item.get("status")
    if not isinstance(status, str) or not status.strip():
        return None
    status = scrub(status)
    return Job(
        id=job_id,
        status=canonical_status(status),
        model_name=text(_name_in(item)),
        updates=tuple(
            StatusUpdate(
                status=text(update.get("status")) or "",
                message=text(update.get("message"), limit=400) or "",
                timestamp=text(update.get("timestamp")) or "",
            )
            for update in objects(item.get("status_updates"))[-_MAX_UPDATES:]
        ),
        raw_status=escape(status, 60),
        source=told_source(fields(item.get("args")).get("modelSource")),
    )
