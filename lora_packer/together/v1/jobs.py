"""Uploads through version 1 of the service's API: ``POST /models`` and ``GET /jobs/{id}``.

Requests and answers are those of docs.together.ai/docs/dedicated-endpoints/v1/adapter and of openapi.yaml in
github.com/togethercomputer/openapi; where the two differ (``model_id``, ``args`` and the times are missing from the
page's examples) nothing is expected that one of them leaves out.
"""

from __future__ import annotations

from urllib.parse import quote

from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.together.client import Client
from lora_packer.together.next_steps import V1_GONE
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import (
    SUBMITTED,
    Job,
    Sent,
    Submission,
    is_job_id,
)
from lora_packer.together.uploads import submitting
from lora_packer.together.v1.told import ids_in, job_in, jobs_in, submitted_in


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
    answer = client.request("POST", "/models", body, retry=False, purpose=purpose)
    return submitted_in(answer, purpose, SUBMITTED)


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
    return job_in(answer, job_id, purpose)


def find(client: Client, model_name: str, sent: Sent | None = None) -> Job | None:
    """Return the newest job for a model of this name that did not fail; None where there is none. Raises ServiceError.

    This is how a submission whose answer was lost is found again, by ``sent``: the service lists jobs with the name
    and the source in ``args``.
    """
    purpose = Purpose(action="list the upload jobs")
    answer = client.request("GET", "/jobs", retry=True, purpose=purpose)
    for one in jobs_in(answer, purpose):
        if one.name.rpartition("/")[2] != model_name:
            continue
        if sent is not None and not sent.may_be(one.address, one.created_at):
            continue
        if one.job is not None and not one.job.has_failed:
            return one.job
    return None


def hosts(client: Client, base_model: str) -> bool:
    """Whether ``GET /models?dedicated=true`` lists the base model. Raises ServiceError."""
    purpose = Purpose(action="list the models on dedicated endpoints")
    answer = client.request("GET", "/models?dedicated=true", retry=True, purpose=purpose)
    return base_model in ids_in(answer, purpose)


def based_on(client: Client, job: Job, base_model: str) -> None:  # noqa: ARG001 - version 2 knows it
    """Whether a job's model is one of this base model: version 1 does not tell."""
    return


def named(client: Client, job: Job) -> str | None:  # noqa: ARG001 - version 2 asks for it
    """What the model of a job is called, without the account's name; None where the service does not tell."""
    return job.model_name.rpartition("/")[2] if job.model_name else None
