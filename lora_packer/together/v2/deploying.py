"""A deployment of an adapter on version 2: an endpoint, a deployment below it, and traffic to that deployment.

The adapter is deployed merged: a deployment whose model is the adapter, which the service merges into its base model
(lib/cli/api/endpoints/deploy.py in together 3.1.1). A deployment that is ready gets no traffic until the endpoint's
traffic split names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from lora_packer.errors import InputError, LoraPackerError, ServiceError
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.together.client import Client
from lora_packer.together.deploying import choose_hardware
from lora_packer.together.endpoints import Tell
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import with_cost
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.offers import offers_for
from lora_packer.together.v2.project import is_called
from lora_packer.together.v2.stopping import end
from lora_packer.together.v2.told_endpoints import ToldDeployment, ToldEndpoint
from lora_packer.together.v2.told_models import ToldModel
from lora_packer.together.wanted import Hardware, Rehearsal, Wanted

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_ANOTHER_NAME = "Choose another name with `lora-packer deploy MODEL --display-name NAME`."
_STOPPING_TIME = timedelta(minutes=2)

Undo = Callable[[], str]
"""Takes something back, and says what it did."""


def require_possible(wanted: Wanted) -> None:
    """Refuse what version 2 is documented to refuse (together 3.1.1, types/endpoint_deployment.py) with InputError."""
    if not wanted.min_replicas:
        raise InputError(
            "Version 2 of the API takes no minimum of 0 replicas beside a positive maximum.",
            hint="Give --min-replicas 1, and --inactive-timeout for an end that comes by itself.",
        )
    if wanted.inactive_timeout is not None and not (
        wanted.inactive_timeout == 0 or 30 <= wanted.inactive_timeout <= 1440
    ):
        raise InputError(
            f"An --inactive-timeout of {wanted.inactive_timeout} minutes is not possible.",
            hint="Give 0, which is never, or 30 minutes to 24 hours.",
        )


@frozen
class _Plan:
    """What a deployment will run on, and what its endpoint is called."""

    offers: list[tuple[Hardware, str]]
    chosen: Hardware
    name: str

    def body(
        self, client: Client, adapter: ToldModel, wanted: Wanted, there: Iterable[ToldDeployment]
    ) -> dict[str, Any]:
        """What describes the deployment, beside those that are there."""
        config = next(path for offer, path in self.offers if offer is self.chosen)
        called = _free_name(f"{self.name}-{adapter.id[-8:]}".lower(), there)
        return below.below_body(adapter, adapter.project_id or client.project_id, config, called, wanted)


def _plan(client: Client, adapter: ToldModel, model: str, wanted: Wanted) -> _Plan:
    require_possible(wanted)
    offers = offers_for(client, adapter)
    chosen = choose_hardware(tuple(offer for offer, _ in offers), wanted.hardware, model)
    return _Plan(offers, chosen, _UNFIT.sub("-", wanted.name or (adapter.name or adapter.id).rpartition("/")[2]))


def rehearse(client: Client, adapter: ToldModel, model: str, wanted: Wanted) -> Rehearsal:
    """Let the service judge a deployment, and create nothing.

    It judges what is to come below an endpoint only: that of this name, else one that has nothing of this model. A
    service that creates what it should judge has it taken back. Raises ServiceError, InputError.
    """
    plan = _plan(client, adapter, model, wanted)
    mine: list[str] = []
    free: list[tuple[bool, str, tuple[ToldDeployment, ...]]] = []
    for one in below.listed(client):
        there = below.all_below(client, one)
        if any(each.model_id == adapter.id for each in there):
            mine.append(one.id)
        else:
            free.append((not is_called(one, plan.name), one.id, there))
    if mine:
        return Rehearsal(model, plan.chosen, wanted, mine[0], why_not="an endpoint has the model already")
    if not free:
        return Rehearsal(
            model, plan.chosen, wanted, why_not="the service judges below an endpoint only, and the project has none"
        )
    _, endpoint_id, there = min(free, key=lambda each: each[:2])
    made = below.rehearse(client, endpoint_id, plan.body(client, adapter, wanted, there), model)
    if made is not None:
        undo = _ending(client, endpoint_id, made.id, adapter.id, delete=True)
        raise _taken_back(ServiceError(f"The service created {model} where it should only judge it."), [undo])
    return Rehearsal(model, plan.chosen, wanted, judged_below=endpoint_id)


def place(
    client: Client, adapter: ToldModel, model: str, wanted: Wanted, tell: Tell
) -> tuple[ToldEndpoint, ToldDeployment, Hardware | None]:
    """Create what is missing of an endpoint, one deployment, and traffic to it.

    The price is told before anything is created. Each request that creates goes out once, the deployment's after the
    service's own dry run; what was created is taken back where the next step is refused.

    Return the endpoint, the deployment and what it runs on, where that is known. Raises ServiceError, InputError.
    """
    plan = _plan(client, adapter, model, wanted)
    offers, chosen, name = plan.offers, plan.chosen, plan.name
    found = below.named(client, name)
    there = below.all_below(client, found) if found else ()
    if found and any(found.has_traffic(one.id) for one in there if one.model_id != adapter.id):
        raise InputError(
            f"The endpoint {name} serves another model: the two would share its traffic.", hint=_ANOTHER_NAME
        )
    deployment = below.deployment_of(there, adapter.id, stopped=True)
    kind = deployment.hardware if deployment else None
    if found and deployment and wanted.hardware is not None and kind not in (None, chosen.instance_type):
        raise InputError(
            f"The endpoint {name} ({found.id}) runs on {kind}, not on {chosen.instance_type}.",
            hint=_ANOTHER_NAME,
        )
    runs_on = next((offer for offer, _ in offers if offer.instance_type == kind), None) if deployment else chosen
    undo: list[Undo] = []
    try:
        if found is None or deployment is None:
            tell(f"{model} on {chosen.id} {wanted.price(chosen.cents_per_minute)}")
            if found is None:
                found = below.create(client, name)
                undo.append(_removing(client, found.id))
            body = plan.body(client, adapter, wanted, there)
            deployment = below.rehearse(client, found.id, body, model) or _deployed(client, found, body, model, undo)
            undo = [_ending(client, found.id, deployment.id, adapter.id, delete=True, made_endpoint=bool(undo))]
        elif deployment.state in below.ENDING:
            cents = runs_on.cents_per_minute if runs_on else None
            tell(f"{model} on {kind or 'the same hardware'} {wanted.price(cents)}")
            undo.append(_ending(client, found.id, deployment.id, adapter.id, delete=False))
            deployment = _started(client, found.id, deployment, wanted, name, undo)
        if not found.has_traffic(deployment.id):
            found = below.route(client, found.id, deployment.id)
    except ServiceError as error:
        raise _taken_back(error, undo) from None
    return found, deployment, runs_on


def _free_name(name: str, there: Iterable[ToldDeployment]) -> str:
    """The name, with a number behind it where a deployment has it: one that has failed keeps its own."""
    taken = {one.name.rpartition("/")[2] for one in there}
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 2)))
    return next(one for one in names if one not in taken)


def _deployed(
    client: Client, endpoint: ToldEndpoint, body: dict[str, Any], model: str, undo: list[Undo]
) -> ToldDeployment:
    """The new deployment. Where it may exist and nobody knows its id, nothing is taken back: the next run finds it."""
    try:
        return below.deploy_below(client, endpoint.id, body, model)
    except ServiceError as error:
        if error.in_doubt:
            undo.clear()
        raise


def _started(
    client: Client, endpoint_id: str, deployment: ToldDeployment, wanted: Wanted, name: str, undo: list[Undo]
) -> ToldDeployment:
    """The deployment, started again; one that is stopping has to come to its end first."""
    if deployment.state == "STOPPING":
        waiting = Waiting(_STOPPING_TIME, sleep=client.sleep, clock=client.clock)
        below.until_stopped(client, endpoint_id, [deployment.id], waiting)
    replicas = (wanted.min_replicas, wanted.max_replicas)
    try:
        return below.scale(client, endpoint_id, deployment.id, replicas, f"start the endpoint {name} again")
    except ServiceError as error:
        if not error.in_doubt:
            undo.clear()  # it was not started
        raise


def _removing(client: Client, endpoint_id: str) -> Undo:
    def remove() -> str:
        below.remove(client, endpoint_id)
        return "The endpoint that was created for it was deleted again, so nothing of it costs money."

    return remove


def _ending(
    client: Client, endpoint_id: str, deployment_id: str, model_id: str, *, delete: bool, made_endpoint: bool = False
) -> Undo:
    def stop() -> str:
        waiting = Waiting(_STOPPING_TIME, sleep=client.sleep, clock=client.clock)
        end(
            client,
            endpoint_id,
            delete=delete,
            model_id=model_id,
            keep_endpoint=not made_endpoint,
            waiting=waiting,
        )
        done = "was deleted again" if delete else "was stopped again"
        return f"The deployment {escape(deployment_id, 60)} {done}, so nothing of it costs money."

    return stop


def _taken_back(error: ServiceError, undo: list[Undo]) -> LoraPackerError:
    """The error, after what was created was taken back; where that fails too, it says what may still cost money."""
    for step in undo:
        try:
            with_cost(error, step())
        except LoraPackerError as failure:
            last = (failure.hint or "").rpartition("\n")[2].strip()
            with_cost(error, f"It could not be taken back: {failure.message} {last}".strip())
    return error
