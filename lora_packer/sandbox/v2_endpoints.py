"""Version 2's endpoints at the sandbox: deployments below them, what is attached to those, and the traffic.

Bodies are those of the vendor's SDK, together 3.1.1 (``types/``).
"""

from __future__ import annotations

from typing import Any

from lora_packer.sandbox import catalogue, v2_models
from lora_packer.sandbox.answers import Refused, Request, not_found, objects, only, page, require_bare_name
from lora_packer.sandbox.state import State


def route(state: State, request: Request, rest: list[str]) -> tuple[int, Any]:
    """Return status and answer for what is below ``endpoints``. Raises Refused."""
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
            return 200, _split(state, request, endpoint_id)
        case ("DELETE", [endpoint_id]):
            below.delete(endpoint_id)
            return 200, {}
        case ("POST", [endpoint_id, "deployments"]):
            return 200, _deploy(state, request, endpoint_id)
        case ("GET", [endpoint_id, "deployments"]):
            return 200, page(request, below.below(endpoint_id))
        case ("GET", [endpoint_id, "abExperiments" | "shadowExperiments" | "rollouts"]):
            below.get(endpoint_id)
            return 200, page(request, [])  # there are none here; the vendor's command line asks for them
        case (_, [endpoint_id, "deployments", deployment_id, *more]):
            return _deployment(state, request, endpoint_id, deployment_id, more)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _deployment(
    state: State, request: Request, endpoint_id: str, deployment_id: str, rest: list[str]
) -> tuple[int, Any]:
    below = state.deployments
    match (request.method, rest):
        case ("GET", []):
            return 200, below.deployment(endpoint_id, deployment_id)
        case ("PATCH", []):
            return 200, below.scale(endpoint_id, deployment_id, _scaling(request.json()))
        case ("DELETE", []):
            below.undeploy(endpoint_id, deployment_id)
            return 200, {}
        case ("POST", ["adapters"]):
            return 200, _attach(state, request, endpoint_id, deployment_id)
        case ("GET", ["adapters"]):
            return 200, page(request, below.attached(endpoint_id, deployment_id))
        case ("GET", ["adapters", attachment_id]):
            found = below.attached(endpoint_id, deployment_id)
            return 200, only([one for one in found if one["id"] == attachment_id], "adapter")
        case ("DELETE", ["adapters", attachment_id]):
            below.detach(endpoint_id, deployment_id, attachment_id, request.query.get("etag"))
            return 200, {}
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _split(state: State, request: Request, endpoint_id: str) -> dict[str, Any]:
    """Set the traffic. The SDK's documentation empties it with an empty list and an update mask; with the switch
    ``keeps_empty_split`` that is no change, as one of the vendor's own guides has it."""
    body = request.json("etag", "name")
    split = objects(body, "trafficSplit")
    if not split and ("updateMask" not in request.query or state.faults.keeps_empty_split):
        raise Refused(400, "no fields to update")
    if state.faults.refuse_split:
        raise Refused(400, "an A/B experiment of this endpoint is running")
    return state.deployments.route(endpoint_id, split, body.get("etag"))


def _deploy(state: State, request: Request, endpoint_id: str) -> dict[str, Any]:
    """Create a deployment, or judge it only. That the dry run creates nothing is documented; what it answers is not,
    and with the switch ``deaf_to_dry_runs`` it creates what it should judge."""
    body = request.json("name", "model", "config")
    request.require(body, "name", "model", "config", "autoscaling")
    timeout = body.get("inactiveTimeout", 0)
    if type(timeout) is not int or not (timeout == 0 or 30 <= timeout <= 1440):
        raise Refused(400, "inactiveTimeout must be 0 or between 30 and 1440 minutes", param="inactiveTimeout")
    match body["model"].split("/"):
        case ["projects", catalogue.PROJECT, "models", base, *_]:
            only([one for one in catalogue.base_models(state.base_models) if one["id"] == base], "model")
        case ["projects", _, "models", model_id, *_]:
            base = _own_base(state, model_id)
        case _:
            raise Refused(400, "model must be projects/{project}/models/{model}", param="model")
    configs = catalogue.configurations(state.base_models)
    config = next((one for one in configs if body["config"].endswith(f"/{one['id']}")), None)
    if config is None or config["referenceModelId"] != base:
        raise Refused(400, "the config is not one for this model", param="config")
    dry = request.query.get("validateOnly") == "true"
    return state.deployments.deploy(
        endpoint_id,
        name=body["name"],
        model=body["model"],
        config=body["config"],
        hardware=catalogue.instance_type_of(config["id"]),
        autoscaling=_scaling(body),
        inactive_timeout=timeout,
        validate_only=dry and not state.faults.deaf_to_dry_runs,
    )


def _own_base(state: State, model_id: str) -> str:
    """The base of a model of the project that has weights which passed validation. Raises Refused."""
    model = v2_models.found(state, model_id)
    made = v2_models.revisions(state, model_id)
    if not made:
        raise Refused(400, "the model has no revisions to deploy", param="model")
    if all(one.refused for one in made):
        raise Refused(400, "the model has no revision that passed validation", param="model")
    return str(model["baseModelId"])


def _attach(state: State, request: Request, endpoint_id: str, deployment_id: str) -> dict[str, Any]:
    """Attach an adapter to a deployment of its base model whose configuration takes adapters. Raises Refused."""
    body = request.json("adapterModelId", "adapterRevisionId")
    request.require(body, "adapterModelId")
    deployment = state.deployments.deployment(endpoint_id, deployment_id)
    base = _own_base(state, body["adapterModelId"])
    if deployment["modelId"] != base:
        raise Refused(400, "adapter base model is not compatible with endpoint model")
    (config,) = (one for one in catalogue.configurations(state.base_models) if one["id"] == deployment["configId"])
    if not any(one["key"] == "adapter_mode" and one["value"] in ("dynamic", "fixed") for one in config["selectors"]):
        raise Refused(400, "the deployment's config does not have LoRA enabled")
    return state.deployments.attach(endpoint_id, deployment_id, body["adapterModelId"])


def _scaling(body: dict[str, Any]) -> dict[str, Any]:
    value = body.get("autoscaling")
    if not isinstance(value, dict) or not all(type(value.get(name)) is int for name in ("minReplicas", "maxReplicas")):
        raise Refused(422, "autoscaling must have minReplicas and maxReplicas", param="autoscaling")
    if not 0 <= value["minReplicas"] <= value["maxReplicas"] or (value["maxReplicas"] and not value["minReplicas"]):
        raise Refused(400, "minReplicas must be positive and at most maxReplicas, or both 0", param="autoscaling")
    return value
