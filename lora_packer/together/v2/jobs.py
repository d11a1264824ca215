"""Uploads through version 2: a model, an import of its files, and the validation of what was imported.

An import that succeeded is not an adapter that works: a job here is complete once the revision that it made has
passed the service's validation (docs.together.ai/docs/dedicated-endpoints/adapter).
"""

from __future__ import annotations

from dataclasses import replace

from lora_packer.errors import InputError, ServiceError
from lora_packer.redact import escape
from lora_packer.together import refusal
from lora_packer.together.answers import text
from lora_packer.together.client import Client
from lora_packer.together.next_steps import NEW_NAME
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import (
    SUBMITTED,
    Job,
    LocalFiles,
    Sent,
    StatusUpdate,
    Submission,
    is_job_id,
    told_source,
)
from lora_packer.together.uploads import submitting
from lora_packer.together.v2.direct import send_files
from lora_packer.together.v2.project import MODEL_PREFIX, own_model, paged, project_path
from lora_packer.together.v2.supported import base_model_id, supported_ids
from lora_packer.together.v2.told_endpoints import id_in
from lora_packer.together.v2.told_models import (
    ToldImport,
    ToldModel,
    ToldRevision,
    event_in,
    import_in,
    import_seen,
    model_in,
    revision_in,
)

_UPLOADS = ("models", "uploads")

# together 3.1.1, types/models/remote_upload_retrieve_response.py. What ERROR means beside FAILED is documented nowhere;
# an import counts its restarts, so it is taken for one that may go on.
_STATES = {"PENDING": "Queued", "RUNNING": "Running", "ERROR": "Error", "FAILED": "Failed"}
_VALIDATING = "Validating"
# Of a validation. ERROR is the service's own fault, and may be another state later
# (docs.together.ai/docs/dedicated-endpoints/adapter, "Check revision validation").
_ENDED = {"SUCCESS": "Complete", "FAILED": "Failed", "ERROR": "Error"}
_BROKE_OFF = "the service's validation could not complete due to an internal error of its own"
_MAX_EVENTS = 200  # of an import, the last ones


def submit(client: Client, submission: Submission) -> Job:
    """Create the model and import its files, once; return the import's job as ``Submitted``.

    A model of this name that has no files yet is taken again. Local files are sent at once; the job is then the
    validation of what was sent, and its id is the model's. Raises ServiceError where the service refuses or its answer
    is not to be had, InputError where the source has a revision.
    """
    if isinstance(submission.source, LocalFiles):
        model = _model(client, submission)
        send_files(client, model.id, submission.source)
        return _submitted(model.id, model, submission)
    address = submission.address()
    model = _model(client, submission)
    body = {"modelId": model.id, "remoteUrl": address}
    if submission.hf_token:
        body["token"] = submission.hf_token.reveal()
    purpose = submitting(submission, "the service's dashboard")
    answer = client.request("POST", project_path(client, *_UPLOADS), body, retry=False, purpose=purpose)
    job_id = id_in(answer)
    if job_id is None:
        raise refusal.without(purpose, answer, "names no job")
    return _submitted(job_id, model, submission)


def _submitted(job_id: str, model: ToldModel, submission: Submission) -> Job:
    return Job(
        id=job_id,
        status=SUBMITTED,
        model_name=text(model.name, *submission.secrets) or submission.model_name,
        model_id=model.id,
    )


def job(client: Client, job_id: str, *, retry: bool = True) -> Job:
    """Return the job as the service sees it now. Raises ServiceError, and InputError where the id cannot be one."""
    if not is_job_id(job_id):
        raise InputError(f"'{escape(job_id, 60)}' is not a job id.", hint="Give the id that `submit` printed.")
    if job_id.startswith(MODEL_PREFIX):
        status, updates = _validation(client, job_id, retry=retry)
        return Job(id=job_id, status=status, model_id=job_id, updates=updates, raw_status=status)
    purpose = Purpose(
        action=f"look at job {job_id}",
        hints={404: "Check the id: the service knows no such job in this project. Jobs of the v1 API are not known."},
    )
    answer = client.request("GET", project_path(client, *_UPLOADS, job_id), retry=retry, purpose=purpose)
    told = import_seen(answer, job_id)
    if told.status is None:
        raise refusal.without(purpose, answer, "names no status")
    state = told.status.removeprefix("REMOTE_UPLOAD_STATUS_")
    status = _STATES.get(state, state)
    updates = _events(client, job_id, retry=retry)
    if told.message and all(told.message != update.message for update in updates):
        updates += (StatusUpdate(status, told.message, told.updated_at),)
    if state == "SUCCEEDED" and told.model_id is not None:
        status, found = _validation(client, told.model_id, retry=retry)
        updates += found
    return Job(
        id=job_id,
        status=status,
        model_id=told.model_id,
        updates=updates,
        raw_status=told.status,
        source=told_source(told.address),
    )


