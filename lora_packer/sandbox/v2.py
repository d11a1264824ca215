"""Version 2 of the sandbox's API.

No specification of it is published. Paths and bodies are those of the vendor's SDK, together 3.1.1 (``resources/`` and
``types/``), which reads these answers.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lora_packer.sandbox import catalogue
from lora_packer.sandbox.answers import Refused, Request, not_found
from lora_packer.sandbox.direct import Revision
from lora_packer.sandbox.endpoints import stamp
from lora_packer.sandbox.jobs import HUB_PAGES, JobRecord, NameTaken

if TYPE_CHECKING:
    from lora_packer.sandbox.service import Service

PROJECT = "proj-sandbox"
_UPLOAD_STATES = {"Queued": "PENDING", "Running": "RUNNING", "Processing": "RUNNING", "Complete": "SUCCEEDED"}
_TYPES = ("adapter", "adapters")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def route(service: Service, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one. Raises Refused."""
    match (request.method, request.path[1:]):
        case ("GET", ("supported-models",)):
            found = catalogue.supported_models(service.base_models, stamp(datetime.fromtimestamp(service.started, UTC)))
            wanted = request.query.get("search", "").lower()
            return 200, _page(request, [model for model in found if wanted in model["name"].lower()])
        case ("GET", ("public", "inference-instance-types")):
            return 200, _page(request, catalogue.instance_types(taken=service.faults.no_hardware))
        case ("GET", ("public", "inference-instance-types", name)):
            return 200, _only([one for one in catalogue.instance_types() if one["id"] == name], "instance type")
        case (_, ("projects", project, *rest)):
            if project != PROJECT:
                raise Refused(403, "this key has no access to that project", "forbidden_error")
            return _project(service, request, rest)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _project(service: Service, request: Request, rest: list[str]) -> tuple[int, Any]:
    match (request.method, rest):
        case ("POST", ["models"]):
            return _create_model(service, request)
        case ("GET", ["models"]):
            return 200, _page(request, list(service.models.values()))
        case ("POST", ["models", "upload", step]) if step in ("create", "complete"):
            return 200, _send(service, request, step)
        case ("POST", ["models", "uploads"]):
            return _import(service, request)
        case ("GET", ["models", "uploads"]):
            return 200, _page(request, [_upload(job) for job in service.imports.records()])
        case ("GET", ["models", "uploads", upload_id]):
            return 200, _upload(_job(service, upload_id))
        case ("GET", ["models", "uploads", upload_id, "events"]):
            events = [_event(number, one) for number, one in enumerate(_job(service, upload_id).updates)]
            return 200, _page(request, events)
        case ("GET", ["models", model_id]):
            return 200, _model(service, model_id)
        case ("GET", ["models", model_id, "revisions"]):
            _model(service, model_id)
            return 200, _page(request, [_revision(one) for one in _revisions(service, model_id)])
        case ("DELETE", ["models", model_id]):
            _delete_model(service, model_id)
            return 200, {}
        case ("GET", ["configs"]):
            wanted = request.query.get("referenceModelId") or request.query.get("referenceModel", "").rpartition("/")[2]
            configs = catalogue.configurations(service.base_models)
            return 200, _page(request, [one for one in configs if wanted in ("", one["referenceModelId"])])
        case ("GET", ["configs", config_id]):
            configs = catalogue.configurations(service.base_models)
            return 200, _only([one for one in configs if one["id"] == config_id], "config")
        case (_, ["endpoints", *below]):
            return _endpoints(service, request, below)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _endpoints(service: Service, request: Request, rest: list[str]) -> tuple[int, Any]:
    state = service.deployments
    match (request.method, rest):
        case ("POST", []):
            body = request.json("name", "visibility")
            request.require(body, "name")
            if not _NAME.fullmatch(body["name"]):
                raise Refused(400, "name must be a bare name", param="name")
            return 200, state.create(body["name"])
        case ("GET", []):
            return 200, _page(request, state.describe_all())
        case ("GET", [endpoint_id]):
            return 200, state.get(endpoint_id)
        case ("PATCH", [endpoint_id]):
            body = request.json("etag", "name")
            return 200, state.route(endpoint_id, _objects(body, "trafficSplit"), body.get("etag"))
        case ("DELETE", [endpoint_id]):
            state.delete(endpoint_id)
            return 200, {}
        case ("POST", [endpoint_id, "deployments"]):
            return 200, _deploy(service, request, endpoint_id)
        case ("GET", [endpoint_id, "deployments"]):
            below = [one["id"] for one in state.get(endpoint_id)["deployments"]]
            return 200, _page(request, [state.deployment(endpoint_id, one) for one in below])
        case ("GET", [endpoint_id, "deployments", deployment_id]):
            return 200, state.deployment(endpoint_id, deployment_id)
        case ("PATCH", [endpoint_id, "deployments", deployment_id]):
            return 200, state.scale(endpoint_id, deployment_id, _scaling(request.json()))
        case ("DELETE", [endpoint_id, "deployments", deployment_id]):
            state.undeploy(endpoint_id, deployment_id)
            return 200, {}
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _deploy(service: Service, request: Request, endpoint_id: str) -> dict[str, Any]:
    body = request.json("name", "model", "config")
    request.require(body, "name", "model", "config", "autoscaling")
    match body["model"].split("/"):
        case ["projects", _, "models", model_id, *_]:
            model = _model(service, model_id)
        case _:
            raise Refused(400, "model must be projects/{project}/models/{model}", param="model")
    if all(one.refused for one in _revisions(service, model["id"])):
        raise Refused(400, "the model has no revision that passed validation", param="model")
    configs = catalogue.configurations(service.base_models)
    config = next((one for one in configs if body["config"].endswith(f"/{one['id']}")), None)
    if config is None or config["referenceModelId"] != model["baseModelId"]:
        raise Refused(400, "the config is not one for this model", param="config")
    return service.deployments.deploy(
        endpoint_id,
        name=body["name"],
        model=body["model"],
        config=body["config"],
        hardware=catalogue.instance_type_of(config["id"]),
        autoscaling=_scaling(body),
    )


