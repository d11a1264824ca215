"""What serves an adapter, and what it costs: hardware, endpoints, a first answer."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from lora_packer.errors import InputError, ServiceError
from lora_packer.redact import escape

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
        return f"lora-packer stop {self.id}" + (" --api v2" if self.id.startswith("ep_") else "")

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
