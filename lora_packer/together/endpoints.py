"""What serves an adapter and what it costs: hardware, endpoints, a first answer; and how one that serves is come by."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.redact import escape
from lora_packer.together.client import Client
from lora_packer.together.polling import poll

# The states of a v1 endpoint (DedicatedEndpoint in openapi.yaml of github.com/togethercomputer/openapi) and of a v2
# deployment (together 3.1.1, types/deployment_status.py, without the prefix DEPLOYMENT_STATE_).
_SERVING = ("STARTED", "READY", "SCALING", "DEGRADED")
_FAILED = ("ERROR", "FAILED")
_STOPPED = ("STOPPED",)
_STOPPING = ("STOPPING",)

DELETED = "DELETED"
"""The state of an endpoint that was deleted; the service has none for it."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,255}")


@dataclass(frozen=True, slots=True)
class Hardware:
    """One way to serve a model. All text is the service's own, escaped and clipped.

    Attributes:
        id: what to ask for it by.
        gpu_type, gpu_count: the GPUs of one replica.
        cents_per_minute: what one replica costs, in US cents; None where the service names no price.
        availability: ``available``, ``unavailable``, ``insufficient``, or None where not told.
    """

    id: str
    gpu_type: str = ""
    gpu_count: int | None = None
    cents_per_minute: float | None = None
    availability: str | None = None

    @property
    def can_be_had(self) -> bool:
        """Whether the service does not say that it is out of it."""
        return self.availability in (None, "available")

    @property
    def instance_type(self) -> str:
        """What version 2 calls the machine: lib/cli/api/endpoints/_utils/_hardware_pricing.py in together 3.1.1."""
        return f"{self.gpu_count}x{self.gpu_type}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
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
    """

    id: str
    name: str
    state: str
    model: str | None = None
    hardware: str | None = None
    cents_per_minute: float | None = None
    reason: str = ""

    @property
    def is_serving(self) -> bool:
        """Whether it answers requests."""
        return self.state in _SERVING

    @property
    def has_failed(self) -> bool:
        """Whether it will not serve without a change."""
        return self.state in _FAILED

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of it runs, so that nothing of it costs money."""
        return self.state in (*_STOPPED, DELETED)

    @property
    def is_ending(self) -> bool:
        """Whether it is stopped or about to be."""
        return self.is_stopped or self.state in _STOPPING

    @property
    def stop_command(self) -> str:
        """The command that ends what it costs."""
        return f"lora-packer stop {self.id}"

    @property
    def cost(self) -> str:
        """What keeps costing money, in words."""
        if self.is_stopped:
            return "nothing of it runs, so nothing of it costs money"
        until = "until it is STOPPED" if self.is_ending else f"until `{self.stop_command}`"
        return f"{describe_cost(self.cents_per_minute)} for each replica {until}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a prompt: text as it came, and how many tokens it took (None where not told)."""

    text: str
    model: str
    finish_reason: str | None = None
    tokens: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


class EndpointApi(Protocol):
    """What every version of the service's API can do about endpoints; see ``Api``."""

    def hardware(self, client: Client, model: str) -> tuple[Hardware, ...]:
        """Return what can serve the model, cheapest first."""

    def deploy(
        self, client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None
    ) -> Endpoint:
        """Create an endpoint with one replica, once; without ``hardware_id`` on the cheapest that can be had."""

    def endpoint(self, client: Client, endpoint_id: str) -> Endpoint:
        """Return the endpoint as it is now."""

    def endpoints(self, client: Client, model: str) -> tuple[Endpoint, ...]:
        """Return the account's endpoints that serve the model, or are about to."""

    def ask(self, client: Client, name: str, prompt: str) -> Answer:
        """Ask an endpoint, by its id or its name."""

    def stop(self, client: Client, endpoint_id: str, *, delete: bool = False) -> Endpoint:
        """Stop an endpoint, or delete it for good, and return it as it is then."""


def ensure_endpoint(
    api: EndpointApi, client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None
) -> tuple[Endpoint, bool]:
    """Return an endpoint of the account for the model, and whether it was created just now.

    One that is there already, on the hardware that is asked for, is taken: each costs money. Raises ServiceError,
    InputError.
    """
    found = api.endpoints(client, model)
    if hardware_id is not None and found:
        found = _running_on(api, client, found, model, hardware_id)
    if found:
        return _priced(api, client, found[0], model), False
    return api.deploy(client, model, hardware_id=hardware_id, display_name=display_name), True


