"""Uploads through version 2: a model, an import of its files, and the validation of what was imported.

An import that succeeded is not an adapter that works: a job here is complete once the revision that it made has
passed the service's validation (docs.together.ai/docs/dedicated-endpoints/adapter).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lora_packer.errors import InputError, ServiceError
from lora_packer.redact import Secret, escape
from lora_packer.together import refusal
from lora_packer.together.answers import fields, listed, text
from lora_packer.together.client import Client
from lora_packer.together.model import SUBMITTED, HubRepo, Job, StatusUpdate, Submission, is_job_id
from lora_packer.together.polling import wait_for
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import base_model_id, own_model, paged, project_path

_AGAIN = " --api v2"
_UPLOADS = ("models", "uploads")

# together 3.1.1, types/models/remote_upload_retrieve_response.py. What ERROR means beside FAILED is documented nowhere;
# an import counts its restarts, so it is taken for one that may go on.
_STATES = {"PENDING": "Queued", "RUNNING": "Running", "ERROR": "Error", "FAILED": "Failed"}
_VALIDATING = "Validating"


def submit(client: Client, submission: Submission) -> Job:
    """Create the model and import its files, once; return the import's job as ``Submitted``.

    A model of this name whose import was never made, or failed, is taken again. Raises ServiceError where the service
    refuses or its answer is not to be had, InputError where the source has a revision.
    """
    url, secrets = _source(submission)
    model = _model(client, submission, secrets)
    body = {"modelId": model["id"], "remoteUrl": url.reveal()}
    if submission.hf_token:
        body["token"] = submission.hf_token.reveal()
    purpose = Purpose(
        action=f"submit the adapter '{submission.model_name}'",
        hints={
            403: "Check that the key in TOGETHER_API_KEY may upload models, that the presigned URL is alive, or for a "
            "Hub repo that HF_TOKEN may read it.",
            409: refusal.NEW_NAME,
        },
        in_doubt="The import may be under way: the request was not repeated. Look for "
        f"'{submission.model_name}' in the service's dashboard before you submit again.",
        secrets=secrets,
    )
    answer = fields(client.request("POST", project_path(client, *_UPLOADS), body, retry=False, purpose=purpose))
    job_id = answer.get("id")
    if not isinstance(job_id, str) or not is_job_id(job_id):
        raise refusal.unreadable(purpose, 200, "names no job")
    return Job(
        id=job_id,
        status=SUBMITTED,
        model_name=text(model.get("name"), client.token, *secrets) or submission.model_name,
        model_id=text(model["id"], client.token),
    )


def job(client: Client, job_id: str) -> Job:
    """Return the job as the service sees it now. Raises ServiceError, and InputError where the id cannot be one."""
    return _look(client, job_id, retry=True)


def find(client: Client, model_name: str) -> Job | None:
    """Return the newest job for a model of this name, unless it failed; None without one. Raises ServiceError."""
    model = own_model(client, model_name)
    found = None if model is None else _newest(client, model)
    return None if found is None or found.has_failed else found


def hosts(client: Client, base_model: str) -> bool:
    """Whether the base model is among the supported models. Raises ServiceError."""
    try:
        return bool(base_model_id(client, base_model))
    except ServiceError as error:
        if error.status == 200:
            return False
        raise


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
    """Return the job once its revision is validated; see ``polling.wait_for`` for the arguments and the errors."""
    return wait_for(
        job_id,
        lambda: _look(client, job_id, retry=False),  # the wait itself is the retry
        timeout=timeout,
        on_change=on_change,
        on_trouble=on_trouble,
        on_stale=on_stale,
        sleep=sleep,
        clock=clock,
        again=_AGAIN,
    )


def _source(submission: Submission) -> tuple[Secret, tuple[Secret, ...]]:
    """Return the address to import from, and the secrets that the request holds."""
    source = submission.source
    if isinstance(source, HubRepo):
        if source.revision not in (None, "main"):
            raise InputError(
                f"The service takes no revision: it would import the default branch of {source.id}, not "
                f"'{source.revision}'.",
                hint="Leave the revision out, or publish that revision's files through S3.",
            )
        return Secret(source.url), (submission.hf_token,) if submission.hf_token else ()
    # Besides the URL itself each value of its query: an error of S3's repeats them one by one.
    values = (value for _, value in parse_qsl(urlsplit(source.reveal()).query))
    return source, (source, *(Secret(value) for value in values if len(value) >= 20))


def _model(client: Client, submission: Submission, secrets: tuple[Secret, ...]) -> dict[str, Any]:
    """The model to import into: a new one, or the one that an earlier try left behind. Raises ServiceError."""
    purpose = Purpose(
        action=f"create the model '{submission.model_name}'",
        hints={409: refusal.NEW_NAME},
        in_doubt="Nothing was imported yet. Run the same command again: it takes the model, if it was created.",
        secrets=secrets,
    )
    base = base_model_id(client, submission.base_model)
    left = own_model(client, submission.model_name)
    if left is not None:
        earlier = _newest(client, left)
        if (earlier is not None and not earlier.has_failed) or left.get("baseModelId") != base:
            raise refusal.error(purpose, "model name already exists", None, refusal.NEW_NAME, 409)
        return left
    body = {"baseModelId": base, "name": submission.model_name, "type": "adapter"}
    if submission.description:
        body["description"] = submission.description
    model = fields(client.request("POST", project_path(client, "models"), body, retry=False, purpose=purpose))
    if not isinstance(model.get("id"), str) or not model["id"]:
        raise refusal.unreadable(purpose, 200, "names no model")
    return model


def _newest(client: Client, model: dict[str, Any]) -> Job | None:
    """The newest import into a model, or None."""
    uploads = paged(client, project_path(client, *_UPLOADS), Purpose("list the imports"))
    mine = [one for one in uploads if one.get("modelId") == model.get("id") and is_job_id(str(one.get("id")))]
    newest = max(mine, key=lambda one: str(one.get("createdAt") or ""), default=None)
    return None if newest is None else _look(client, newest["id"], retry=True)


def _look(client: Client, job_id: str, *, retry: bool) -> Job:
    if not is_job_id(job_id):
        raise InputError(f"'{escape(job_id, 60)}' is not a job id.", hint="Give the id that `submit` printed.")
    purpose = Purpose(
        action=f"look at job {job_id}",
        hints={404: "Check the id: the service knows no such job in this project. Jobs of the v1 API are not known."},
    )
    answer = fields(client.request("GET", project_path(client, *_UPLOADS, job_id), retry=retry, purpose=purpose))
    raw = text(answer.get("status"), client.token)
    if raw is None:
        raise refusal.unreadable(purpose, 200, "names no status")
    state = raw.removeprefix("REMOTE_UPLOAD_STATUS_")
    model_id = text(answer.get("modelId"), client.token)
    message = text(answer.get("statusMessage"), client.token, limit=400)
    stamp = text(answer.get("updatedAt"), client.token) or ""
    status = _STATES.get(state, state)
    updates: tuple[StatusUpdate, ...] = (StatusUpdate(status, message, stamp),) if message else ()
    if state == "SUCCEEDED" and model_id is not None:
        status, found = _validation(client, model_id, retry=retry)
        updates += found
    return Job(id=job_id, status=status, model_id=model_id, updates=updates, raw_status=raw)


def _validation(client: Client, model_id: str, *, retry: bool) -> tuple[str, tuple[StatusUpdate, ...]]:
    """The state of the newest revision's validation, and what it found."""
    purpose = Purpose(action=f"look at the revisions of {model_id}")
    answer = client.request("GET", project_path(client, "models", model_id, "revisions"), retry=retry, purpose=purpose)
    newest = max(listed(answer, purpose), key=lambda one: str(one.get("createdAt") or ""), default=None)
    if newest is None:
        return _VALIDATING, ()
    said = text(newest.get("validationStatus"), client.token) or ""
    ended = {"SUCCESS": "Complete", "FAILED": "Failed", "ERROR": "Failed"}
    status = ended.get(said.removeprefix("REVISION_VALIDATION_STATUS_"), _VALIDATING)
    errors = newest.get("validationErrors")
    stamp = text(newest.get("lastValidatedAt"), client.token) or ""
    found = [_finding(fields(one), client, status, stamp) for one in errors[:50]] if isinstance(errors, list) else []
    if status == "Failed" and not found:
        found = [StatusUpdate(status, f"the validation of the revision ended as {said}", stamp)]
    return status, tuple(found)


def _finding(error: dict[str, Any], client: Client, status: str, stamp: str) -> StatusUpdate:
    """One of the validation's errors: its rule, then its message."""
    rule = text(error.get("rule"), client.token)
    message = text(error.get("message"), client.token, limit=400) or "no message"
    return StatusUpdate(status, f"{rule}: {message}" if rule else message, stamp)
