"""Dedicated endpoints through version 2: an endpoint, a deployment below it, and traffic to that deployment.

The adapter is deployed merged: a deployment whose model is the adapter, which the service merges into its base model
(lib/cli/api/endpoints/deploy.py in together 3.1.1). A deployment that is ready gets no traffic until the endpoint's
traffic split names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from lora_packer.errors import InputError, ServiceError
from lora_packer.redact import escape
from lora_packer.together import refusal
from lora_packer.together.answers import fields, text
from lora_packer.together.chat import complete
from lora_packer.together.client import Client
from lora_packer.together.endpoints import DELETED, Answer, Endpoint, Hardware, choose_hardware, require_model
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.offers import offers_for
from lora_packer.together.v2.project import own_model, paged, project_path, qualified

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_ANOTHER_NAME = "Choose another name with `lora-packer deploy MODEL --display-name NAME`."


def hardware(client: Client, model: str) -> tuple[Hardware, ...]:
    """Return the configurations that can serve the model, cheapest first. Raises ServiceError, InputError."""
    return tuple(offer for offer, _ in offers_for(client, _required_model(client, model)))


def deploy(client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None) -> Endpoint:
    """Create what is missing of an endpoint, one deployment with one replica, and traffic to it; return the endpoint.

    ``display_name`` is the endpoint's name; default: the adapter's. Each request that creates goes out once. Raises
    ServiceError, InputError.
    """
    adapter = _required_model(client, model)
    offers = offers_for(client, adapter)
    chosen = choose_hardware(tuple(offer for offer, _ in offers), hardware_id, model)
    name = _UNFIT.sub("-", display_name or str(adapter.get("name")).rpartition("/")[2])
    found = below.named(client, name) or below.create(client, name)
    others = [one for one in below.deployments_of(found) if one.get("modelId") != adapter["id"]]
    if any(below.has_traffic(found, one.get("id")) for one in others):
        raise InputError(
            f"The endpoint {name} serves another model: the two would share its traffic.", hint=_ANOTHER_NAME
        )
    deployment = below.deployment_of(found, adapter["id"], stopped=True)
    if deployment is None:
        config = next(path for offer, path in offers if offer is chosen)
        deployment = below.deploy_below(client, found, adapter, config, name)
        runs_on: Hardware | None = chosen
    else:
        kind = text(deployment.get("hardware"))
        if hardware_id is not None and kind not in (None, chosen.instance_type):
            raise InputError(
                f"The endpoint {name} ({text(found.get('id'))}) runs on {kind}, not on {chosen.instance_type}.",
                hint=_ANOTHER_NAME,
            )
        deployment = _started(client, found["id"], deployment, name)
        runs_on = next((offer for offer, _ in offers if offer.instance_type == kind), None)
    if not below.has_traffic(found, deployment["id"]):
        found = below.route(client, found["id"], deployment["id"])
    return _described(client, found, deployment, model, runs_on)


def _started(client: Client, endpoint_id: str, deployment: dict[str, Any], name: str) -> dict[str, Any]:
    """The deployment, started again where it was stopped; one that is stopping has to come to its end first."""
    if below.state_of(deployment) not in below.ENDING:
        return deployment
    if below.state_of(deployment) == "STOPPING":
        below.until_stopped(client, endpoint_id, [deployment["id"]])
    return below.scale(client, endpoint_id, deployment["id"], 1, f"start the endpoint {name} again")


def endpoint(client: Client, endpoint_id: str) -> Endpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    found = below.look_at(client, endpoint_id)
    deployments = below.deployments_of(found)
    routed = [one for one in deployments if below.has_traffic(found, one.get("id"))]
    return _described(client, found, next(iter(routed or deployments), {}))


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the endpoints whose traffic goes to a deployment of the model that serves or is about to."""
    adapter = own_model(client, require_model(model))
    if adapter is None:
        return ()
    found = []
    for item in paged(client, project_path(client, "endpoints"), Purpose("list the endpoints")):
        deployment = below.deployment_of(item, adapter.get("id"))
        if deployment is not None and below.has_traffic(item, deployment.get("id")):
            found.append(_described(client, item, deployment, model))
    return tuple(found)


