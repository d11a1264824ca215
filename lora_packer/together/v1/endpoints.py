"""Dedicated endpoints through version 1 of the API: ``/hardware``, ``/endpoints`` and ``/chat/completions``.

Requests and answers are those of openapi.yaml in github.com/togethercomputer/openapi. The service may answer a new
endpoint with 403 ``endpoints_v1_create_access_disabled`` (docs.together.ai/docs/dedicated-endpoints/migrate-from-v1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from lora_packer.duration import format_duration
from lora_packer.errors import LoraPackerError, ServiceError, WaitTimeoutError
from lora_packer.together import refusal
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.chat import complete
from lora_packer.together.client import Client
from lora_packer.together.deploying import choose_hardware
from lora_packer.together.endpoints import Endpoint, Tell, require_id, require_model
from lora_packer.together.next_steps import V1_GONE
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import DELETED, with_cost
from lora_packer.together.refusal import Purpose
from lora_packer.together.v1.told import Listed, endpoint_in, endpoints_in, hardware_in, own_name_in
from lora_packer.together.versions import V1_ENDS
from lora_packer.together.wanted import Hardware, Rehearsal, Wanted

ENDPOINT_PREFIX = "endpoint-"
"""What the ids of endpoints begin with."""

_ANY, _PLAINLY = Wanted(), Asking()
_LIST = Purpose(action="list the endpoints")
_NOT_STOPPABLE = (400, 403, 405, 409, 422)


def hardware(client: Client, model: str) -> tuple[Hardware, ...]:
    """Return what can serve the model, cheapest first. Raises ServiceError, InputError."""
    purpose = Purpose(
        action=f"list the hardware for {require_model(model)}",
        hints={404: "Check the name: the service knows no such model, or does not serve it on dedicated endpoints."},
    )
    answer = client.request("GET", f"/hardware?model={quote(model, safe='')}", retry=True, purpose=purpose)
    return tuple(sorted(hardware_in(answer, purpose), key=lambda one: (one.cents_per_minute or 0.0, one.id)))


def deploy(client: Client, model: str, wanted: Wanted = _ANY, *, tell: Tell = lambda _: None) -> Endpoint:
    """Create an endpoint for the model and return it; the price is told before.

    The hardware is the cheapest that can be had where none is asked for. The request goes out once, for each endpoint
    costs money. Raises ServiceError, InputError.
    """
    chosen = choose_hardware(hardware(client, model), wanted.hardware, model)
    tell(f"{model} on {chosen.id} {wanted.price(chosen.cents_per_minute)}")
    purpose = Purpose(
        action=f"deploy {model}",
        hints=dict.fromkeys((404, 410), V1_GONE),
        in_doubt="The endpoint may exist, and cost money: the request was not repeated. Look with `lora-packer "
        "endpoints --api v1` before you deploy again.",
    )
    body: dict[str, Any] = {
        "model": model,
        "hardware": chosen.id,
        "autoscaling": {"min_replicas": wanted.min_replicas, "max_replicas": wanted.max_replicas},
        "state": "STARTED",
    }
    if wanted.name:
        body["display_name"] = wanted.name
    if wanted.inactive_timeout is not None:
        body["inactive_timeout"] = wanted.inactive_timeout
    answer = client.request("POST", "/endpoints", body, retry=False, purpose=purpose)
    return endpoint_in(answer, purpose, chosen.cents_per_minute)


def rehearse(client: Client, model: str, wanted: Wanted = _ANY) -> Rehearsal:
    """Return what a deployment of the model would cost. This version has no dry run.

    Raises ServiceError, InputError.
    """
    found = [one.id for one in endpoints(client, model)]
    chosen = choose_hardware(hardware(client, model), wanted.hardware, model)
    there = found[0] if found else None
    return Rehearsal(model, chosen, wanted, there, why_not=f"version 1 of the API has no dry run; {V1_ENDS}")


def endpoint(client: Client, endpoint_id: str) -> Endpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    purpose = _about("look at", endpoint_id)
    answer = client.request("GET", _path(endpoint_id), retry=True, purpose=purpose)
    return endpoint_in(answer, purpose)


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the account's endpoints that serve the model, or are about to. Raises ServiceError."""
    found = (one for listed, one in _listed(client) if listed.model == model)
    return tuple(one for one in found if one is not None and not one.is_ending and not one.has_failed)


