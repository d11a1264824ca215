"""From a model's name to an endpoint that serves, without paying twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lora_packer.duration import format_duration
from lora_packer.errors import ServiceError, WaitTimeoutError
from lora_packer.together.client import Client
from lora_packer.together.endpoint import Endpoint
from lora_packer.together.polling import poll

if TYPE_CHECKING:
    from lora_packer.together import Api


def ensure_endpoint(
    api: Api, client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None
) -> tuple[Endpoint, bool]:
    """Return an endpoint of the account for the model, and whether it was created just now.

    One that is there already is taken: each costs money. Raises ServiceError, InputError.
    """
    for found in api.endpoints(client, model):
        if hardware_id is None or found.hardware in (None, hardware_id):
            return _priced(api, client, found, model), False
    return api.deploy(client, model, hardware_id=hardware_id, display_name=display_name), True


def serve(
    api: Api,
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


def _priced(api: Api, client: Client, endpoint: Endpoint, model: str) -> Endpoint:
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
