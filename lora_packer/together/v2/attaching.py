"""Attaching an adapter to a running deployment of its base model, and what each cluster says to it.

Requests and answers are those of together 3.1.1, resources/endpoints/adapters.py; which deployment of several is taken
follows lib/cli/api/endpoints/_utils/_adapter_deploy.py.
"""

from __future__ import annotations

from typing import Any

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.together import refusal
from lora_packer.together.answers import fields, objects, text
from lora_packer.together.attached import Attached, Cluster
from lora_packer.together.client import Client
from lora_packer.together.polling import Waiting
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.project import paged, project_path

_MODES = ("dynamic", "fixed")  # of a configuration that serves adapters; the first is preferred
_STATES = ("READY", "SCALING", "PROVISIONING", "DEGRADED")


def attached_to(client: Client, endpoint_id: str, deployment_id: str) -> tuple[Attached, ...]:
    """Return the adapters that are attached to a deployment.

    One that cannot have any refuses the question (lib/cli/api/endpoints/rm.py in together 3.1.1): that is none. Raises
    ServiceError where it cannot be asked.
    """
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id, "adapters")
    try:
        found = paged(client, path, Purpose("list the attached adapters"))
    except ServiceError as error:
        if error.status in (400, 404, 409, 422):
            return ()
        raise
    return tuple(_attached(one) for one in found)


def attach_below(client: Client, endpoint_id: str, deployment_id: str, adapter: dict[str, Any]) -> Attached:
    """Attach an adapter to a deployment, once; one that is attached already is taken. Raises ServiceError."""
    model_id = str(adapter["id"])
    for one in attached_to(client, endpoint_id, deployment_id):
        if one.model == model_id:
            return one
    purpose = Purpose(
        action=f"attach {text(adapter.get('name')) or model_id} to {deployment_id}",
        in_doubt="It may be attached by now. Run the same command again: it looks first.",
    )
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id, "adapters")
    answer = fields(client.request("POST", path, {"adapterModelId": model_id}, retry=False, purpose=purpose))
    return _required(answer, purpose)


def until_valid(
    client: Client, endpoint_id: str, deployment_id: str, attachment: Attached, waiting: Waiting
) -> Attached:
    """Wait until every cluster has the adapter and found it valid.

    The service tries it in each and says so (``adapterValid``). Where one refuses it, it is detached again, and the
    error has the cluster's reason. Raises ServiceError, WaitTimeoutError.
    """
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id, "adapters", attachment.id)
    purpose = Purpose("look at the attached adapter")
    seen = waiting.until(
        lambda: _required(fields(client.request("GET", path, retry=False, purpose=purpose)), purpose),
        is_end=lambda one: bool(one.is_ready or one.refused),
        told=lambda one: "; ".join(map(str, one.clusters)) or "PENDING: no cluster has it yet",
    )
    if seen is not None and seen.is_ready:
        return seen
    if seen is not None and seen.refused:
        told = "; ".join(map(str, seen.refused))
        raise ServiceError(
            f"The adapter is not served: {told}.",
            hint=f"{_detached(client, path, seen)} Run `lora-packer check` on the adapter, and check its base model.",
        )
    state = "; ".join(map(str, seen.clusters)) if seen and seen.clusters else "no cluster has told of it"
    raise WaitTimeoutError(
        f"The adapter was not valid in every cluster after {format_duration(waiting.timeout)}: {state}.",
        hint="It stays attached. Run the same command again to wait on.",
    )


def host_of(client: Client, endpoint: dict[str, Any], base: str, deployment_id: str | None = None) -> dict[str, Any]:
    """Return the deployment below an endpoint to attach an adapter of this base model to.

    Of several the one whose configuration takes adapters at any time is taken, else one that takes a fixed number, else
    the one that is readiest. Raises InputError where there is none, ServiceError.
    """
    there = below.all_below(client, endpoint)
    if deployment_id is not None:
        return next(one for one in there if one.get("id") == deployment_id)
    running = [one for one in there if below.state_of(one) in _STATES]
    fit = [one for one in running if below.model_of(one) == base] or running
    if not fit:
        raise InputError(
            f"Nothing that runs below the endpoint {text(endpoint.get('name'))} could take the adapter.",
            hint="`lora-packer endpoints` lists what runs. An adapter is attached to a deployment of its base model.",
        )
    return min(fit, key=lambda one: (_mode(client, one) if len(fit) > 1 else 0, _STATES.index(below.state_of(one))))


def _mode(client: Client, deployment: dict[str, Any]) -> int:
    """How well the deployment's configuration takes adapters; the smallest is the best."""
    match str(deployment.get("config")).split("/"):
        case ["projects", project, "configs", config]:
            path = f"/v2/projects/{project}/configs/{config}"
        case _:
            return len(_MODES)
    found = fields(client.request("GET", path, retry=True, purpose=Purpose("look at the configuration")))
    chosen = {one.get("key"): str(one.get("value")) for one in objects(found.get("selectors"))}
    mode = chosen.get("adapter_mode", "").lower().removeprefix("adapter_mode_")
    return _MODES.index(mode) if mode in _MODES else len(_MODES)


def _detached(client: Client, path: str, attachment: Attached) -> str:
    try:
        client.request("DELETE", f"{path}?etag={attachment.etag}", retry=True, purpose=Purpose("detach the adapter"))
    except ServiceError as error:
        return f"It is still attached: {error.message}"
    return "It was detached again."


def _required(answer: dict[str, Any], purpose: Purpose) -> Attached:
    if not isinstance(answer.get("id"), str):
        raise refusal.without(purpose, answer, "describes no attachment")
    return _attached(answer)


def _attached(item: dict[str, Any]) -> Attached:
    return Attached(
        id=text(item.get("id")) or "",
        model=text(item.get("adapterModelId")) or "",
        clusters=tuple(_cluster(one) for one in objects(item.get("perCluster"))),
        etag=text(item.get("etag")) or "",
    )


def _cluster(item: dict[str, Any]) -> Cluster:
    valid = item.get("adapterValid")
    why = (item.get("adapterValidReason") if valid is False else None) or item.get("message") or item.get("reason")
    return Cluster(
        id=text(item.get("clusterId")) or "?",
        state=(text(item.get("state")) or "PENDING").removeprefix("ADAPTER_LOAD_STATE_"),
        valid=valid if isinstance(valid, bool) else None,
        reason=text(why, limit=400) or "",
    )