def _create_model(service: Service, request: Request) -> tuple[int, Any]:
    if service.faults.refuse_submit is not None:
        raise Refused(service.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    body = request.json("name", "baseModelId", "type", "description")
    request.require(body, "name", "baseModelId")
    if not _NAME.fullmatch(body["name"]):
        raise Refused(400, "name must be a bare name", param="name")
    if body.get("type", "model") not in _TYPES:
        raise Refused(400, "this sandbox takes adapters only: type must be adapter", param="type")
    if body["baseModelId"] not in (catalogue.base_id(name) for name in service.base_models):
        raise Refused(400, "base model not found: give its ml_ id", param="baseModelId")
    name = f"{service.account}/{body['name']}"
    if any(model["name"] == name for model in service.models.values()):
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
    service.models[model["id"]] = model | ({"description": body["description"]} if body.get("description") else {})
    return 200, service.models[model["id"]]


def _import(service: Service, request: Request) -> tuple[int, Any]:
    body = request.json("modelId", "remoteUrl", "token")
    request.require(body, "modelId", "remoteUrl")
    model = _model(service, body["modelId"])
    url = body["remoteUrl"]
    if not url.startswith(("https://", "http://")):
        raise Refused(400, "remoteUrl is not a URL", param="remoteUrl")
    try:
        job = service.imports.create(
            model_name=model["name"].rpartition("/")[2],
            model_source=url,
            kind="huggingface" if url.startswith(HUB_PAGES) else "remote_archive",
            base_model=model["baseModelId"],
            description=None,
            model_id=model["id"],
            hf_token=body.get("token"),
        )
    except NameTaken:
        raise Refused(409, "an upload for this model is under way or done") from None
    return 200, None if service.faults.lose_answer else _upload(job, url)


def _upload(job: JobRecord, url: str | None = None) -> dict[str, Any]:
    """A remote upload; the service shows the URL it was given, with its query, to the one who gave it."""
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


def _send(service: Service, request: Request, step: str) -> dict[str, Any]:
    """A direct upload: its parts' addresses, then the revision of what was sent."""
    if service.faults.refuse_submit is not None:
        raise Refused(service.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    body = request.json("objectId")
    request.require(body, "objectId", "files")
    model_id = _model(service, body["objectId"])["id"]
    files = _objects(body, "files")
    if step == "create":
        return service.direct.create(model_id, files, service.base_url.removesuffix("/v1"))
    return {"revisionId": service.direct.complete(model_id, files)}


def _revisions(service: Service, model_id: str) -> list[Revision]:
    """A model's revisions, oldest first: those of imports that fetched something, and those that were sent."""
    imports = [job for job in service.imports.records() if job.model_id == model_id]
    fetched = [
        Revision(
            f"rev_{job.id.removeprefix('job-')[:13]}",
            job.updated_at,
            job.updates[-1]["message"] if job.refused else None,
        )
        for job in imports
        if job.status == "Complete" or job.refused
    ]
    return sorted([*fetched, *service.direct.revisions(model_id)], key=lambda one: one.created_at)


def _revision(revision: Revision) -> dict[str, Any]:
    said = revision.refused
    return {
        "revisionId": revision.id,
        "createdAt": stamp(revision.created_at),
        "lastValidatedAt": stamp(revision.created_at),
        "validationStatus": f"REVISION_VALIDATION_STATUS_{'FAILED' if said else 'SUCCESS'}",
        "validationErrors": [{"rule": "adapter_files", "severity": "ERROR", "message": said}] if said else [],
    }


def _event(number: int, update: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"evt_{number}",
        "createdAt": update["timestamp"],
        "level": "LEVEL_ERROR" if update["status"] == "Failed" else "LEVEL_INFO",
        "message": update["message"],
        "type": f"upload.{update['status'].lower()}",
    }


def _job(service: Service, upload_id: str) -> JobRecord:
    found = next((job for job in service.imports.records() if job.id == upload_id), None)
    if found is None:
        raise not_found("upload")
    return found


def _model(service: Service, model_id: str) -> dict[str, Any]:
    if model_id not in service.models:
        raise not_found("model")
    return service.models[model_id]


def _delete_model(service: Service, model_id: str) -> None:
    """Remove a model that no deployment serves."""
    _model(service, model_id)
    serving = [one for endpoint in service.deployments.describe_all() for one in endpoint["deployments"]]
    if any(one["modelId"] == model_id for one in serving):
        raise Refused(400, "the model is referenced by a live deployment")
    del service.models[model_id]


def _objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused(422, f"{name} must be a list of objects", param=name)
    return value


def _scaling(body: dict[str, Any]) -> dict[str, Any]:
    value = body.get("autoscaling")
    if not isinstance(value, dict) or not all(type(value.get(name)) is int for name in ("minReplicas", "maxReplicas")):
        raise Refused(422, "autoscaling must have minReplicas and maxReplicas", param="autoscaling")
    return value


def _page(request: Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    """One page of a list: ``limit`` items from the cursor ``after`` on."""
    start, limit = request.query.get("after", "0"), request.query.get("limit", "100")
    if not start.isdecimal() or not limit.isdecimal() or not int(limit):
        raise Refused(400, "after and limit are a cursor and a positive number")
    end = int(start) + int(limit)
    return {"object": "list", "data": items[int(start) : end], "next_cursor": str(end) if end < len(items) else None}


def _only(items: list[dict[str, Any]], what: str) -> dict[str, Any]:
    if not items:
        raise not_found(what)
    return items[0]
