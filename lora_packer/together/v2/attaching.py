"""Attaching an adapter to a running deployment of its base model, and what each cluster says to it.

Requests and answers are those of together 3.1.1, resources/endpoints/adapters.py; which deployment of several is taken
follows lib/cli/api/endpoints/_utils/_adapter_deploy.py.
"""

from __future__ import annotations

from urllib.parse import quote

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.together.attached import Attached
from lora_packer.together.client import Client
from lora_packer.together.polling import Waiting
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.project import paged, project_path
from lora_packer.together.v2.told_endpoints import ToldDeployment, ToldEndpoint, attachment_in
from lora_packer.together.v2.told_models import ToldModel
from lora_packer.together.v2.told_offers import selectors_in

_MODES = ("dynamic", "fixed")  # of a configuration that serves adapters; the first is preferred
_ADAPTER_MODE = "adapter_mode"  # the key under which a configuration selects one
_LOOK = "`lora-packer endpoints` lists what runs."
_STATES = ("READY", "SCALING", "PROVISIONING", "DEGRADED")


def attached_to(client: Client, endpoint_id: str, deployment_id: str) -> tuple[Attached, ...]:
    """Return the adapters that are attached to a deployment.

    One that cannot have any refuses the question (lib/cli/api/endpoints/rm.py in together 3.1.1): that is none. Raises
    ServiceError where it cannot be asked.
    """
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id, "adapters")
    try:
        return tuple(paged(client, path, Purpose("list the attached adapters"), attachment_in))
    except ServiceError as error:
        if error.status in (400, 404, 409, 422):
            return ()
        raise


def attach_below(client: Client, endpoint_id: str, deployment_id: str, adapter: ToldModel) -> Attached:
    """Attach an adapter to a deployment, once; one that is attached already is taken. Raises ServiceError."""
    for one in attached_to(client, endpoint_id, deployment_id):
        if one.model == adapter.id:
            return one
    purpose = Purpose(
        action=f"attach {adapter.name or adapter.id} to {deployment_id}",
        in_doubt="It may be attached by now. Run the same command again: it looks first.",
    )
    path = project_path(client, "endpoints", endpoint_id, "deployments", deployment_id, "adapters")
    answer = client.request("POST", path, {"adapterModelId": adapter.id}, retry=False, purpose=purpose)
    return attachment_in(answer, purpose)


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
        lambda: attachment_in(client.request("GET", path, retry=False, purpose=purpose), purpose),
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


def host_of(
    client: Client, endpoint: ToldEndpoint, base: str | None, deployment_id: str | None = None
) -> ToldDeployment:
    """Return the deployment below an endpoint to attach an adapter of this base model to.

    Of several the one whose configuration takes adapters at any time is taken, else one that takes a fixed number, else
    the one that is readiest. Raises InputError where there is none, ServiceError.
    """
    there = below.all_below(client, endpoint)
    if deployment_id is not None:
        named = next((one for one in there if one.id == deployment_id), None)
        if named is None:
            raise InputError(f"The deployment {deployment_id} is there no more.", hint=_LOOK)
        return named
    running = [one for one in there if one.state in _STATES]
    fit = [one for one in running if one.model_id == base] or running
    if not fit:
        raise InputError(
            f"Nothing that runs below the endpoint {endpoint.name or endpoint.id} could take the adapter.",
            hint=f"{_LOOK} An adapter is attached to a deployment of its base model.",
        )
    return min(fit, key=lambda one: (_mode(client, one) if len(fit) > 1 else 0, _STATES.index(one.state)))


def _mode(client: Client, deployment: ToldDeployment) -> int:
    """How well the deployment's configuration takes adapters; the smallest is the best."""
    if deployment.config is None:
        return len(_MODES)
    project, config = deployment.config
    path = f"/v2/projects/{project}/configs/{config}"
    chosen = selectors_in(client.request("GET", path, retry=True, purpose=Purpose("look at the configuration")))
    mode = chosen.get(_ADAPTER_MODE, "").lower().removeprefix("adapter_mode_")
    return _MODES.index(mode) if mode in _MODES else len(_MODES)


def _detached(client: Client, path: str, attachment: Attached) -> str:
    try:
        client.request(
            "DELETE",
            f"{path}?etag={quote(attachment.etag, safe='')}",
            retry=True,
            purpose=Purpose("detach the adapter"),
        )
    except ServiceError as error:
        return f"It is still attached: {error.message}"
    return "It was detached again."
