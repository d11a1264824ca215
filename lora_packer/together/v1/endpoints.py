"""Dedicated endpoints through version 1 of the API: ``/hardware``, ``/endpoints`` and ``/chat/completions``.

Requests and answers are those of openapi.yaml in github.com/togethercomputer/openapi. The service may answer a new
endpoint with 403 ``endpoints_v1_create_access_disabled`` (docs.together.ai/docs/dedicated-endpoints/migrate-from-v1).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from lora_packer.together import refusal
from lora_packer.together.answers import fields, listed, number, text
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
from lora_packer.together.next_steps import V1_GONE
from lora_packer.together.refusal import Purpose


def hardware(client: Client, model: str) -> tuple[Hardware, ...]:
    """Return what can serve the model, cheapest first. Raises ServiceError, InputError."""
    purpose = Purpose(
        action=f"list the hardware for {require_model(model)}",
        hints={404: "Check the name: the service knows no such model, or does not serve it on dedicated endpoints."},
    )
    answer = client.request("GET", f"/hardware?model={quote(model, safe='')}", retry=True, purpose=purpose)
    found = (_hardware(item) for item in listed(answer, purpose))
    return tuple(sorted((one for one in found if one.id), key=lambda one: (one.cents_per_minute or 0.0, one.id)))


def deploy(client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None) -> Endpoint:
    """Create an endpoint with one replica for the model and return it; the hardware is the cheapest that can be had.

    The request goes out once, for each endpoint costs money. Raises ServiceError, InputError.
    """
    chosen = choose_hardware(hardware(client, model), hardware_id, model)
    purpose = Purpose(
        action=f"deploy {model}",
        hints=dict.fromkeys((404, 410), V1_GONE),
        in_doubt="The endpoint may exist, and cost money: the request was not repeated. Look at the service's "
        "dashboard or at GET /v1/endpoints before you deploy again.",
    )
    body: dict[str, Any] = {
        "model": model,
        "hardware": chosen.id,
        "autoscaling": {"min_replicas": 1, "max_replicas": 1},
        "state": "STARTED",
    }
    if display_name:
        body["display_name"] = display_name
    answer = client.request("POST", "/endpoints", body, retry=False, purpose=purpose)
    return _required(answer, purpose, chosen.cents_per_minute)


def endpoint(client: Client, endpoint_id: str) -> Endpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    purpose = _about("look at", endpoint_id)
    answer = client.request("GET", _path(endpoint_id), retry=True, purpose=purpose)
    return _required(answer, purpose)


def endpoints(client: Client, model: str) -> tuple[Endpoint, ...]:
    """Return the account's endpoints that serve the model, or are about to. Raises ServiceError."""
    purpose = Purpose(action="list the endpoints")
    answer = client.request("GET", "/endpoints?type=dedicated&mine=true", retry=True, purpose=purpose)
    found = (_endpoint(item) for item in listed(answer, purpose) if item.get("model") == model)
    return tuple(one for one in found if one is not None and not one.is_ending and not one.has_failed)


def ask(client: Client, name: str, prompt: str) -> Answer:
    """Ask an endpoint (by its id, or by the model's name that it serves). Raises ServiceError, InputError."""
    if name.startswith("endpoint-"):
        name = endpoint(client, name).name
    return complete(client, require_model(name), prompt)


def stop(client: Client, endpoint_id: str, *, delete: bool = False) -> Endpoint:
    """Stop an endpoint, or delete it for good, and return it as it is then. Raises ServiceError, InputError."""
    if delete:
        client.request("DELETE", _path(endpoint_id), retry=True, purpose=_about("delete", endpoint_id))
        return Endpoint(id=endpoint_id, name=endpoint_id, state=DELETED)
    purpose = _about("stop", endpoint_id)
    answer = client.request("PATCH", _path(endpoint_id), {"state": "STOPPED"}, retry=True, purpose=purpose)
    return _required(answer, purpose)


def _path(endpoint_id: str) -> str:
    return f"/endpoints/{quote(require_id(endpoint_id), safe='')}"


def _about(verb: str, endpoint_id: str) -> Purpose:
    return Purpose(
        action=f"{verb} endpoint {require_id(endpoint_id)}",
        hints={404: "Check the id: the service knows no such endpoint under this key."},
    )


def _hardware(item: dict[str, Any]) -> Hardware:
    specs = fields(item.get("specs"))
    count = number(specs.get("gpu_count"))
    return Hardware(
        id=text(item.get("id")) or "",
        gpu_type=text(specs.get("gpu_type")) or "",
        gpu_count=None if count is None else int(count),
        cents_per_minute=number(fields(item.get("pricing")).get("cents_per_minute")),
        availability=text(fields(item.get("availability")).get("status")),
    )


def _required(answer: Any, purpose: Purpose, cents_per_minute: float | None = None) -> Endpoint:
    found = _endpoint(fields(answer), cents_per_minute)
    if found is None:
        raise refusal.without(purpose, answer, "describes no endpoint")
    return found


def _endpoint(item: dict[str, Any], cents_per_minute: float | None = None) -> Endpoint | None:
    found, state = text(item.get("id")), text(item.get("state"))
    if not found or not state:
        return None
    model = text(item.get("model"))
    return Endpoint(
        id=found,
        # An adapter is called by the name of its upload: docs.together.ai/docs/dedicated-endpoints/v1/adapter.
        name=model or found,
        state=state.upper(),
        model=model,
        hardware=text(item.get("hardware")),
        cents_per_minute=cents_per_minute,
    )
