"""An endpoint of version 2 and the deployments below it: looked at, created, scaled, given traffic.

What the service tells is read by ``told_endpoints.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.redact import shell_word
from lora_packer.together.client import Client
from lora_packer.together.endpoints import require_id
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import DELETED
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import is_called, paged, project_path
from lora_packer.together.v2.told_endpoints import (
    ToldDeployment,
    ToldEndpoint,
    changed_deployment,
    deployment_in,
    endpoint_in,
    id_in,
)
from lora_packer.together.v2.told_models import ToldModel
from lora_packer.together.wanted import Wanted

ENDING = ("STOPPED", "STOPPING")
"""The states of a deployment that runs nothing, or soon will."""

AT_REST = ("STOPPED", "FAILED", DELETED)
"""The states in which a deployment stays until somebody changes it."""

_ROUTES = 3  # attempts to change a traffic split that others change too
_EMBEDDED = 10  # deployments that an endpoint tells by itself, the newest: docs.together.ai, "Manage endpoints"


def look_at(client: Client, endpoint_id: str) -> ToldEndpoint:
    """Return the endpoint as it is now. Raises ServiceError, InputError."""
    purpose = Purpose(
        action=f"look at endpoint {require_id(endpoint_id)}",
        hints={404: "Check the id: the service knows no such endpoint in this project."},
    )
    path = project_path(client, "endpoints", endpoint_id)
    return endpoint_in(client.request("GET", path, retry=True, purpose=purpose), purpose)


def listed(client: Client) -> list[ToldEndpoint]:
    """Return the project's endpoints. Raises ServiceError."""
    return paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"), endpoint_in)


def named(client: Client, name: str) -> ToldEndpoint | None:
    """Return the endpoint of this name that an earlier run created, or None. Raises ServiceError."""
    return next((one for one in listed(client) if is_called(one, name)), None)


def create(client: Client, name: str) -> ToldEndpoint:
    """Create an endpoint, once: it costs nothing yet. Raises ServiceError."""
    purpose = Purpose(
        action=f"create the endpoint {name}",
        in_doubt="It may exist, but costs nothing yet. Run the same command again: it takes it.",
    )
    path = project_path(client, "endpoints")
    return endpoint_in(client.request("POST", path, {"name": name}, retry=False, purpose=purpose), purpose)


def remove(client: Client, endpoint_id: str) -> None:
    """Delete an endpoint without deployments. Raises ServiceError."""
    purpose = Purpose(f"delete endpoint {endpoint_id}")
    client.request("DELETE", project_path(client, "endpoints", endpoint_id), retry=True, purpose=purpose)


def below_body(adapter: ToldModel, project_id: str | None, config: str, name: str, wanted: Wanted) -> dict[str, Any]:
    """Return what describes a new deployment."""
    body: dict[str, Any] = {
        "autoscaling": {"minReplicas": wanted.min_replicas, "maxReplicas": wanted.max_replicas},
        "name": name,
        "config": config,
        "model": f"projects/{project_id}/models/{adapter.id}",
    }
    if wanted.inactive_timeout is not None:
        body["inactiveTimeout"] = wanted.inactive_timeout
    return body


def rehearse(client: Client, endpoint_id: str, body: dict[str, Any], what: str) -> ToldDeployment | None:
    """Let the service judge a new deployment without creating it: ``validateOnly`` of together 3.1.1,
    resources/endpoints/deployments.py.

    What it answers is documented nowhere. So where it names a deployment that is there afterwards, that one was created
    all the same, and is returned. Raises ServiceError where the service refuses it.
    """
    purpose = Purpose(
        action=f"deploy {what} (a dry run, nothing was created)",
        in_doubt="Run the same command again: it looks first.",
    )
    path = project_path(client, "endpoints", endpoint_id, "deployments")
    made = id_in(client.request("POST", f"{path}?validateOnly=true", body, retry=False, purpose=purpose))
    if made is None:
        return None
    there = all_below(client, look_at(client, endpoint_id))
    return next((one for one in there if one.id == made), None)


def deploy_below(client: Client, endpoint_id: str, body: dict[str, Any], what: str) -> ToldDeployment:
    """Create a deployment below the endpoint, once: from here on it costs money. Raises ServiceError."""
    purpose = Purpose(
        action=f"deploy {what}",
        in_doubt=f"The deployment may exist, and cost money. Run the same command again: it takes it. Or end it with "
        f"`lora-packer stop {shell_word(endpoint_id)}`.",
    )
    path = project_path(client, "endpoints", endpoint_id, "deployments")
    return deployment_in(client.request("POST", path, body, retry=False, purpose=purpose), purpose)


