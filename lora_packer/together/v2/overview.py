"""The endpoints of a project with their deployments, what each costs, and what is attached to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lora_packer.errors import ServiceError
from lora_packer.frozen import frozen
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Deployment, Endpoint, Tell
from lora_packer.together.polling import Waiting
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.attaching import attach_below, attached_to, host_of, until_valid
from lora_packer.together.v2.endpoints import ENDPOINT_PREFIX, described, foremost, required_model
from lora_packer.together.v2.offers import machine_prices
from lora_packer.together.v2.project import is_called, paged, project_path
from lora_packer.together.v2.told_endpoints import ToldDeployment, ToldEndpoint
from lora_packer.together.v2.told_models import model_in

DEPLOYMENT_PREFIX = "dep_"
"""What the ids of deployments begin with."""


def all_endpoints(client: Client) -> tuple[Endpoint, ...]:
    """Return the project's endpoints with their deployments and prices. Raises ServiceError."""
    found = below.listed(client)
    known = _Known(machine_prices(client), _names(client)) if found else _Known({}, {})
    return tuple(_whole(client, one, below.all_below(client, one), known) for one in found)


def one_endpoint(client: Client, name: str) -> Endpoint:
    """Return one endpoint, by its id, its name or a deployment's id, with what is attached to its deployments.

    Raises ServiceError, InputError.
    """
    found = find_endpoint(client, name)
    there = below.listed_below(client, found.id)
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
    host = host_of(client, found, adapter.base_id, wanted)
    seen = _whole(client, found, (host,), _Known(machine_prices(client), {}))
    (deployment,) = seen.deployments
    tell(f"deployment {deployment.id} of the endpoint {seen.id} {seen.cost}; an attached adapter costs nothing more")
    attached = attach_below(client, seen.id, deployment.id, adapter)
    if waiting is not None:
        attached = until_valid(client, seen.id, deployment.id, attached, waiting)
    return replace(seen, deployments=(replace(deployment, adapters=(attached,)),))


def find_endpoint(client: Client, name: str) -> ToldEndpoint:
    """Return the endpoint of this id or name, or the one above this deployment. Raises ServiceError."""
    if name.startswith(ENDPOINT_PREFIX):
        return below.look_at(client, name)
    found = below.listed(client)
    for one in found:
        if is_called(one, name):
            return one
    if name.startswith(DEPLOYMENT_PREFIX):
        for one in found:
            if any(each.id == name for each in below.all_below(client, one)):
                return one
    raise ServiceError(
        f"The project has no endpoint {name}.", hint="`lora-packer endpoints` lists what there is.", status=404
    )


@frozen
class _Known:
    """Prices of machines by their names, and names of models by their ids."""

    prices: Mapping[str, float]
    models: Mapping[str, str]


def _names(client: Client) -> dict[str, str]:
    """The names of the project's own models by their ids."""
    found = paged(client, project_path(client, "models"), Purpose("list the models"), model_in)
    return {one.id: one.name for one in found if one.name}


def _whole(client: Client, endpoint: ToldEndpoint, there: Sequence[ToldDeployment], known: _Known) -> Endpoint:
    leading = foremost(endpoint, there)
    seen = described(client, endpoint, leading)
    deployments = tuple(_deployment(endpoint, one, known) for one in there)
    if leading is None:
        return replace(seen, state="STOPPED", model=None)  # without a deployment there is nothing that could run
    return replace(
        seen,
        model=known.models.get(leading.model_id or "", leading.model_id),
        hardware=leading.hardware,
        cents_per_minute=known.prices.get(leading.hardware or ""),
        deployments=deployments,
    )


def _deployment(endpoint: ToldEndpoint, told: ToldDeployment, known: _Known) -> Deployment:
    return Deployment(
        id=told.id,
        name=told.name,
        state=told.state,
        model=known.models.get(told.model_id or "", told.model_id),
        hardware=told.hardware,
        cents_per_minute=known.prices.get(told.hardware or ""),
        min_replicas=told.min_replicas,
        max_replicas=told.max_replicas,
        ready_replicas=told.ready_replicas,
        weight=endpoint.weight_of(told.id),
        reason=told.reason,
    )
