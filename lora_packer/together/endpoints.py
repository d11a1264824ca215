"""What serves an adapter and what it costs: hardware, endpoints with their deployments, an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol, TypeGuard

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.redact import escape, shell_word
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.attached import Attached
from lora_packer.together.client import Client
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import (
    BROKEN,
    NOTHING_RUNS,
    SERVING,
    STOPPING,
    between,
    cents_an_hour,
    describe_cost,
)
from lora_packer.together.wanted import Hardware, Rehearsal, Wanted

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,255}")


@frozen
class Deployment:
    """What runs below an endpoint of version 2. All text is the service's own, escaped and clipped.

    Attributes:
        id, name: the deployment's.
        state: the service's word, without a prefix.
        model: the id of what it serves; None where not told.
        hardware: the machine of one replica; None where not told.
        cents_per_minute: what one replica costs, in US cents; None where unknown.
        min_replicas, max_replicas: between how many replicas it scales; None where not told.
        ready_replicas: how many are up; None where not told.
        weight: its weight in the endpoint's traffic; 0 is none.
        reason: the service's words about the state.
        adapters: what is attached to it, where that was asked for.
    """

    id: str
    name: str
    state: str
    model: str | None = None
    hardware: str | None = None
    cents_per_minute: float | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    ready_replicas: int | None = None
    weight: float = 0.0
    reason: str = ""
    adapters: tuple[Attached, ...] = ()

    @property
    def hourly(self) -> tuple[float, float] | None:
        """Between which prices an hour costs, in US cents; None where that is unknown."""
        return cents_an_hour(
            self.state, self.cents_per_minute, self.min_replicas, self.max_replicas, self.ready_replicas
        )


@frozen
class Endpoint:
    """A dedicated endpoint. All text is the service's own, escaped and clipped.

    Attributes:
        id: the endpoint's id.
        name: what chat completions call it by.
        state: the service's word, without a prefix.
        model: the model that it serves, or None where not told.
        hardware: what it runs on, or None where not told.
        cents_per_minute: what one replica costs, in US cents; None where unknown.
        reason: the service's words about the state; empty where it has none.
        min_replicas, max_replicas: between how many replicas it scales; None where not told.
        deployments: what runs below it on version 2, where all of that was asked for.
    """

    id: str
    name: str
    state: str
    model: str | None = None
    hardware: str | None = None
    cents_per_minute: float | None = None
    reason: str = ""
    min_replicas: int | None = None
    max_replicas: int | None = None
    deployments: tuple[Deployment, ...] = ()

    @property
    def is_serving(self) -> bool:
        """Whether it answers requests."""
        return self.state in SERVING

    @property
    def has_failed(self) -> bool:
        """Whether it will not serve without a change."""
        return self.state in BROKEN

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of it runs, so that nothing of it costs money."""
        return self.state in NOTHING_RUNS

    @property
    def is_ending(self) -> bool:
        """Whether it is stopped or about to be."""
        return self.is_stopped or self.state in STOPPING

    @property
    def stop_command(self) -> str:
        """The command that ends what it costs."""
        return f"lora-packer stop {shell_word(self.id)}"

    @property
    def cost(self) -> str:
        """What keeps costing money, in words."""
        if self.is_stopped:
            return "nothing of it runs, so nothing of it costs money"
        until = "until it is STOPPED" if self.is_ending else f"until `{self.stop_command}`"
        return f"{describe_cost(self.cents_per_minute)} for each {self._replicas} {until}"

    @property
    def _replicas(self) -> str:
        if self.is_ending or self.max_replicas in (None, 0) or (self.min_replicas, self.max_replicas) == (1, 1):
            return "replica"
        return f"of {between(str(self.min_replicas or 0), str(self.max_replicas))} replicas"

    @property
    def hourly(self) -> tuple[float, float] | None:
        """Between which prices an hour costs, in US cents; None where that is unknown."""
        if not self.deployments:
            return cents_an_hour(self.state, self.cents_per_minute, self.min_replicas, self.max_replicas, None)
        prices = [one.hourly for one in self.deployments]
        known = [price for price in prices if price is not None]
        if len(known) < len(prices):
            return None
        return sum(low for low, _ in known), sum(high for _, high in known)

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


Tell = Callable[[str], None]
"""Told one sentence for a person."""


class EndpointApi(Protocol):
    """What every version of the service's API can do about endpoints; see ``Api``."""

    def hardware(self, client: Client, model: str) -> tuple[Hardware, ...]:
        """Return what can serve the model, cheapest first."""

    def deploy(self, client: Client, model: str, wanted: Wanted = ..., *, tell: Tell = ...) -> Endpoint:
        """Create an endpoint, once, after its price was told; what was created is taken back where a later step is
        refused."""

    def endpoint(self, client: Client, endpoint_id: str) -> Endpoint:
        """Return the endpoint as it is now."""

    def endpoints(self, client: Client, model: str) -> tuple[Endpoint, ...]:
        """Return the account's endpoints that serve the model, or are about to."""

    def all_endpoints(self, client: Client) -> tuple[Endpoint, ...]:
        """Return the account's endpoints, with their prices where the service tells them."""

    def one_endpoint(self, client: Client, name: str) -> Endpoint:
        """Return one endpoint, by its id or name, with everything that is known of it."""

    def rehearse(self, client: Client, model: str, wanted: Wanted = ...) -> Rehearsal:
        """Return what a deployment would cost, and let the service judge it where it can: nothing is created."""

    def asked_name(self, client: Client, name: str) -> str:
        """Return by which name an endpoint is asked, given its id or its name."""

    def ask(self, client: Client, name: str, prompt: str, asking: Asking = ...) -> Answer:
        """Ask an endpoint, by its id or its name."""

    def attach(
        self, client: Client, model: str, where: str, *, waiting: Waiting | None = ..., tell: Tell = ...
    ) -> Endpoint:
        """Attach an adapter to an endpoint or a deployment of its base model, and wait until it is valid there."""

    def to_stop(self, client: Client, name: str) -> tuple[tuple[str, str | None], ...]:
        """Return what is stopped by this name: endpoints by their ids, each whole, or only what serves this model."""

    def stop(
        self,
        client: Client,
        endpoint_id: str,
        *,
        delete: bool = False,
        model: str | None = None,
        waiting: Waiting | None = None,
    ) -> Endpoint:
        """Stop an endpoint, wait until it has stopped, delete it for good, and return it as it is then."""


def is_endpoint_id(value: object) -> TypeGuard[str]:
    """Whether this can be an endpoint's id: one word that is safe in an address and on a command line."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def require_id(text: str) -> str:
    """Return ``text`` where it can be an endpoint's id. Raises InputError."""
    if not is_endpoint_id(text):
        raise InputError(
            f"'{escape(text, 60)}' is not an endpoint id.", hint="Give the id that `lora-packer deploy` printed."
        )
    return text


def require_model(text: str) -> str:
    """Return ``text`` where it can be the name of a model or an endpoint. Raises InputError."""
    if not _MODEL.fullmatch(text) or ".." in text:
        raise InputError(
            f"'{escape(text, 60)}' is not the name of a model.", hint="Give it as the upload printed it: account/name."
        )
    return text