def all_endpoints(client: Client) -> tuple[Endpoint, ...]:
    """Return the account's endpoints with their prices: a list names no hardware, a look at each does.

    Raises ServiceError.
    """
    found = _listed(client)
    prices = _prices(client) if found else {}
    return tuple(_one(client, listed, prices) for listed, _ in found)


def one_endpoint(client: Client, name: str) -> Endpoint:
    """Return one endpoint, by its id, its name or the model's. Raises ServiceError, InputError."""
    seen = Listed(name) if name.startswith(ENDPOINT_PREFIX) else _called(client, name)
    return _one(client, seen, _prices(client))


def asked_name(client: Client, name: str) -> str:
    """Return by which name an endpoint (its id, or the name of the model that it serves) is asked.

    Raises ServiceError, InputError.
    """
    return require_model(endpoint(client, name).name if name.startswith(ENDPOINT_PREFIX) else name)


def ask(client: Client, name: str, prompt: str, asking: Asking = _PLAINLY) -> Answer:
    """Ask an endpoint (by its id, or by the model's name that it serves). Raises ServiceError, InputError."""
    return complete(client, asked_name(client, name), prompt, asking)


def attach(
    client: Client, model: str, where: str, *, waiting: Waiting | None = None, tell: Tell = lambda _: None
) -> Endpoint:
    """Attach an adapter to a endpoint of its base model: docs.together.ai/docs/dedicated-endpoints/lora-adapter.

    This version tells no state of what is attached, so there is nothing to wait for. Raises ServiceError, InputError.
    """
    del waiting
    seen = Listed(where) if where.startswith(ENDPOINT_PREFIX) else _called(client, where)
    endpoint_id = _required_id(seen)
    purpose = _about("look at", endpoint_id)
    answer = client.request("GET", _path(endpoint_id), retry=True, purpose=purpose)
    found = endpoint_in(answer, purpose)
    found = replace(found, cents_per_minute=_prices(client).get(found.hardware or ""))
    tell(f"endpoint {found.id} {found.cost}; an attached adapter costs nothing more")
    purpose = Purpose(
        action=f"attach {require_model(model)} to {found.id}",
        in_doubt="It may be attached by now. Run the same command again: an endpoint takes it again.",
    )
    body = {"model_id": f"{own_name_in(answer)}:{model}"}
    client.request("POST", f"{_path(found.id)}/adapters", body, retry=False, purpose=purpose)
    return found


def to_stop(client: Client, name: str) -> tuple[tuple[str, str | None], ...]:
    """Return what is stopped by a name: an endpoint by its id, or all that serve a model or are called so.

    Raises ServiceError where there is no such thing.
    """
    if name.startswith(ENDPOINT_PREFIX):
        return ((name, None),)
    require_model(name)
    called = [listed for listed, _ in _listed(client) if name in (listed.name, listed.model)]
    found = tuple((_required_id(one), None) for one in called)
    if not found:
        raise ServiceError(
            f"The account has no endpoint that is called {name} or serves it.",
            hint="`lora-packer endpoints --api v1` lists what there is.",
            status=404,
        )
    return found


def stop(
    client: Client,
    endpoint_id: str,
    *,
    delete: bool = False,
    model: str | None = None,
    waiting: Waiting | None = None,
) -> Endpoint:
    """Stop an endpoint, or delete it for good, and return it as it is then.

    The stop goes out first. Where it is refused, say for one that has failed, an endpoint that is to be deleted is
    deleted all the same: that ends its cost too. ``model`` means nothing here: an endpoint of this version serves one.
    Raises ServiceError, WaitTimeoutError, InputError.
    """
    del model
    try:
        purpose = _about("stop", endpoint_id)
        answer = client.request("PATCH", _path(endpoint_id), {"state": "STOPPED"}, retry=True, purpose=purpose)
        stopped = endpoint_in(answer, purpose)
    except ServiceError as error:
        if delete and error.status in _NOT_STOPPABLE and _is_deleted(client, endpoint_id):
            return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)
        raise _with_cost(error, endpoint_id) from None
    if waiting is not None and not stopped.is_stopped:
        stopped = _until_stopped(client, endpoint_id, waiting)
    if not delete:
        return stopped
    try:
        _delete(client, endpoint_id)
    except ServiceError as error:
        if stopped.is_stopped:
            raise with_cost(error, f"Endpoint {endpoint_id} is stopped, so nothing of it costs money.") from None
        raise _with_cost(error, endpoint_id) from None
    return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)


