"""Version 2 of the sandbox's API.

Paths and bodies are those of the vendor's SDK, together 3.1.1 (``resources/`` and ``types/``), which reads these
answers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lora_packer.sandbox import catalogue, v2_models
from lora_packer.sandbox.answers import Refused, Request, not_found, objects, only, page, require_bare_name
from lora_packer.sandbox.endpoints import stamp
from lora_packer.sandbox.state import PROJECT, State


def route(state: State, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one. Raises Refused."""
    match (request.method, request.path[1:]):
        case ("GET", ("supported-models",)):
            found = catalogue.supported_models(state.base_models, stamp(datetime.fromtimestamp(state.started, UTC)))
            wanted = request.query.get("search", "").lower()
            deep = not state.faults.shallow_search
            return 200, page(request, [model for model in found if catalogue.is_found(model, wanted, deep=deep)])
        case ("GET", ("public", "inference-instance-types")):
            return 200, page(request, catalogue.instance_types(taken=state.faults.no_hardware))
        case ("GET", ("public", "inference-instance-types", name)):
            return 200, only([one for one in catalogue.instance_types() if one["id"] == name], "instance type")
        case (_, ("projects", project, *rest)):
            if project != PROJECT or state.faults.no_project:
                raise Refused(403, "this key has no access to that project", "forbidden_error")
            return _project(state, request, rest)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _project(state: State, request: Request, rest: list[str]) -> tuple[int, Any]:
    match (request.method, rest):
        case ("POST", ["models"]):
            return v2_models.create(state, request)
        case ("GET", ["models"]):
            return 200, page(request, list(state.models.values()))
        case ("POST", ["models", "upload", step]) if step in ("create", "complete"):
            return 200, v2_models.send(state, request, step)
        case ("POST", ["models", "uploads"]):
            return v2_models.start_import(state, request)
        case ("GET", ["models", "uploads"]):
            return 200, page(request, [v2_models.described_upload(job) for job in state.imports.records()])
        case ("GET", ["models", "uploads", upload_id]):
            return 200, v2_models.described_upload(v2_models.import_job(state, upload_id))
        case ("GET", ["models", "uploads", upload_id, "events"]):
            events = [
                v2_models.described_event(number, one)
                for number, one in enumerate(v2_models.import_job(state, upload_id).updates)
            ]
            return 200, page(request, events)
        case ("GET", ["models", model_id]):
            return 200, v2_models.found(state, model_id)
        case ("GET", ["models", model_id, "revisions"]):
            v2_models.found(state, model_id)
            return 200, page(
                request, [v2_models.described_revision(state, one) for one in v2_models.revisions(state, model_id)]
            )
        case ("DELETE", ["models", model_id]):
            v2_models.delete(state, model_id)
            return 200, {}
        case ("GET", ["configs"]):
            wanted = request.query.get("referenceModelId") or request.query.get("referenceModel", "").rpartition("/")[2]
            configs = catalogue.listed_configurations(state.base_models)
            return 200, page(request, [one for one in configs if wanted in ("", one["referenceModelId"])])
        case ("GET", ["configs", config_id]):
            configs = catalogue.configurations(state.base_models)
            return 200, only([one for one in configs if one["id"] == config_id], "config")
        case (_, ["endpoints", *below]):
            return _endpoints(state, request, below)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _endpoints(state: State, request: Request, rest: list[str]) -> tuple[int, Any]:
    below = state.deployments
    match (request.method, rest):
        case ("POST", []):
            body = request.json("name", "visibility")
            request.require(body, "name")
            require_bare_name(body)
            return 200, below.create(body["name"])
        case ("GET", []):
            return 200, page(request, below.describe_all())
        case ("GET", [endpoint_id]):
            return 200, below.get(endpoint_id)
        case ("PATCH", [endpoint_id]):
            body = request.json("etag", "name")
            return 200, below.route(endpoint_id, objects(body, "trafficSplit"), body.get("etag"))
        case ("DELETE", [endpoint_id]):
            below.delete(endpoint_id)
            return 200, {}
        case ("POST", [endpoint_id, "deployments"]):
            return 200, _deploy(state, request, endpoint_id)
        case ("GET", [endpoint_id, "deployments"]):
            ids = [one["id"] for one in below.get(endpoint_id)["deployments"]]
            return 200, page(request, [below.deployment(endpoint_id, one) for one in ids])
        case ("GET", [endpoint_id, "deployments", deployment_id]):
            return 200, below.deployment(endpoint_id, deployment_id)
        case ("PATCH", [endpoint_id, "deployments", deployment_id]):
            return 200, below.scale(endpoint_id, deployment_id, _scaling(request.json()))
        case ("DELETE", [endpoint_id, "deployments", deployment_id]):
            below.undeploy(endpoint_id, deployment_id)
            return 200, {}
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _deploy(state: State, request: Request, endpoint_id: str) -> dict[str, Any]:
    body = request.json("name", "model", "config")
    request.require(body, "name", "model", "config", "autoscaling")
    match body["model"].split("/"):
        case ["projects", _, "models", model_id, *_]:
            model = v2_models.found(state, model_id)
        case _:
            raise Refused(400, "model must be projects/{project}/models/{model}", param="model")
    if all(one.refused for one in v2_models.revisions(state, model["id"])):
        raise Refused(400, "the model has no revision that passed validation", param="model")
    configs = catalogue.configurations(state.base_models)
    config = next((one for one in configs if body["config"].endswith(f"/{one['id']}")), None)
    if config is None or config["referenceModelId"] != model["baseModelId"]:
        raise Refused(400, "the config is not one for this model", param="config")
    return state.deployments.deploy(
        endpoint_id,
        name=body["name"],
        model=body["model"],
        config=body["config"],
        hardware=catalogue.instance_type_of(config["id"]),
        autoscaling=_scaling(body),
    )


def _scaling(body: dict[str, Any]) -> dict[str, Any]:
    value = body.get("autoscaling")
    if not isinstance(value, dict) or not all(type(value.get(name)) is int for name in ("minReplicas", "maxReplicas")):
        raise Refused(422, "autoscaling must have minReplicas and maxReplicas", param="autoscaling")
    return value