def ask(client: Client, name: str, prompt: str) -> Answer:
    """Ask an endpoint, by its id or its name. Raises ServiceError, InputError."""
    name = endpoint(client, name).name if name.startswith("ep_") else qualified(client, require_model(name))
    return complete(client, name, prompt, inference=True)


def stop(client: Client, endpoint_id: str, *, delete: bool = False) -> Endpoint:
    """Scale every deployment to zero, or delete them and the endpoint for good.

    Nothing is deleted before all of them are scaled to zero, which is tried for each whatever becomes of the others. An
    error says what may still cost money. Raises ServiceError, InputError.
    """
    found = below.look_at(client, endpoint_id)
    told = [str(one.get("id")) for one in below.deployments_of(found)]
    _scale_to_zero(client, endpoint_id, told)
    ids = below.all_deployments(client, found)
    _scale_to_zero(client, endpoint_id, [one for one in ids if one not in told])
    if delete:
        try:
            _delete(client, endpoint_id, ids, routed=bool(below.split_of(found)))
        except ServiceError as error:
            raise _and(error, _scaled(ids)) from None
        return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)
    stopped = endpoint(client, endpoint_id)
    # Without a deployment there is nothing that could run.
    return stopped if ids else Endpoint(id=stopped.id, name=stopped.name, state="STOPPED")


def _scale_to_zero(client: Client, endpoint_id: str, deployment_ids: Sequence[str]) -> None:
    """Scale each to zero. Raises the first ServiceError, once all were tried."""
    failed: dict[str, ServiceError] = {}
    for one in deployment_ids:
        try:
            below.scale(client, endpoint_id, one, 0, f"stop endpoint {endpoint_id}")
        except ServiceError as error:
            failed[one] = error
    if failed:
        raise _and(next(iter(failed.values())), f"{_named(failed)} may still cost money.")


def _delete(client: Client, endpoint_id: str, deployment_ids: Sequence[str], *, routed: bool) -> None:
    """Delete what is scaled to zero in the order that the vendor documents (docs.together.ai, "Manage endpoints"): once
    stopped, out of the traffic, the deployments, the endpoint."""
    purpose = Purpose(f"delete endpoint {endpoint_id}")
    below.until_stopped(client, endpoint_id, deployment_ids)
    path = project_path(client, "endpoints", endpoint_id)
    if routed:
        client.request("PATCH", f"{path}?updateMask=trafficSplit", {"trafficSplit": []}, retry=True, purpose=purpose)
    for one in deployment_ids:
        gone = project_path(client, "endpoints", endpoint_id, "deployments", one)
        client.request("DELETE", gone, retry=True, purpose=purpose)
    client.request("DELETE", path, retry=True, purpose=purpose)


def _scaled(deployment_ids: Sequence[str]) -> str:
    """What is told of deployments that are scaled to zero, where what comes after that failed."""
    if not deployment_ids:
        return "There is no deployment, so nothing of it costs money."
    return f"Scaled to zero, and at no cost any more once stopped: {_named(deployment_ids)}."


def _named(deployment_ids: Iterable[str]) -> str:
    return " and ".join(escape(one, 60) for one in deployment_ids)


def _and(error: ServiceError, said: str) -> ServiceError:
    """The error with one more sentence."""
    return ServiceError(f"{error.message} {said}", hint=error.hint, status=error.status, in_doubt=error.in_doubt)


def _required_model(client: Client, name: str) -> dict[str, Any]:
    found = own_model(client, require_model(name))
    if found is None or not isinstance(found.get("id"), str):
        raise ServiceError(
            f"The project has no model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


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
        state=text(below.state_of(deployment)) or "",
        model=model or text(deployment.get("model")),
        hardware=chosen.id if chosen else text(deployment.get("hardware")),
        cents_per_minute=chosen.cents_per_minute if chosen else None,
        reason=text(fields(deployment.get("status")).get("message")) or "",
    )
