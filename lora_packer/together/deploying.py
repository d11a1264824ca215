"""How an endpoint that serves is come by: one that is there, or a new one; and how its start is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.redact import escape, shell_word
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Endpoint, EndpointApi, Tell
from lora_packer.together.polling import poll
from lora_packer.together.wanted import Hardware, Wanted

_ANY = Wanted()


def ensure_endpoint(
    api: EndpointApi, client: Client, model: str, wanted: Wanted = _ANY, *, tell: Tell = lambda _: None
) -> tuple[Endpoint, bool]:
    """Return an endpoint of the account for the model, and whether it was created just now.

    One that is there already, on the hardware that is asked for, is taken: each costs money. ``tell`` hears the price
    before anything is created. Raises ServiceError, InputError.
    """
    found = api.endpoints(client, model)
    if wanted.hardware is not None and found:
        found = _running_on(api, client, found, model, wanted.hardware)
    if found:
        return _priced(api, client, found[0], model), False
    return api.deploy(client, model, wanted, tell=tell), True


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
                hint=f"Choose one that `lora-packer hardware {shell_word(model)}` lists.",
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