def find(client: Client, model_name: str, sent: Sent | None = None) -> Job | None:
    """Return the newest job for a model of this name, unless it failed or cannot be what was ``sent``; None without.

    Raises ServiceError.
    """
    model = own_model(client, model_name)
    found = None if model is None else _newest(client, model, sent)
    if model is None or found is None or found.has_failed:
        return None
    found = replace(found, model_name=model.name)
    if found.source is None or not found.is_complete:
        return found
    good = [one for one in _revisions(client, model.id, retry=True) if one.validation == "SUCCESS"]
    # With several, what the model serves need not be what this job fetched.
    return found if len(good) == 1 else replace(found, source=None)


def hosts(client: Client, base_model: str) -> bool:
    """Whether the base model is among the supported models. Raises ServiceError."""
    return bool(supported_ids(client, base_model)[0])


def based_on(client: Client, job: Job, base_model: str) -> bool | None:
    """Whether a job's model is one of this base model; None where that is not told. Raises ServiceError."""
    model = _model_of(client, job)
    if model is None or model.base_id is None:
        return None
    return model.base_id in supported_ids(client, base_model)[0]


def named(client: Client, job: Job) -> str | None:
    """What the model of a job is called, without the project's name; None where it is not told. Raises ServiceError."""
    model = _model_of(client, job)
    return model.name.rpartition("/")[2] if model and model.name else None


def _model_of(client: Client, job: Job) -> ToldModel | None:
    """The model of a job; None where the job tells none."""
    if not is_job_id(job.model_id):
        return None
    purpose = Purpose(action=f"look at the model of job {job.id}")
    path = project_path(client, "models", job.model_id)
    return model_in(client.request("GET", path, retry=True, purpose=purpose), purpose)


def _model(client: Client, submission: Submission) -> ToldModel:
    """The model to put files into: a new one, or the one that an earlier try left behind. Raises ServiceError."""
    purpose = Purpose(
        action=f"create the model '{submission.model_name}'",
        hints={409: NEW_NAME},
        in_doubt="Nothing was sent yet. Run the same command again: it takes the model, if it was created.",
        secrets=submission.secrets,
    )
    base = base_model_id(client, submission.base_model)
    left = own_model(client, submission.model_name)
    if left is not None:
        earlier = _newest(client, left)
        if (earlier is not None and not earlier.has_failed) or left.base_id != base:
            raise refusal.error(purpose, "model name already exists", None, NEW_NAME, 409)
        return left
    body = {"baseModelId": base, "name": submission.model_name, "type": "adapter"}
    if submission.description:
        body["description"] = submission.description
    return model_in(client.request("POST", project_path(client, "models"), body, retry=False, purpose=purpose), purpose)


def _newest(client: Client, model: ToldModel, sent: Sent | None = None) -> Job | None:
    """The newest import into a model, or its direct upload; None where it has no files, or they cannot be those that
    were ``sent``."""
    uploads = paged(client, project_path(client, *_UPLOADS), Purpose("list the imports"), import_in)
    newest = max((one for one in uploads if one.model_id == model.id), key=_made_at, default=None)
    if newest is not None:
        ours = sent is None or sent.may_be(newest.address, newest.created_at)
        return job(client, newest.id) if ours else None
    revisions = _revisions(client, model.id, retry=True)
    ours = any(sent is None or sent.may_be(None, one.created_at) for one in revisions)
    return job(client, model.id) if ours else None


def _made_at(told: ToldImport | ToldRevision) -> str:
    return told.created_at


def _events(client: Client, job_id: str, *, retry: bool) -> tuple[StatusUpdate, ...]:
    """What the import did so far, oldest first; nothing where that cannot be read, for it decides nothing."""
    purpose = Purpose(action=f"read the events of job {job_id}")
    try:
        found = paged(client, project_path(client, *_UPLOADS, job_id, "events"), purpose, event_in, retry=retry)
    except ServiceError:
        return ()
    told = [one.update for one in found if one.level != "LEVEL_DEBUG"]
    return tuple(sorted(told, key=lambda update: update.timestamp)[-_MAX_EVENTS:])


def _revisions(client: Client, model_id: str, *, retry: bool) -> list[ToldRevision]:
    purpose = Purpose(
        action=f"look at the revisions of {model_id}",
        hints={404: "Check the id: the service knows no such model in this project."},
    )
    return paged(client, project_path(client, "models", model_id, "revisions"), purpose, revision_in, retry=retry)


def _validation(client: Client, model_id: str, *, retry: bool) -> tuple[str, tuple[StatusUpdate, ...]]:
    """The state of the newest revision's validation, and what it found."""
    newest = max(_revisions(client, model_id, retry=retry), key=_made_at, default=None)
    if newest is None:
        return _VALIDATING, ()
    status = _ENDED.get(newest.validation, _VALIDATING)
    stamp = newest.validated_at
    found = [StatusUpdate(status, one, stamp) for one in newest.errors]
    if status == "Error":
        found.append(StatusUpdate(status, _BROKE_OFF, stamp))
    if status == "Failed" and not found:
        found = [StatusUpdate(status, f"the validation of the revision ended as {newest.said}", stamp)]
    return status, tuple(found)
