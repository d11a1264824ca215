"""Dedicated endpoints through version 2: what can serve a model, what does, a question to it, and its end."""

from __future__ import annotations

from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.together import refusal
from lora_packer.together.answers import count, fields, text
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.chat import complete
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Endpoint, Tell, require_model
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import DELETED
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.deploying import place
from lora_packer.together.v2.deploying import rehearse as rehearse_below
from lora_packer.together.v2.offers import offers_for
from lora_packer.together.v2.project import is_called, own_model, paged, project_path, qualified
from lora_packer.together.v2.stopping import end
from lora_packer.together.v2.supported import base_model
from lora_packer.together.wanted import Hardware, Rehearsal, Wanted

ENDPOINT_PREFIX = "ep_"
"""What the ids of endpoints begin with."""

_ANY, _PLAINLY = Wanted(), Asking()


def hardware(client: Client, model: str) -> tuple[Hardware, ...]:
    """Return the configurations that can serve the model, cheapest first. Raises ServiceError, InputError."""
    return tuple(offer for offer, _ in offers_for(client, deployable(client, model)))


def deploy(client: Client, model: str, wanted: Wanted = _ANY, *, tell: Tell = lambda _: None) -> Endpoint:
    """Create what is missing of an endpoint, one deployment and traffic to it; see ``deploying.place``.

    Raises ServiceError, InputError.
    """
    found, deployment, runs_on = place(client, deployable(client, model), model, wanted, tell)
    return described(client, found, deployment, model, runs_on)


def rehearse(client: Client, model: str, wanted: Wanted = _ANY) -> Rehearsal:
    """Let the service judge a deployment of the model, and create nothing; see ``deploying.rehearse``.

    Raises ServiceError, InputError.
    """
    return rehearse_below(client, deployable(client, model), model, wanted)


def endpoint(client: Client, endpoint_id: str) -> Endpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    found = below.look_at(client, endpoint_id)
    return described(client, found, foremost(found, below.deployments_of(found)))


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the endpoints whose traffic goes to a deployment of the model that serves or is about to."""
    served = own_model(client, require_model(model)) or base_model(client, model)
    if served is None:
        return ()
    found = []
    for item in paged(client, project_path(client, "endpoints"), Purpose("list the endpoints")):
        deployment = below.deployment_of(below.all_below(client, item), served.get("id"))
        if deployment is not None and below.has_traffic(item, deployment.get("id")):
            found.append(described(client, item, deployment, model))
    return tuple(found)


def asked_name(client: Client, name: str) -> str:
    """Return by which name an endpoint (its id or its name) is asked. Raises ServiceError, InputError."""
    return endpoint(client, name).name if name.startswith(ENDPOINT_PREFIX) else qualified(client, require_model(name))


def ask(client: Client, name: str, prompt: str, asking: Asking = _PLAINLY) -> Answer:
    """Ask an endpoint, by its id or its name. Raises ServiceError, InputError."""
    return complete(client, asked_name(client, name), prompt, asking, inference=True)


def to_stop(client: Client, name: str) -> tuple[tuple[str, str | None], ...]:
    """Return what is stopped by a name: an endpoint by its id, whole; of a model what serves it, wherever that is; and
    an endpoint that is called so, whole. Raises ServiceError where there is no such thing.
    """
    if name.startswith(ENDPOINT_PREFIX):
        return ((name, None),)
    found = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
    served = own_model(client, require_model(name))
    if served is None and not any(is_called(one, name) for one in found):
        served = base_model(client, name)
    if served is not None:
        mine = str(served.get("id"))
        serving = [one for one in found if any(below.model_of(item) == mine for item in below.all_below(client, one))]
        empty = [one for one in found if is_called(one, name) and not below.deployments_of(one)]
        return tuple((str(one["id"]), mine) for one in (*serving, *empty))
    called = [str(one["id"]) for one in found if is_called(one, name)]
    if not called:
        raise ServiceError(
            f"The project has no endpoint and no model {name}.",
            hint="`lora-packer endpoints` lists what there is.",
            status=404,
        )
    return tuple((one, None) for one in called)


def stop(
    client: Client,
    endpoint_id: str,
    *,
    delete: bool = False,
    model: str | None = None,
    waiting: Waiting | None = None,
) -> Endpoint:
    """Scale every deployment to zero (with ``model``, an id, only those that serve it), wait until they have stopped,
    and delete them and the endpoint for good; see ``stopping.end``. Raises ServiceError, WaitTimeoutError, InputError.
    """
    ended = end(client, endpoint_id, delete=delete, model_id=model, waiting=waiting)
    if ended.is_gone:
        return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)
    found = below.look_at(client, endpoint_id)
    there = below.all_below(client, found)
    stopped = described(client, found, foremost(found, there))
    # Without a deployment there is nothing that could run.
    return stopped if there else Endpoint(id=stopped.id, name=stopped.name, state="STOPPED")


def foremost(endpoint: dict[str, Any], deployments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the deployment that stands for its endpoint: one that gets traffic, else one that runs, else the first."""
    routed = [one for one in deployments if below.has_traffic(endpoint, one.get("id"))]
    running = [one for one in deployments if below.state_of(one) not in below.AT_REST]
    return next(iter(routed or running or deployments), {})


def required_model(client: Client, name: str) -> dict[str, Any]:
    """Return the project's model of this name or id. Raises ServiceError where there is none, InputError."""
    found = own_model(client, require_model(name))
    if found is None or not isinstance(found.get("id"), str):
        raise ServiceError(
            f"The project has no model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


def deployable(client: Client, name: str) -> dict[str, Any]:
    """Return the project's model of this name or id, else the base model that the service's catalogue has under it.

    Raises ServiceError where there is none, InputError.
    """
    found = own_model(client, require_model(name)) or base_model(client, name)
    if found is None or not isinstance(found.get("id"), str):
        raise ServiceError(
            f"Neither the project nor the service's catalogue has a model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


def described(
    client: Client,
    endpoint: dict[str, Any],
    deployment: dict[str, Any],
    model: str | None = None,
    chosen: Hardware | None = None,
) -> Endpoint:
    """Return an endpoint by the deployment that stands for it. Raises ServiceError where it has no name."""
    name = text(endpoint.get("name"))
    if name is None:
        raise refusal.unreadable(Purpose("look at the endpoint"), 200, "describes an endpoint without a name")
    scaling = fields(deployment.get("autoscaling"))
    return Endpoint(
        id=str(text(endpoint.get("id"))),
        name=qualified(client, name),
        state=text(below.state_of(deployment)) or "",
        model=model or text(below.model_of(deployment)),
        hardware=chosen.id if chosen else text(deployment.get("hardware")),
        cents_per_minute=chosen.cents_per_minute if chosen else None,
        reason=text(fields(deployment.get("status")).get("message")) or "",
        min_replicas=count(scaling.get("minReplicas")),
        max_replicas=count(scaling.get("maxReplicas")),
    )
