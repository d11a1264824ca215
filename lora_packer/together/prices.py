"""What costs money and how much: by the state of an endpoint or a deployment, and by the price of a replica."""

from __future__ import annotations

from lora_packer.errors import LoraPackerError

# The states of a v1 endpoint (DedicatedEndpoint in openapi.yaml of github.com/togethercomputer/openapi) and of a v2
# deployment (together 3.1.1, types/deployment_status.py, without the prefix DEPLOYMENT_STATE_).
SERVING = ("STARTED", "READY", "SCALING", "DEGRADED")
BROKEN = ("ERROR", "FAILED")
STOPPING = ("STOPPING",)

DELETED = "DELETED"
"""The state of an endpoint that was deleted; the service has none for it."""

NOTHING_RUNS = ("STOPPED", DELETED)
"""The states in which nothing runs, so that nothing costs money."""


def cents_an_hour(
    state: str, cents_per_minute: float | None, least: int | None, most: int | None, ready: int | None
) -> tuple[float, float] | None:
    """Return between which prices an hour costs, in US cents, by the price of a replica and how many there may be.

    None where that is unknown, as for what has failed. What is stopping costs for the replicas that are still up
    (``ready``).
    """
    if state in NOTHING_RUNS:
        return 0.0, 0.0
    if state in STOPPING:
        least = most = ready
    if cents_per_minute is None or most is None or state in BROKEN:
        return None
    return cents_per_minute * 60 * (most if least is None else least), cents_per_minute * 60 * most


def dollars(cents: float) -> str:
    """Return an amount as people write it."""
    return f"${cents / 100:,.2f}"


def between(low: str, high: str) -> str:
    """Return a range, or one thing where its ends are the same."""
    return low if low == high else f"{low} to {high}"


def hourly_words(price: tuple[float, float] | None) -> str:
    """Return what an hour costs: ``$3.90/h``, ``$3.90 to $7.80/h``, ``-`` for nothing."""
    if price is None:
        return "unknown"
    return f"{between(*map(dollars, price))}/h" if price[1] else "-"


def describe_cost(cents_per_minute: float | None) -> str:
    """Return a price in words: by the hour, as people reckon, and by the minute, as it is billed."""
    if cents_per_minute is None:
        return "costs an unknown price"
    return f"costs ${cents_per_minute * 0.6:,.2f} an hour ({cents_per_minute:g} cents a minute)"


def with_cost(error: LoraPackerError, cost: str) -> LoraPackerError:
    """Return the error with what may still cost money as the last line of what is told."""
    error.hint = f"{error.hint}\n{cost}" if error.hint else cost
    error.tells_cost = True
    return error
