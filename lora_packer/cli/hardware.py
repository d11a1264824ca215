"""``hardware``: what can serve a model, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.cli.common import Output, command
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion, ModelArgument
from lora_packer.redact import shell_word

if TYPE_CHECKING:
    from lora_packer.together import Hardware


@command
def hardware(
    *,
    model: ModelArgument,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """List what can serve a model: price of one replica, and whether it can be had now."""
    from lora_packer.errors import ServiceError

    with connected(output, api) as (client, choice):
        offers = choice.api.hardware(client, model)
    if not offers:
        raise ServiceError(
            f"The service lists no hardware for {model}.",
            hint="Check the name, and that the base model is served on dedicated endpoints.",
        )
    data = [offer.to_dict() for offer in offers]
    output.result(_table(offers), {"schema_version": 1, "api": choice.name, "model": model, "hardware": data})
    if output.is_text:
        command = f"lora-packer deploy {shell_word(model)} --hardware ID"
        output.note(f"deploy it with `{command}`; that costs money until it is stopped")


def _table(offers: tuple[Hardware, ...]) -> str:
    width = max(len(offer.id) for offer in offers)
    lines = []
    for offer in offers:
        price = "price unknown" if offer.cents_per_minute is None else f"${offer.cents_per_minute * 0.6:,.2f}/h"
        gpus = f"{offer.gpu_count or '?'} x {offer.gpu_type}" if offer.gpu_type else ""
        lines.append(f"{offer.id:<{width}}  {price:>13}  {offer.availability or '':<12}  {gpus}".rstrip())
    return "\n".join(lines)
