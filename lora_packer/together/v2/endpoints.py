"""Dedicated endpoints through version 2: an endpoint, a deployment below it, and traffic to that deployment.

The adapter is deployed merged: a deployment whose model is the adapter, which the service merges into its base model
(lib/cli/api/endpoints/deploy.py in together 3.1.1). A deployment that is ready gets no traffic until the endpoint's
traffic split names it.
"""

from __future__ import annotations

import re
from typing import Any

from lora_packer.errors import InputError, ServiceError
from lora_packer.together import refusal
from lora_packer.together.answers import fields, listed, number, objects, text
from lora_packer.together.chat import complete
from lora_packer.together.client import Client
from lora_packer.together.endpoints import (
    DELETED,
    Answer,
    Endpoint,
    Hardware,
    choose_hardware,
    require_id,
    require_model,
)
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import is_called, own_model, paged, project_path, qualified

_STOPPED = ("STOPPED", "STOPPING")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def hardware(client: Client, model: str) -> tuple[Hardware, ...]:
    """Return the configurations that can serve the model, cheapest first. Raises ServiceError, InputError."""
    return tuple(offer for offer, _ in _offers(client, _required_model(client, model)))


def deploy(client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None) -> Endpoint:
    """Create what is missing of an endpoint, one deployment with one replica, and traffic to it; return the endpoint.

    ``display_name`` is the endpoint's name; default: the adapter's. Each request that creates goes out once. Raises
    ServiceError, InputError.
    """
    adapter = _required_model(client, model)
    offers = _offers(client, adapter)
    chosen = choose_hardware(tuple(offer for offer, _ in offers), hardware_id, model)
    config = next(path for offer, path in offers if offer is chosen)
    name = _UNFIT.sub("-", display_name or str(adapter.get("name")).rpartition("/")[2])
    found = _named(client, name) or _created(client, name)
    if any(_has_traffic(found, one.get("id")) for one in _deployments(found) if one.get("modelId") != adapter["id"]):
        raise InputError(
            f"The endpoint {name} serves another model: the two would share its traffic.",
            hint="Choose another name with `lora-packer deploy MODEL --display-name NAME --api v2`.",
        )
    deployment = _deployment_of(found, adapter["id"], stopped=True)
    if deployment is None:
        deployment = _deployed(client, found, adapter, config, name)
    elif _state(deployment) in _STOPPED:
        deployment = _scale(client, found["id"], deployment["id"], 1, f"start the endpoint {name} again")
        chosen = next((offer for offer, _ in offers if offer.instance_type == deployment.get("hardware")), chosen)
    if not _has_traffic(found, deployment["id"]):
        found = _route(client, found, deployment["id"])
    return _described(client, found, deployment, model, chosen)


