"""What a model is served on, between how many replicas, and what that costs; also where it was only tried."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.together.prices import between, describe_cost, dollars


@frozen
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


@frozen
class Wanted:
    """What an endpoint shall be like.

    Attributes:
        hardware: what to serve on, by its id; None is the cheapest that can be had.
        name: what the endpoint is called; None is the model's own name.
        min_replicas, max_replicas: between how many replicas it scales.
        inactive_timeout: minutes without a request after which it stops by itself; 0 is never, None the service's
            default.
    """

    hardware: str | None = None
    name: str | None = None
    min_replicas: int = 1
    max_replicas: int = 1
    inactive_timeout: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or not self.max_replicas:
            raise InputError(
                f"Between {self.min_replicas} and {self.max_replicas} replicas is not possible.",
                hint="Give --max-replicas that is at least 1 and at least --min-replicas.",
            )

    def price(self, cents_per_minute: float | None) -> str:
        """What it will cost, in words."""
        if cents_per_minute is None:
            return "costs an unknown price"
        each = describe_cost(cents_per_minute)
        if self.max_replicas == 1 and self.min_replicas == 1:
            return each
        low, high = (dollars(cents_per_minute * 60 * count) for count in (self.min_replicas, self.max_replicas))
        replicas = between(str(self.min_replicas), str(self.max_replicas))
        return f"{each} for each replica: {between(low, high)} an hour for {replicas} replicas"


@frozen
class Rehearsal:
    """A deployment that was only tried.

    Attributes:
        model: what would be deployed.
        hardware: what it would run on.
        wanted: what was asked for.
        there: the id of an endpoint that serves the model already; None where one would be created.
        judged_below: the id of the endpoint below which the service judged it, and refused nothing; None where the
            service was not asked.
        why_not: why it was not asked; empty where it was.
    """

    model: str
    hardware: Hardware
    wanted: Wanted
    there: str | None = None
    judged_below: str | None = None
    why_not: str = ""

    @property
    def price(self) -> str:
        """What it would cost, in words."""
        return self.wanted.price(self.hardware.cents_per_minute)

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return {
            "model": self.model,
            "hardware": self.hardware.to_dict(),
            "min_replicas": self.wanted.min_replicas,
            "max_replicas": self.wanted.max_replicas,
            "price": self.price,
            "there": self.there,
            "judged": self.judged_below is not None,
            "not_judged": self.why_not or None,
        }