def _is_deleted(client: Client, endpoint_id: str) -> bool:
    """Delete an endpoint that the service would not stop; whether that went well."""
    try:
        _delete(client, endpoint_id)
    except ServiceError:
        return False
    return True


def _delete(client: Client, endpoint_id: str) -> None:
    """Delete an endpoint; that it is gone already, as one that was stopped just now may be, is no failure."""
    try:
        client.request("DELETE", _path(endpoint_id), retry=True, purpose=_about("delete", endpoint_id))
    except ServiceError as error:
        if error.status != 404:
            raise


def _until_stopped(client: Client, endpoint_id: str, waiting: Waiting) -> Endpoint:
    seen = waiting.until(
        lambda: endpoint(client, endpoint_id),
        is_end=lambda one: one.is_stopped or one.has_failed,
        told=lambda one: f"{one.id} {one.state}",
    )
    if seen is None or not (seen.is_stopped or seen.has_failed):
        state = "was still " + seen.state if seen else "could not be looked at"
        raise WaitTimeoutError(
            f"Endpoint {endpoint_id} {state} after {format_duration(waiting.timeout)}.",
            hint="It goes on stopping. Run the same command again to wait on.\nAt no cost any more once stopped: "
            f"{endpoint_id}.",
        )
    return seen


def _with_cost(error: ServiceError, endpoint_id: str) -> LoraPackerError:
    """The error, with what may still cost money as the last line; an endpoint that is not there costs nothing."""
    if error.status == 404:
        return error
    return with_cost(error, f"Endpoint {endpoint_id} may still cost money.")


def _called(client: Client, name: str) -> Listed:
    """The endpoint of this name, or that serves this model. Raises ServiceError."""
    for listed, _ in _listed(client):
        if name in (listed.name, listed.model):
            return listed
    raise ServiceError(
        f"The account has no endpoint {name}.", hint="`lora-packer endpoints --api v1` lists what there is.", status=404
    )


def _listed(client: Client) -> list[tuple[Listed, Endpoint | None]]:
    answer = client.request("GET", "/endpoints?type=dedicated&mine=true", retry=True, purpose=_LIST)
    return endpoints_in(answer, _LIST)


def _required_id(listed: Listed) -> str:
    """The id of an endpoint in a list. Raises ServiceError where none is told."""
    if listed.id is None:
        raise refusal.unreadable(_LIST, 200, "lists an endpoint whose 'id' is missing or no id")
    return listed.id


def _prices(client: Client) -> dict[str, float]:
    """What a replica costs, in US cents a minute, by the hardware's id."""
    purpose = Purpose(action="list the hardware and its prices")
    found = hardware_in(client.request("GET", "/hardware", retry=True, purpose=purpose), purpose)
    return {one.id: one.cents_per_minute for one in found if one.cents_per_minute is not None}


def _one(client: Client, listed: Listed, prices: dict[str, float]) -> Endpoint:
    found = endpoint(client, _required_id(listed))
    return replace(found, cents_per_minute=prices.get(found.hardware or ""))


def _path(endpoint_id: str) -> str:
    return f"/endpoints/{quote(require_id(endpoint_id), safe='')}"


def _about(verb: str, endpoint_id: str) -> Purpose:
    return Purpose(
        action=f"{verb} endpoint {require_id(endpoint_id)}",
        hints={404: "Check the id: the service knows no such endpoint under this key."},
    )