def endpoint(client: Client, endpoint_id: str) -> Endpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    found = _endpoint(client, endpoint_id)
    deployments = _deployments(found)
    routed = [one for one in deployments if _has_traffic(found, one.get("id"))]
    return _described(client, found, next(iter(routed or deployments), {}))


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the endpoints whose traffic goes to a deployment of the model that serves or is about to."""
    adapter = own_model(client, require_model(model))
    if adapter is None:
        return ()
    found = []
    for item in paged(client, project_path(client, "endpoints"), Purpose("list the endpoints")):
        deployment = _deployment_of(item, adapter.get("id"))
        if deployment is not None and _has_traffic(item, deployment.get("id")):
            found.append(_described(client, item, deployment, model))
    return tuple(found)


def ask(client: Client, name: str, prompt: str) -> Answer:
    """Ask an endpoint, by its id or its name. Raises ServiceError, InputError."""
    name = endpoint(client, name).name if name.startswith("ep_") else qualified(client, require_model(name))
    return complete(client, name, prompt, inference=True)


def stop(client: Client, endpoint_id: str, *, delete: bool = False) -> Endpoint:
    """Scale every deployment to zero, or delete them and the endpoint for good. Raises ServiceError, InputError."""
    found = _endpoint(client, endpoint_id)
    action = f"stop endpoint {endpoint_id}"
    purpose = Purpose(action)
    if delete and found.get("trafficSplit"):
        path = f"{project_path(client, 'endpoints', endpoint_id)}?updateMask=trafficSplit"
        client.request("PATCH", path, {"trafficSplit": []}, retry=True, purpose=purpose)
    for deployment in _deployments(found):
        path = project_path(client, "endpoints", endpoint_id, "deployments", str(deployment.get("id")))
        _scale(client, endpoint_id, str(deployment.get("id")), 0, action)
        if delete:
            client.request("DELETE", path, retry=True, purpose=purpose)
    if delete:
        client.request("DELETE", project_path(client, "endpoints", endpoint_id), retry=True, purpose=purpose)
        return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)
    stopped = endpoint(client, endpoint_id)
    # Without a deployment there is nothing that could run.
    return stopped if _deployments(found) else Endpoint(id=stopped.id, name=stopped.name, state="STOPPED")


def _required_model(client: Client, name: str) -> dict[str, Any]:
    found = own_model(client, require_model(name))
    if found is None or not isinstance(found.get("id"), str):
        raise ServiceError(
            f"The project has no model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


def _offers(client: Client, adapter: dict[str, Any]) -> list[tuple[Hardware, str]]:
    """The configurations for the adapter's base model with their prices, cheapest first, each with its path."""
    purpose = Purpose(action="list the configurations")
    base = str(adapter.get("baseModelId") or adapter["id"])
    configs = paged(client, project_path(client, "configs"), purpose, referenceModelId=base)
    types = client.request("GET", "/v2/public/inference-instance-types", retry=True, purpose=purpose)
    prices = {one.get("name"): one for one in listed(types, purpose)}
    found = []
    for config in configs:
        chosen = _selectors(config)
        count, gpu = chosen.get("accelerator_count", ""), chosen.get("accelerator_type", "")
        kind = prices.get(f"{count}x{gpu}", {})
        cents = number(kind.get("priceCentsPerHour"))
        offer = Hardware(
            id=text(config.get("id")) or "",
            gpu_type=text(gpu) or "",
            gpu_count=int(count) if count.isascii() and count.isdigit() else None,
            cents_per_minute=None if cents is None else cents / 60,
            availability=_availability(kind),
        )
        if offer.id:
            found.append((offer, f"projects/{config.get('projectId')}/configs/{config.get('id')}"))
    return sorted(found, key=lambda pair: (pair[0].cents_per_minute is None, pair[0].cents_per_minute or 0.0, pair[1]))


def _selectors(config: dict[str, Any]) -> dict[str, str]:
    return {str(one.get("key")): str(one.get("value")) for one in objects(config.get("selectors"))}


def _availability(kind: dict[str, Any]) -> str | None:
    """Whether a region has room; None where the service does not tell."""
    rooms = [fields(one.get("headroom")) for one in objects(kind.get("regions"))]
    told = [(room.get("relation"), number(room.get("value")) or 0) for room in rooms if room]
    if not told:
        return None
    return "available" if any(value > 0 or relation == "RELATION_GTE" for relation, value in told) else "unavailable"


def _endpoint(client: Client, endpoint_id: str) -> dict[str, Any]:
    purpose = Purpose(
        action=f"look at endpoint {require_id(endpoint_id)}",
        hints={404: "Check the id: the service knows no such endpoint in this project."},
    )
    answer = fields(client.request("GET", project_path(client, "endpoints", endpoint_id), retry=True, purpose=purpose))
    if not isinstance(answer.get("id"), str):
        raise refusal.without(purpose, answer, "describes no endpoint")
    return answer


def _named(client: Client, name: str) -> dict[str, Any] | None:
    """The endpoint of this name that an earlier run created, or None."""
    found = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
    return next((one for one in found if is_called(one, name)), None)


def _created(client: Client, name: str) -> dict[str, Any]:
    purpose = Purpose(
        action=f"create the endpoint {name}",
        in_doubt="It may exist, but costs nothing yet. Run the same command again: it takes it.",
    )
    answer = fields(
        client.request("POST", project_path(client, "endpoints"), {"name": name}, retry=False, purpose=purpose)
    )
    if not isinstance(answer.get("id"), str):
        raise refusal.without(purpose, answer, "describes no endpoint")
    return answer


