"""Dedicated endpoints through version 2: what can serve a model, what does, a question to it, and its end."""

from __future__ import annotations

from collections.abc import Sequence

from lora_packer.errors import ServiceError
from lora_packer.together import refusal
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
from lora_packer.together.v2.project import is_called, own_model, qualified
from lora_packer.together.v2.stopping import end
from lora_packer.together.v2.supported import base_model
from lora_packer.together.v2.told_endpoints import ToldDeployment, ToldEndpoint
from lora_packer.together.v2.told_models import ToldModel
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
    return described(client, found, foremost(found, found.deployments))


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the endpoints whose traffic goes to a deployment of the model that serves or is about to."""
    served = own_model(client, require_model(model)) or base_model(client, model)
    if served is None:
        return ()
    found = []
    for item in below.listed(client):
        deployment = below.deployment_of(below.all_below(client, item), served.id)
        if deployment is not None and item.has_traffic(deployment.id):
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
    found = below.listed(client)
    served = own_model(client, require_model(name))
    if served is None and not any(is_called(one, name) for one in found):
        served = base_model(client, name)
    if served is not None:
        serving = [one for one in found if any(item.model_id == served.id for item in below.all_below(client, one))]
        empty = [one for one in found if is_called(one, name) and not one.deployments]
        return tuple((one.id, served.id) for one in (*serving, *empty))
    called = [one.id for one in found if is_called(one, name)]
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


def foremost(endpoint: ToldEndpoint, deployments: Sequence[ToldDeployment]) -> ToldDeployment | None:
    """Return the deployment that stands for its endpoint: one that gets traffic, else one that runs, else the first;
    None where there is none."""
    routed = [one for one in deployments if endpoint.has_traffic(one.id)]
    running = [one for one in deployments if one.state not in below.AT_REST]
    return next(iter(routed or running or deployments), None)


def required_model(client: Client, name: str) -> ToldModel:
    """Return the project's model of this name or id. Raises ServiceError where there is none, InputError."""
    found = own_model(client, require_model(name))
    if found is None:
        raise ServiceError(
            f"The project has no model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


def deployable(client: Client, name: str) -> ToldModel:
    """Return the project's model of this name or id, else the base model that the service's catalogue has under it.

    Raises ServiceError where there is none, InputError.
    """
    found = own_model(client, require_model(name)) or base_model(client, name)
    if found is None:
        raise ServiceError(
            f"Neither the project nor the service's catalogue has a model {name}.",
            hint="A model of the v1 API has to be uploaded again: `lora-packer release ... --api v2`.",
            status=404,
        )
    return found


def described(
    client: Client,
    endpoint: ToldEndpoint,
    deployment: ToldDeployment | None,
    model: str | None = None,
    chosen: Hardware | None = None,
) -> Endpoint:
    """Return an endpoint by the deployment that stands for it. Raises ServiceError where it has no name."""
    if endpoint.name is None:
        raise refusal.unreadable(Purpose("look at the endpoint"), 200, "describes an endpoint whose 'name' is missing")
    first = deployment or ToldDeployment("")
    return Endpoint(
        id=endpoint.id,
        name=qualified(client, endpoint.name),
        state=first.state,
        model=model or first.model_id,
        hardware=chosen.id if chosen else first.hardware,
        cents_per_minute=chosen.cents_per_minute if chosen else None,
        reason=first.reason,
        min_replicas=first.min_replicas,
        max_replicas=first.max_replicas,
    )
