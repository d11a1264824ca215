"""Ending what costs money, on several endpoints at once: all of them to zero first, then one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from lora_packer.errors import LoraPackerError, ServiceError, WaitTimeoutError
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Endpoint, EndpointApi
from lora_packer.together.polling import Waiting

Target = tuple[str, str | None]
"""An endpoint's id, and the model that alone is ended there; None is the whole endpoint."""


def stop_all(
    api: EndpointApi, client: Client, targets: Sequence[Target], *, delete: bool, waiting: Waiting | None
) -> tuple[Endpoint, ...]:
    """Stop endpoints and return them as they are then. One that fails keeps no other from being stopped.

    Raises the first error (ServiceError, WaitTimeoutError, InputError), whose last line says of all of them what may
    still cost money.
    """
    errors: dict[str, LoraPackerError] = {}
    if len(targets) > 1 and waiting is not None:
        for endpoint_id, model in targets:
            try:
                api.stop(client, endpoint_id, model=model)
            except (ServiceError, WaitTimeoutError) as error:
                errors[endpoint_id] = error
    stopped = []
    for endpoint_id, model in targets:
        try:
            stopped.append(api.stop(client, endpoint_id, delete=delete, model=model, waiting=waiting))
            errors.pop(endpoint_id, None)
        except (ServiceError, WaitTimeoutError) as error:
            errors[endpoint_id] = error
    if not errors:
        return tuple(stopped)
    first = next(iter(errors.values()))
    if len(targets) > 1:
        costs = {one: (error.hint or "").rpartition("\n")[2].strip() for one, error in errors.items()}
        step = (first.hint or "").partition("\n")[0]
        first.hint = f"{step}\n" + " ".join(f"{one}: {cost}" for one, cost in costs.items())
    raise first