def scale(
    client: Client, endpoint_id: str, deployment_id: str, replicas: tuple[int, int], action: str
) -> ToldDeployment:
    """Set between how many replicas a deployment scales: none cost nothing. Raises ServiceError."""
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id)
    body = {"autoscaling": {"minReplicas": replicas[0], "maxReplicas": replicas[1]}}
    answer = client.request("PATCH", f"{path}?updateMask=autoscaling", body, retry=True, purpose=Purpose(action))
    return changed_deployment(answer, deployment_id)


def until_stopped(
    client: Client, endpoint_id: str, deployment_ids: Sequence[str], waiting: Waiting
) -> dict[str, str] | None:
    """Wait until the deployments have stopped: only then can they be deleted or started again.

    Return the state of each at the last look, empty where it is not told; None where every look failed. Raises
    ServiceError where looking is refused.
    """
    purpose = Purpose("look at the deployments")
    states = dict.fromkeys(deployment_ids, "?")
    ends = ("", *AT_REST)

    def look() -> dict[str, str]:
        for one, state in states.items():
            if state not in ends:
                states[one] = _seen(client, endpoint_id, one, purpose)
        return dict(states)

    return waiting.until(
        look,
        is_end=lambda seen: all(state in ends for state in seen.values()),
        told=lambda seen: ", ".join(f"{one} {state}" for one, state in seen.items()),
    )


def _seen(client: Client, endpoint_id: str, deployment_id: str, purpose: Purpose) -> str:
    """A deployment's state; DELETED where it is there no more, empty where it tells none."""
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id)
    try:
        answer = client.request("GET", path, retry=False, purpose=purpose)
    except ServiceError as error:
        if error.status == 404:
            return DELETED
        raise
    seen = changed_deployment(answer, deployment_id)
    return seen.state if seen.tells_state else ""


def route(client: Client, endpoint_id: str, deployment_id: str) -> ToldEndpoint:
    """Send the endpoint's traffic to the deployment; what gets traffic already keeps its weight. Return the endpoint.

    The split and the etag are of one read, so that the service refuses to overwrite what was changed after it; then it
    is read again. Raises ServiceError.
    """
    purpose = Purpose(
        action="send traffic to the deployment",
        hints={409: "The endpoint was changed meanwhile: run the same command again."},
    )
    for attempt in range(1, _ROUTES + 1):
        endpoint = look_at(client, endpoint_id)
        kept = [one.told for one in endpoint.split if one.deployment_id != deployment_id]
        body: dict[str, Any] = {"trafficSplit": [*kept, {"deploymentId": deployment_id, "weight": 1}]}
        if endpoint.etag is not None:
            body["etag"] = endpoint.etag
        path = f"{project_path(client, 'endpoints', endpoint_id)}?updateMask=trafficSplit"
        try:
            client.request("PATCH", path, body, retry=False, purpose=purpose)
        except ServiceError as error:
            if error.status != 409 or attempt == _ROUTES:
                raise
            client.pause(attempt)
        else:
            break
    return look_at(client, endpoint_id)


def all_below(client: Client, endpoint: ToldEndpoint) -> tuple[ToldDeployment, ...]:
    """Return all deployments below the endpoint, those too that it does not tell. Raises ServiceError."""
    told = endpoint.deployments
    return told if len(told) < _EMBEDDED else listed_below(client, endpoint.id)


def listed_below(client: Client, endpoint_id: str) -> tuple[ToldDeployment, ...]:
    """Return all deployments below the endpoint, from their list, which comes in pages. Raises ServiceError."""
    path = project_path(client, "endpoints", endpoint_id, "deployments")
    return tuple(paged(client, path, Purpose("list the deployments of the endpoint"), deployment_in))


def deployment_of(
    deployments: Sequence[ToldDeployment], model_id: str, *, stopped: bool = False
) -> ToldDeployment | None:
    """Return the deployment of a model that runs or is about to (else, with ``stopped``, one that did), or None.

    One that has failed is none: the service starts no such one again (docs.together.ai, "Manage endpoints").
    """
    mine = [one for one in deployments if one.model_id == model_id and one.state != "FAILED"]
    running = [one for one in mine if one.state not in ENDING]
    return next(iter(running or (mine if stopped else [])), None)