def _deployed(
    client: Client, endpoint: dict[str, Any], adapter: dict[str, Any], config: str, name: str
) -> dict[str, Any]:
    """Create the deployment: from here on it costs money."""
    purpose = Purpose(
        action=f"deploy {adapter.get('name')}",
        in_doubt=f"The deployment may exist, and cost money. Run the same command again: it takes it. Or end it with "
        f"`lora-packer stop {endpoint['id']} --api v2`.",
    )
    body = {
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
        "name": f"{name}-{adapter['id'][-8:]}".lower(),
        "config": config,
        "model": f"projects/{adapter.get('projectId') or client.project_id}/models/{adapter['id']}",
    }
    path = project_path(client, "endpoints", endpoint["id"], "deployments")
    answer = fields(client.request("POST", path, body, retry=False, purpose=purpose))
    if not isinstance(answer.get("id"), str):
        raise refusal.without(purpose, answer, "describes no deployment")
    return answer


def _scale(client: Client, endpoint_id: str, deployment_id: str, replicas: int, action: str) -> dict[str, Any]:
    """Set a deployment's replicas: none cost nothing."""
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id)
    body = {"autoscaling": {"minReplicas": replicas, "maxReplicas": replicas}}
    answer = client.request("PATCH", f"{path}?updateMask=autoscaling", body, retry=True, purpose=Purpose(action))
    return {"id": deployment_id, **fields(answer)}


def _route(client: Client, endpoint: dict[str, Any], deployment_id: str) -> dict[str, Any]:
    """Send the endpoint's traffic to the deployment; what gets traffic already keeps its weight."""
    purpose = Purpose(
        action="send traffic to the deployment",
        hints={409: "The endpoint was changed meanwhile: run the same command again."},
    )
    kept = [one for one in _split(endpoint) if one.get("deploymentId") != deployment_id]
    body: dict[str, Any] = {"trafficSplit": [*kept, {"deploymentId": deployment_id, "weight": 1}]}
    if isinstance(endpoint.get("etag"), str):
        body["etag"] = _endpoint(client, endpoint["id"]).get("etag")
    path = f"{project_path(client, 'endpoints', endpoint['id'])}?updateMask=trafficSplit"
    client.request("PATCH", path, body, retry=False, purpose=purpose)
    return _endpoint(client, endpoint["id"])


def _split(endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(endpoint.get("trafficSplit"))


def _deployments(endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(endpoint.get("deployments"))


def _has_traffic(endpoint: dict[str, Any], deployment_id: Any) -> bool:
    return any(one.get("deploymentId") == deployment_id and number(one.get("weight")) for one in _split(endpoint))


def _deployment_of(endpoint: dict[str, Any], model_id: Any, *, stopped: bool = False) -> dict[str, Any] | None:
    """The endpoint's deployment of a model that runs or is about to (else, with ``stopped``, one that did), or None."""
    mine = [one for one in _deployments(endpoint) if one.get("modelId") == model_id and _state(one) != "FAILED"]
    running = [one for one in mine if _state(one) not in _STOPPED]
    return next(iter(running or (mine if stopped else [])), None)


def _state(deployment: dict[str, Any]) -> str:
    value = deployment.get("state") or fields(deployment.get("status")).get("state")
    return str(value).removeprefix("DEPLOYMENT_STATE_") if isinstance(value, str) and value else "PROVISIONING"


def _described(
    client: Client,
    endpoint: dict[str, Any],
    deployment: dict[str, Any],
    model: str | None = None,
    chosen: Hardware | None = None,
) -> Endpoint:
    name = text(endpoint.get("name"))
    if name is None:
        raise refusal.unreadable(Purpose("look at the endpoint"), 200, "describes an endpoint without a name")
    return Endpoint(
        id=str(text(endpoint.get("id"))),
        name=qualified(client, name),
        state=text(_state(deployment)) or "",
        model=model or text(deployment.get("model")),
        hardware=chosen.id if chosen else text(deployment.get("hardware")),
        cents_per_minute=chosen.cents_per_minute if chosen else None,
        reason=text(fields(deployment.get("status")).get("message")) or "",
    )
