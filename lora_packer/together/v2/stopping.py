"""Ending what costs money on version 2: first every deployment to zero, then the wait, then what may be refused.

The order is the vendor's (docs.together.ai/docs/dedicated-endpoints/manage, "Delete resources"): a deployment is
deleted once it is STOPPED and gets no traffic, an endpoint once it has no deployments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from lora_packer.duration import format_duration
from lora_packer.errors import ServiceError, WaitTimeoutError
from lora_packer.redact import escape
from lora_packer.together.client import Client
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import DELETED, NOTHING_RUNS, with_cost
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.project import project_path
from lora_packer.together.v2.told_endpoints import ToldDeployment


@dataclass(slots=True)
class Ledger:
    """What each deployment may still cost, by its id.

    Attributes:
        states: ``RUNS`` until it was scaled to zero, then ``SCALED``, then the state that was seen last.
        is_whole: whether every deployment is known.
        is_gone: whether the endpoint was deleted.
    """

    states: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    is_gone: bool = False

    @property
    def cost(self) -> str:
        """What may still cost money, in words."""
        running = [one for one, state in self.states.items() if state in (_RUNS, "FAILED")]
        ending = [one for one, state in self.states.items() if state not in (_RUNS, "FAILED", *NOTHING_RUNS)]
        told = []
        if running:
            told.append(f"{_named(running)} may still cost money.")
        if not self.is_whole:
            told.append("Deployments of the endpoint that could not be listed may still cost money.")
        if ending:
            told.append(f"Scaled to zero, and at no cost any more once stopped: {_named(ending)}.")
        return " ".join(told) or "Nothing of it runs, so nothing of it costs money."


_RUNS, _SCALED = "RUNS", "SCALED"
_PATIENCE = timedelta(minutes=10)


def end(
    client: Client,
    endpoint_id: str,
    *,
    delete: bool = False,
    model_id: str | None = None,
    keep_endpoint: bool = False,
    waiting: Waiting | None,
) -> Ledger:
    """Scale the deployments of an endpoint to zero, wait until they have stopped, and delete them where that is asked.

    Each is scaled to zero whatever becomes of the others. Where something is refused, or the time is up, the error's
    last line says what may still cost money.

    Args:
        client: the connection to the service.
        endpoint_id: the endpoint.
        delete: whether to delete the deployments, and the endpoint where nothing else is below it.
        model_id: end only what serves this model; None is all.
        keep_endpoint: whether to leave an endpoint without deployments.
        waiting: how long to wait; None is not at all, and where something is to be deleted ten minutes.

    Return what became of them. Raises ServiceError, WaitTimeoutError.
    """
    if delete and waiting is None:
        waiting = Waiting(_PATIENCE, sleep=client.sleep, clock=client.clock)
    ledger = Ledger()
    try:
        left = _stop(client, endpoint_id, ledger, model_id=model_id, waiting=waiting)
        if delete:
            _delete(client, endpoint_id, ledger, whole=not left and not keep_endpoint)
    except (ServiceError, WaitTimeoutError) as error:
        if ledger.states or ledger.is_whole:
            raise with_cost(error, ledger.cost) from None
        raise with_cost(error, f"Endpoint {endpoint_id} may still cost money.") from None
    return ledger


def _stop(client: Client, endpoint_id: str, ledger: Ledger, *, model_id: str | None, waiting: Waiting | None) -> int:
    """Scale to zero and wait; return how many other deployments the endpoint has."""
    found = below.look_at(client, endpoint_id)
    failed = _scale_to_zero(client, endpoint_id, found.deployments, model_id, ledger)
    everything = below.listed_below(client, endpoint_id)
    ledger.is_whole = True
    failed += _scale_to_zero(client, endpoint_id, everything, model_id, ledger)
    if failed:
        raise failed[0]
    mine = tuple(ledger.states)
    left = len({one.id for one in everything} - set(mine))
    if waiting is None:
        return left
    states = below.until_stopped(client, endpoint_id, mine, waiting) if mine else {}
    ledger.states |= {one: state for one, state in (states or {}).items() if state}
    # Of one whose state is not told the service has the last word.
    late = [one for one in mine if states is None or (states[one] and states[one] not in below.AT_REST)]
    if late:
        raise WaitTimeoutError(
            f"The endpoint {endpoint_id} has not stopped after {format_duration(waiting.timeout)}: "
            + ", ".join(f"{escape(one, 60)} ({ledger.states[one]})" for one in late)
            + ".",
            hint="It goes on stopping. Run the same command again to wait on.",
        )
    return left


def _scale_to_zero(
    client: Client,
    endpoint_id: str,
    deployments: Iterable[ToldDeployment],
    model_id: str | None,
    ledger: Ledger,
) -> list[ServiceError]:
    """Scale each to zero that was not tried before; return what was refused."""
    new = [one for one in deployments if one.id not in ledger.states and (model_id is None or one.model_id == model_id)]
    ledger.states |= {one.id: _RUNS for one in new}
    failed: list[ServiceError] = []
    for one in new:
        try:
            below.scale(client, endpoint_id, one.id, (0, 0), f"stop endpoint {endpoint_id}")
            ledger.states[one.id] = _SCALED
        except ServiceError as error:
            # What does not run needs no stop, and the service may well refuse to change it.
            if one.state in below.AT_REST and error.status in (400, 404, 409, 422):
                ledger.states[one.id] = one.state
            elif error.status == 404:
                ledger.states[one.id] = DELETED
            else:
                failed.append(error)
    return failed


def _delete(client: Client, endpoint_id: str, ledger: Ledger, *, whole: bool) -> None:
    """Delete what has stopped: out of the traffic, the deployments, the endpoint where it is ``whole``."""
    purpose = Purpose(f"delete endpoint {endpoint_id}")
    _unroute(client, endpoint_id, tuple(ledger.states), purpose)
    for one in ledger.states:
        if ledger.states[one] != DELETED:
            _gone(client, project_path(client, "endpoints", endpoint_id, "deployments", one), purpose)
            ledger.states[one] = DELETED
    if whole:
        _gone(client, project_path(client, "endpoints", endpoint_id), purpose)
        ledger.is_gone = True


def _unroute(client: Client, endpoint_id: str, deployment_ids: Sequence[str], purpose: Purpose) -> None:
    """Take the deployments out of the endpoint's traffic, and leave the others' in.

    A split without entries is how the SDK's documentation empties it (together 3.1.1, resources/endpoints/
    endpoints.py). Where the service takes that for no change ("no fields to update"), the weights are set to 0 instead,
    as the page on deletion has it.
    """
    split = below.look_at(client, endpoint_id).split
    kept = [one.told for one in split if one.deployment_id not in deployment_ids]
    if len(kept) == len(split):
        return
    path = f"{project_path(client, 'endpoints', endpoint_id)}?updateMask=trafficSplit"

    def put(entries: Sequence[Mapping[str, object]]) -> None:
        client.request("PATCH", path, {"trafficSplit": list(entries)}, retry=True, purpose=purpose)

    try:
        put(kept)
    except ServiceError as error:
        if kept or error.status != 400:
            raise
        try:
            put([{**one.told, "weight": 0} for one in split])
        except ServiceError:
            raise error from None


def _gone(client: Client, path: str, purpose: Purpose) -> None:
    """Delete something; that it is gone already is no failure."""
    try:
        client.request("DELETE", path, retry=True, purpose=purpose)
    except ServiceError as error:
        if error.status != 404:
            raise


def _named(deployment_ids: Iterable[str]) -> str:
    return " and ".join(escape(one, 60) for one in deployment_ids)
