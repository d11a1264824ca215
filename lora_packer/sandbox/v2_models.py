"""Version 2's models at the sandbox: created, filled by an import or part by part, and validated.

Bodies are those of the vendor's SDK, together 3.1.1 (``types/``).
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from lora_packer.sandbox import catalogue
from lora_packer.sandbox.answers import Refused, Request, not_found, objects, page, require_bare_name
from lora_packer.sandbox.direct import Revision
from lora_packer.sandbox.endpoints import stamp
from lora_packer.sandbox.jobs import HUB_PAGES, JobRecord, NameTaken
from lora_packer.sandbox.state import PROJECT, State
from lora_packer.sandbox.weights import ids_of

_UPLOAD_STATES = {"Queued": "PENDING", "Running": "RUNNING", "Processing": "RUNNING", "Complete": "SUCCEEDED"}
_TYPES = ("adapter", "adapters")


def create(state: State, request: Request) -> tuple[int, Any]:
    """Create a model without files. Raises Refused."""
    if state.faults.refuse_submit is not None:
        raise Refused(state.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    body = request.json("name", "baseModelId", "type", "description")
    request.require(body, "name")
    if not body.get("baseModelId"):
        raise Refused(400, "base_model_id is required", param="baseModelId")
    require_bare_name(body)
    if body.get("type", "model") not in _TYPES:
        raise Refused(400, "this sandbox takes adapters only: type must be adapter", param="type")
    if body["baseModelId"] not in ids_of(state.base_models):
        raise Refused(400, "base model not found: give its ml_ id", param="baseModelId")
    name = f"{state.account}/{body['name']}"
    if any(model["name"] == name for model in state.models.values()):
        raise Refused(409, "Model name already exists", param="name")
    model = {
        "id": f"ml_{uuid.uuid4().hex[:20]}",
        "name": name,
        "organizationId": "org-sandbox",
        "projectId": PROJECT,
        "visibility": "VISIBILITY_PRIVATE",
        "weights": {"type": "WEIGHTS_TYPE_ADAPTER"},
        "baseModelId": body["baseModelId"],
        "baseModel": catalogue.model_path(body["baseModelId"]),
    }
    state.models[model["id"]] = model | ({"description": body["description"]} if body.get("description") else {})
    return 200, state.models[model["id"]]


def start_import(state: State, request: Request) -> tuple[int, Any]:
    """Start an import into a model; None as the answer is a connection closed without one. Raises Refused."""
    body = request.json("modelId", "remoteUrl", "token")
    request.require(body, "modelId", "remoteUrl")
    model = found(state, body["modelId"])
    url = body["remoteUrl"]
    if not url.startswith(("https://", "http://")):
        raise Refused(400, "remoteUrl is not a URL", param="remoteUrl")
    try:
        job = state.imports.create(
            model_name=model["name"].rpartition("/")[2],
            model_source=url,
            kind="huggingface" if url.startswith(HUB_PAGES) else "remote_archive",
            base_model=model["baseModelId"],
            description=None,
            model_id=model["id"],
            hf_token=body.get("token"),
        )
    except NameTaken:
        raise Refused(400, "upload already in progress") from None
    return 200, None if state.faults.lose_answer else described_upload(job, url)


def described_upload(job: JobRecord, url: str | None = None) -> dict[str, Any]:
    """Return a remote upload; the service shows the URL it was given, with its query, to the one who gave it."""
    state = "SUCCEEDED" if job.refused else _UPLOAD_STATES.get(job.status, "FAILED")
    return {
        "id": job.id,
        "createdAt": stamp(job.created_at),
        "updatedAt": stamp(job.updated_at),
        "modelId": job.model_id,
        "projectId": PROJECT,
        "remoteUrl": url or job.source,
        "status": f"REMOTE_UPLOAD_STATUS_{state}",
        "statusMessage": "" if job.refused else job.updates[-1]["message"],
    }


def send(state: State, request: Request, step: str) -> dict[str, Any]:
    """Answer one step of a direct upload: its parts' addresses, then the revision of what was sent. Raises Refused."""
    if state.faults.refuse_submit is not None:
        raise Refused(state.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    body = request.json("objectId")
    request.require(body, "objectId", "files")
    model_id = found(state, body["objectId"])["id"]
    files = objects(body, "files")
    if step == "create":
        return state.direct.create(model_id, files, state.base_url.removesuffix("/v1"))
    return {"revisionId": state.direct.complete(model_id, files)}


def revisions(state: State, model_id: str) -> list[Revision]:
    """Return a model's revisions, oldest first: those of imports that fetched something, and those that were sent."""
    imports = [job for job in state.imports.records() if job.model_id == model_id]
    fetched = [
        Revision(
            f"rev_{job.id.removeprefix('job_')[:13]}",
            job.updated_at,
            job.updates[-1]["message"] if job.refused else None,
            job.files,
        )
        for job in imports
        if job.status == "Complete" or job.refused
    ]
    return sorted([*fetched, *state.direct.revisions(model_id)], key=lambda one: one.created_at)


def described_revision(state: State, revision: Revision) -> dict[str, Any]:
    """Return a revision as the API tells it: its validation begins once its files are there, and takes a while."""
    said = revision.refused
    ends = revision.created_at + timedelta(seconds=state.delay)
    if datetime.now(UTC) < ends:
        status, said = "PENDING", None
    elif state.faults.validation_breaks:
        status, said = "ERROR", None
    else:
        status = "FAILED" if said else "SUCCESS"
    told = {
        "revisionId": revision.id,
        "createdAt": stamp(revision.created_at),
        "validationStatus": f"REVISION_VALIDATION_STATUS_{status}",
        "validationErrors": [{"rule": "adapter_files", "severity": "ERROR", "message": said}] if said else [],
    }
    return told if status == "PENDING" else {**told, "lastValidatedAt": stamp(ends)}


def files_of(state: State, request: Request, model_id: str) -> dict[str, Any]:
    """Return the files of a revision, the newest by default: ``ModelListFilesResponse`` of together 3.1.1. Raises
    Refused."""
    found(state, model_id)
    wanted = request.query.get("revisionId")
    made = [one for one in revisions(state, model_id) if wanted in (None, one.id)]
    if not made:
        raise not_found("revision")
    files = [
        {"path": name, "sizeBytes": str(size), "hash": uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {size}").hex}
        for name, size in made[-1].files.items()
    ]
    return page(request, files) | {
        "revisionId": made[-1].id,
        "revisionCreatedAt": stamp(made[-1].created_at),
        "totalSizeBytes": str(sum(made[-1].files.values())),
    }


def described_event(number: int, update: dict[str, str]) -> dict[str, Any]:
    """Return one step of an import as the API tells it."""
    return {
        "id": f"evt_{number}",
        "createdAt": update["timestamp"],
        "level": "LEVEL_ERROR" if update["status"] == "Failed" else "LEVEL_INFO",
        "message": update["message"],
        "type": f"upload.{update['status'].lower()}",
    }


def import_job(state: State, upload_id: str) -> JobRecord:
    """Return an import. Raises Refused."""
    job = next((one for one in state.imports.records() if one.id == upload_id), None)
    if job is None:
        raise not_found("upload")
    return job


def found(state: State, model_id: str) -> dict[str, Any]:
    """Return a model. Raises Refused."""
    if model_id not in state.models:
        raise not_found("model")
    return state.models[model_id]


def delete(state: State, model_id: str) -> None:
    """Remove a model that no deployment serves. Raises Refused."""
    found(state, model_id)
    if state.deployments.uses(model_id):
        raise Refused(400, "the model is referenced by a live deployment")
    del state.models[model_id]
    state.imports.forget(model_id)
