"""An endpoint of version 2 and the deployments below it: looked at, created, scaled, given traffic.

Endpoints and deployments are the service's own objects here (together 3.1.1, ``types/``), read leniently.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lora_packer.together import refusal
from lora_packer.together.answers import fields, number, objects
from lora_packer.together.client import Client
from lora_packer.together.endpoints import require_id
from lora_packer.together.polling import poll
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import is_called, paged, project_path

ENDING = ("STOPPED", "STOPPING")
"""The states of a deployment that runs nothing, or soon will."""

_AT_REST = ("STOPPED", "FAILED")
_STOPPING_TIME = timedelta(minutes=1)
_EMBEDDED = 10  # deployments that an endpoint tells by itself, the newest: docs.together.ai, "Manage endpoints"


def look_at(client: Client, endpoint_id: str) -> dict[str, Any]:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    purpose = Purpose(
        action=f"look at endpoint {require_id(endpoint_id)}",
        hints={404: "Check the id: the service knows no such endpoint in this project."},
    )
    answer = fields(client.request("GET", project_path(client, "endpoints", endpoint_id), retry=True, purpose=purpose))
    if not isinstance(answer.get("id"), str):
        raise refusal.without(purpose, answer, "describes no endpoint")
    return answer


def named(client: Client, name: str) -> dict[str, Any] | None:
    """Return the endpoint of this name that an earlier run created, or None. Raises ServiceError."""
    found = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
    return next((one for one in found if is_called(one, name)), None)


def create(client: Client, name: str) -> dict[str, Any]:
    """Create an endpoint, once: it costs nothing yet. Raises ServiceError."""
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


def deploy_below(
    client: Client, endpoint: dict[str, Any], adapter: dict[str, Any], config: str, name: str
) -> dict[str, Any]:
    """Create a deployment below the endpoint, once: from here on it costs money. Raises ServiceError."""
    purpose = Purpose(
        action=f"deploy {adapter.get('name')}",
        in_doubt=f"The deployment may exist, and cost money. Run the same command again: it takes it. Or end it with "
        f"`lora-packer stop {endpoint['id']}`.",
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


def scale(client: Client, endpoint_id: str, deployment_id: str, replicas: int, action: str) -> dict[str, Any]:
    """Set a deployment's replicas: none cost nothing. Raises ServiceError."""
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id)
    body = {"autoscaling": {"minReplicas": replicas, "maxReplicas": replicas}}
    answer = client.request("PATCH", f"{path}?updateMask=autoscaling", body, retry=True, purpose=Purpose(action))
    return {"id": deployment_id, **fields(answer)}


def until_stopped(client: Client, endpoint_id: str, deployment_ids: Sequence[str]) -> None:
    """Wait until the deployments have stopped, for a while: only then can they be deleted or started again.

    Where they have not by then, the service has the last word. Raises ServiceError where looking is refused.
    """
    purpose = Purpose("look at the deployments")
    paths = [project_path(client, "endpoints", endpoint_id, "deployments", one) for one in deployment_ids]
    poll(
        lambda: [state_of(fields(client.request("GET", path, retry=False, purpose=purpose))) for path in paths],
        is_end=lambda states: all(state in _AT_REST for state in states),
        told=tuple,
        timeout=_STOPPING_TIME,
        on_change=lambda _: None,
        on_trouble=None,
        sleep=client.sleep,
        clock=client.clock,
    )


def route(client: Client, endpoint_id: str, deployment_id: str) -> dict[str, Any]:
    """Send the endpoint's traffic to the deployment; what gets traffic already keeps its weight. Return the endpoint.

    The split and the etag are of one read, so that the service refuses to overwrite what was changed after it.
    Raises ServiceError.
    """
    endpoint = look_at(client, endpoint_id)
    purpose = Purpose(
        action="send traffic to the deployment",
        hints={409: "The endpoint was changed meanwhile: run the same command again."},
    )
    kept = [one for one in split_of(endpoint) if one.get("deploymentId") != deployment_id]
    body: dict[str, Any] = {"trafficSplit": [*kept, {"deploymentId": deployment_id, "weight": 1}]}
    if isinstance(endpoint.get("etag"), str):
        body["etag"] = endpoint["etag"]
    path = f"{project_path(client, 'endpoints', endpoint_id)}?updateMask=trafficSplit"
    client.request("PATCH", path, body, retry=False, purpose=purpose)
    return look_at(client, endpoint_id)


def split_of(endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return which deployments get traffic, and how much of it."""
    return objects(endpoint.get("trafficSplit"))


def deployments_of(endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deployments that the endpoint tells: the newest ones."""
    return objects(endpoint.get("deployments"))


def all_deployments(client: Client, endpoint: dict[str, Any]) -> list[str]:
    """Return the ids of all deployments below the endpoint, of those too that it does not tell. Raises ServiceError."""
    told = deployments_of(endpoint)
    if len(told) >= _EMBEDDED:
        path = project_path(client, "endpoints", str(endpoint["id"]), "deployments")
        told = paged(client, path, Purpose("list the deployments of the endpoint"))
    return [str(one.get("id")) for one in told]


def has_traffic(endpoint: dict[str, Any], deployment_id: Any) -> bool:
    """Whether some of the endpoint's traffic goes to the deployment."""
    return any(one.get("deploymentId") == deployment_id and number(one.get("weight")) for one in split_of(endpoint))


def deployment_of(endpoint: dict[str, Any], model_id: Any, *, stopped: bool = False) -> dict[str, Any] | None:
    """Return the endpoint's deployment of a model that runs or is about to (else, with ``stopped``, one that did), or
    None."""
    mine = [one for one in deployments_of(endpoint) if one.get("modelId") == model_id and state_of(one) != "FAILED"]
    running = [one for one in mine if state_of(one) not in ENDING]
    return next(iter(running or (mine if stopped else [])), None)


def state_of(deployment: dict[str, Any]) -> str:
    """Return a deployment's state without its prefix; PROVISIONING where it tells none yet."""
    value = deployment.get("state") or fields(deployment.get("status")).get("state")
    return str(value).removeprefix("DEPLOYMENT_STATE_") if isinstance(value, str) and value else "PROVISIONING"
