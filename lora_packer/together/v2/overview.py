"""The endpoints of a project with their deployments, what each costs, and what is attached to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.together.answers import count, fields, number, text
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Deployment, Endpoint, Tell
from lora_packer.together.polling import Waiting
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.attaching import attach_below, attached_to, host_of, until_valid
from lora_packer.together.v2.endpoints import ENDPOINT_PREFIX, described, foremost, required_model
from lora_packer.together.v2.offers import machine_prices
from lora_packer.together.v2.project import is_called, paged, project_path

DEPLOYMENT_PREFIX = "dep_"
"""What the ids of deployments begin with."""


def all_endpoints(client: Client) -> tuple[Endpoint, ...]:
    """Return the project's endpoints with their deployments and prices. Raises ServiceError."""
    found = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
    known = _Known(machine_prices(client), _names(client)) if found else _Known({}, {})
    return tuple(_whole(client, one, below.all_below(client, one), known) for one in found)


def one_endpoint(client: Client, name: str) -> Endpoint:
    """Return one endpoint, by its id, its name or a deployment's id, with what is attached to its deployments.

    Raises ServiceError, InputError.
    """
    found = find_endpoint(client, name)
    there = below.listed_below(client, str(found["id"]))
    seen = _whole(client, found, there, _Known(machine_prices(client), _names(client)))
    with_adapters = (replace(one, adapters=attached_to(client, seen.id, one.id)) for one in seen.deployments)
    return replace(seen, deployments=tuple(with_adapters))


def attach(
    client: Client, model: str, where: str, *, waiting: Waiting | None = None, tell: Tell = lambda _: None
) -> Endpoint:
    """Attach an adapter to a deployment of its base model: the one with this id, or the fittest below an endpoint.

    Without ``waiting`` nobody looks whether the clusters find it valid. Return the endpoint with that deployment alone.
    Raises ServiceError, WaitTimeoutError, InputError.
    """
    adapter = required_model(client, model)
    found = find_endpoint(client, where)
    wanted = where if where.startswith(DEPLOYMENT_PREFIX) else None
    host = host_of(client, found, str(adapter.get("baseModelId")), wanted)
    seen = _whole(client, found, [host], _Known(machine_prices(client), {}))
    (deployment,) = seen.deployments
    tell(f"deployment {deployment.id} of the endpoint {seen.id} {seen.cost}; an attached adapter costs nothing more")
    attached = attach_below(client, seen.id, deployment.id, adapter)
    if waiting is not None:
        attached = until_valid(client, seen.id, deployment.id, attached, waiting)
    return replace(seen, deployments=(replace(deployment, adapters=(attached,)),))


def find_endpoint(client: Client, name: str) -> dict[str, Any]:
    """Return the endpoint of this id or name, or the one above this deployment. Raises ServiceError."""
    if name.startswith(ENDPOINT_PREFIX):
        return below.look_at(client, name)
    found = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
    for one in found:
        if is_called(one, name):
            return one
    if name.startswith(DEPLOYMENT_PREFIX):
        for one in found:
            if any(each.get("id") == name for each in below.all_below(client, one)):
                return one
    raise ServiceError(
        f"The project has no endpoint {name}.", hint="`lora-packer endpoints` lists what there is.", status=404
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """Prices of machines by their names, and names of models by their ids."""

    prices: Mapping[str, float]
    models: Mapping[str, str]


def _names(client: Client) -> dict[str, str]:
    """The names of the project's own models by their ids."""
    found = paged(client, project_path(client, "models"), Purpose("list the models"))
    pairs = ((text(one.get("id")), text(one.get("name"))) for one in found)
    return {one: name for one, name in pairs if one and name}


def _whole(client: Client, endpoint: dict[str, Any], there: list[dict[str, Any]], known: _Known) -> Endpoint:
    seen = described(client, endpoint, foremost(endpoint, there))
    deployments = tuple(_deployment(endpoint, one, known) for one in there)
    first = next((one for one in deployments if one.id == foremost(endpoint, there).get("id")), None)
    if first is None:
        return replace(seen, state="STOPPED", model=None)  # without a deployment there is nothing that could run
    return replace(
        seen,
        model=first.model,
        hardware=first.hardware,
        cents_per_minute=first.cents_per_minute,
        deployments=deployments,
    )


def _deployment(endpoint: dict[str, Any], item: dict[str, Any], known: _Known) -> Deployment:
    scaling, status = fields(item.get("autoscaling")), fields(item.get("status"))
    split = {one.get("deploymentId"): number(one.get("weight")) for one in below.split_of(endpoint)}
    hardware, model = text(item.get("hardware")), text(below.model_of(item))
    ready = item.get("readyReplicas") if "readyReplicas" in item else status.get("readyReplicas")
    return Deployment(
        id=text(item.get("id")) or "",
        name=text(item.get("name")) or "",
        state=text(below.state_of(item)) or "",
        model=known.models.get(model or "", model),
        hardware=hardware,
        cents_per_minute=known.prices.get(hardware or ""),
        min_replicas=count(scaling.get("minReplicas")),
        max_replicas=count(scaling.get("maxReplicas")),
        ready_replicas=count(ready),
        weight=split.get(item.get("id")) or 0.0,
        reason=text(status.get("message"), limit=400) or "",
    )
