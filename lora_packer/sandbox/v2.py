"""Version 2 of the sandbox's API.

No specification of it is published. Paths and bodies are those of the vendor's SDK, together 3.1.1 (``resources/`` and
``types/``), which reads these answers.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lora_packer.sandbox.answers import Refused, Request, not_found
from lora_packer.sandbox.endpoints import stamp
from lora_packer.sandbox.jobs import JobRecord, NameTaken

if TYPE_CHECKING:
    from lora_packer.sandbox.service import Service

PROJECT = "proj-sandbox"
CATALOGUE = "proj-catalogue"
"""The project that the supported models are of."""

_HARDWARE = (
    # (instance type, GPU, GiB, count, US cents an hour, headroom)
    ("1xnvidia-h100-80gb", "nvidia-h100-80gb", 80, 1, 390, 4),
    ("2xnvidia-h100-80gb", "nvidia-h100-80gb", 80, 2, 780, 0),
)
_UPLOAD_STATES = {"Queued": "PENDING", "Running": "RUNNING", "Processing": "RUNNING", "Complete": "SUCCEEDED"}
_TYPES = ("adapter", "adapters")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def route(service: Service, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one. Raises Refused."""
    match (request.method, request.path[1:]):
        case ("GET", ("supported-models",)):
            found = [_supported(service, name) for name in service.base_models]
            wanted = request.query.get("search", "").lower()
            return 200, _page([model for model in found if wanted in model["name"].lower()])
        case ("GET", ("public", "inference-instance-types")):
            return 200, _page([_instance_type(*entry) for entry in _HARDWARE])
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
            return 200, _page(list(service.models.values()))
        case ("POST", ["models", "uploads"]):
            return _import(service, request)
        case ("GET", ["models", "uploads"]):
            return 200, _page([_upload(job) for job in service.imports.records()])
        case ("GET", ["models", "uploads", upload_id]):
            return 200, _upload(_job(service, upload_id))
        case ("GET", ["models", "uploads", upload_id, "events"]):
            return 200, _page([_event(number, one) for number, one in enumerate(_job(service, upload_id).updates)])
        case ("GET", ["models", model_id]):
            return 200, _model(service, model_id)
        case ("GET", ["models", model_id, "revisions"]):
            _model(service, model_id)
            jobs = [job for job in service.imports.records() if job.model_id == model_id]
            return 200, _page([_revision(job) for job in jobs if job.status == "Complete" or job.refused])
        case ("GET", ["configs"]):
            wanted = request.query.get("referenceModelId")
            return 200, _page([one for one in _configs(service) if wanted in (None, one["referenceModelId"])])
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
            return 200, _page(state.describe_all())
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
    revisions = [job for job in service.imports.records() if job.model_id == model["id"] and job.status == "Complete"]
    if not revisions:
        raise Refused(400, "the model has no revision that passed validation", param="model")
    config = next((one for one in _configs(service) if body["config"].endswith(f"/{one['id']}")), None)
    if config is None or config["referenceModelId"] != model["baseModelId"]:
        raise Refused(400, "the config is not one for this model", param="config")
    hardware = next(entry[0] for entry in _HARDWARE if config["id"].endswith(f"_{entry[3]}"))
    return service.deployments.deploy(
        endpoint_id,
        name=body["name"],
        model=body["model"],
        config=body["config"],
        hardware=hardware,
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
    if body["baseModelId"] not in (_base_id(name) for name in service.base_models):
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
        "baseModel": f"projects/{CATALOGUE}/models/{body['baseModelId']}",
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
            kind="huggingface" if url.startswith("https://huggingface.co/") else "remote_archive",
            base_model=model["baseModelId"],
            description=None,
            model_id=model["id"],
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


def _revision(job: JobRecord) -> dict[str, Any]:
    errors = [{"rule": "adapter_files", "severity": "ERROR", "message": job.updates[-1]["message"]}]
    return {
        "revisionId": f"rev_{job.id.removeprefix('job-')[:13]}",
        "createdAt": stamp(job.updated_at),
        "lastValidatedAt": stamp(job.updated_at),
        "validationStatus": f"REVISION_VALIDATION_STATUS_{'FAILED' if job.refused else 'SUCCESS'}",
        "validationErrors": errors if job.refused else [],
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


def _base_id(name: str) -> str:
    return f"ml_{uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:20]}"


def _supported(service: Service, name: str) -> dict[str, Any]:
    """A ``SupportedModel``: its id is another than the one that models are created with."""
    base = _base_id(name)
    path = f"projects/{CATALOGUE}/models/{base}"
    started = stamp(datetime.fromtimestamp(service.started, UTC))
    profiles = [
        {
            "certifiedConfigRevisionId": config["id"],
            "certifiedModelRevisionId": "rev_certified",
            "config": f"projects/{CATALOGUE}/configs/{config['id']}",
            "gpuCount": count,
            "gpuType": gpu,
            "model": path,
            "modelName": name,
            "parallelism": f"tp{count}",
            "performanceBenchmarks": {},
            "profileId": f"prof_{config['id']}",
            "quantization": "bf16",
        }
        for config, (_, gpu, _, count, _, _) in zip(_configs_of(base), _HARDWARE, strict=True)
    ]
    return {
        "id": f"arch_{base.removeprefix('ml_')}",
        "name": name,
        "displayName": name,
        "displayType": "chat",
        "baseModel": path,
        "baseModelId": base,
        "capabilities": ["CAPABILITY_CHAT"],
        "createdAt": started,
        "updatedAt": started,
        "deploymentProfiles": profiles,
        "inputModalities": ["MODALITY_TEXT"],
        "outputModalities": ["MODALITY_TEXT"],
        "products": ["PRODUCT_DEDICATED"],
        "publisher": name.partition("/")[0],
        "status": "SUPPORTED_MODEL_STATUS_SUPPORTED",
    }


def _configs(service: Service) -> list[dict[str, Any]]:
    return [config for name in service.base_models for config in _configs_of(_base_id(name))]


def _configs_of(base: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"cr_{base.removeprefix('ml_')}_{count}",
            "projectId": CATALOGUE,
            "referenceModel": f"projects/{CATALOGUE}/models/{base}",
            "referenceModelId": base,
            "certifications": [],
            "selectors": [
                {"key": "accelerator_type", "value": gpu},
                {"key": "accelerator_count", "value": str(count)},
            ],
        }
        for _, gpu, _, count, _, _ in _HARDWARE
    ]


def _instance_type(name: str, gpu: str, memory: int, count: int, cents: int, headroom: int) -> dict[str, Any]:
    return {
        "id": f"it_{name}",
        "name": name,
        "description": name,
        "gpuType": gpu,
        "gpuCount": count,
        "gpuMemoryGib": memory,
        "priceCentsPerHour": cents,
        "regions": [{"name": "us-central", "headroom": {"relation": "RELATION_EQ", "value": headroom}}],
    }


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


def _page(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": items, "next_cursor": None}