def serve(
    api: EndpointApi,
    client: Client,
    endpoint: Endpoint,
    *,
    timeout: timedelta,
    on_change: Callable[[Endpoint], None],
    on_trouble: Callable[[ServiceError], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Endpoint:
    """Look at the endpoint until it serves, and return it; see ``polling.poll`` for the arguments.

    Raises ServiceError where it fails or is stopped, WaitTimeoutError. Both say that it may still cost money.
    """
    ended = poll(
        lambda: replace(api.endpoint(client, endpoint.id), cents_per_minute=endpoint.cents_per_minute),
        is_end=lambda seen: seen.is_serving or seen.has_failed or seen.is_ending,
        told=lambda seen: (seen.state, seen.reason),
        timeout=timeout,
        on_change=on_change,
        on_trouble=on_trouble,
        sleep=sleep,
        clock=clock,
    )
    seen, trouble = ended
    if seen is None:
        raise WaitTimeoutError(
            f"The endpoint could not be looked at for {format_duration(timeout)}: {trouble.message if trouble else ''}",
            hint=f"It {endpoint.cost}. Run the same command again to wait on.",
        )
    if seen.is_serving:
        return seen
    if seen.has_failed or seen.is_ending:
        reason = f": {seen.reason}" if seen.reason else ""
        hint = f"End it with `{seen.stop_command}`, then deploy again."
        raise ServiceError(f"Endpoint {seen.id} is {seen.state}{reason}.", hint=hint, status=None)
    raise WaitTimeoutError(
        f"Endpoint {seen.id} was still {seen.state} after {format_duration(timeout)}.",
        hint=f"It goes on, and {seen.cost}. Run the same command again to wait on.",
    )


def _running_on(
    api: EndpointApi, client: Client, endpoints: tuple[Endpoint, ...], model: str, hardware_id: str
) -> tuple[Endpoint, ...]:
    """Those that run on the hardware, or do not tell what they run on."""
    offers = [offer for offer in api.hardware(client, model) if offer.id == hardware_id]
    names = {name for offer in offers for name in (offer.id, offer.instance_type)}
    # A list of version 1 names no hardware; a look at each does.
    seen = (one if one.hardware is not None else api.endpoint(client, one.id) for one in endpoints)
    return tuple(one for one in seen if one.hardware is None or one.hardware in names)


def _priced(api: EndpointApi, client: Client, endpoint: Endpoint, model: str) -> Endpoint:
    """The endpoint with its price, where the service tells it: a list of endpoints does not."""
    if endpoint.cents_per_minute is not None:
        return endpoint
    try:
        found = api.endpoint(client, endpoint.id)
        offers = api.hardware(client, model)
    except ServiceError:
        return endpoint
    # Version 2 tells the instance type of a deployment, and not the configuration that was asked for.
    prices = {name: offer.cents_per_minute for offer in offers for name in (offer.id, offer.instance_type)}
    return replace(found, cents_per_minute=prices.get(found.hardware or ""))


def describe_cost(cents_per_minute: float | None) -> str:
    """Return a price in words: by the hour, as people reckon, and by the minute, as it is billed."""
    if cents_per_minute is None:
        return "costs an unknown price"
    return f"costs ${cents_per_minute * 0.6:,.2f} an hour ({cents_per_minute:g} cents a minute)"


def choose_hardware(offers: tuple[Hardware, ...], wanted: str | None, model: str) -> Hardware:
    """Return the hardware that was asked for, else the cheapest that can be had.

    Raises InputError where what was asked for is not offered, ServiceError where nothing can be had.
    """
    if wanted is not None:
        found = next((offer for offer in offers if offer.id == wanted), None)
        if found is None:
            listed = ", ".join(offer.id for offer in offers) or "none"
            raise InputError(
                f"The hardware '{escape(wanted)}' does not serve {model}: the service lists {listed}.",
                hint=f"Choose one that `lora-packer hardware {model}` lists.",
            )
        return found
    usable = [offer for offer in offers if offer.can_be_had]
    if not usable:
        state = "all of it is taken" if offers else "it lists none"
        raise ServiceError(
            f"The service has no hardware for {model} now: {state}.",
            hint="Try again later, or check that the base model is served on dedicated endpoints.",
        )
    return min(usable, key=lambda offer: (offer.cents_per_minute is None, offer.cents_per_minute or 0.0))


def require_id(text: str) -> str:
    """Return ``text`` where it can be an endpoint's id. Raises InputError."""
    if not _ID.fullmatch(text):
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
