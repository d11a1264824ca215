"""What can serve a model on version 2: the configurations for its base model, with their machines and prices."""

from __future__ import annotations

from typing import Any

from lora_packer.together.answers import fields, listed, number, objects, text
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import paged, project_path
from lora_packer.together.v2.supported import Profile, profiles_of
from lora_packer.together.wanted import Hardware


def offers_for(client: Client, adapter: dict[str, Any]) -> list[tuple[Hardware, str]]:
    """Return the configurations for the adapter's base model with their prices, cheapest first, each with its path.

    Raises ServiceError.
    """
    purpose = Purpose(action="list the configurations")
    configs = _configs(client, adapter, purpose)
    types = client.request("GET", "/v2/public/inference-instance-types", retry=True, purpose=purpose)
    prices = {one.get("name"): one for one in listed(types, purpose)}
    found = []
    for config in configs:
        chosen = _selectors(config)
        count, gpu = chosen.get("accelerator_count", ""), chosen.get("accelerator_type", "")
        kind = prices.get(f"{count}x{gpu}", {})
        cents = number(kind.get("priceCentsPerHour"))
        offer = Hardware(
            id=text(config.get("id")) or "",
            gpu_type=text(gpu) or "",
            gpu_count=int(count) if count.isascii() and count.isdigit() else None,
            cents_per_minute=None if cents is None else cents / 60,
            availability=_availability(kind),
        )
        if offer.id:
            found.append((offer, f"projects/{config.get('projectId')}/configs/{config.get('id')}"))
    return sorted(found, key=lambda pair: (pair[0].cents_per_minute is None, pair[0].cents_per_minute or 0.0, pair[1]))


def machine_prices(client: Client) -> dict[str, float]:
    """Return what each machine costs, in US cents a minute, by its name. Raises ServiceError."""
    purpose = Purpose(action="list the machines and their prices")
    types = client.request("GET", "/v2/public/inference-instance-types", retry=True, purpose=purpose)
    found = {text(one.get("name")): number(one.get("priceCentsPerHour")) for one in listed(types, purpose)}
    return {name: cents / 60 for name, cents in found.items() if name is not None and cents is not None}


def _configs(client: Client, adapter: dict[str, Any], purpose: Purpose) -> list[dict[str, Any]]:
    """The configurations for the adapter's base model, else for the adapter itself, else those of the catalogue.

    The first is often empty for models of the catalogue, whose deployment profiles tell them instead
    (models-and-configs.md in github.com/togethercomputer/skills); the second is what the vendor's command line looks at
    too (lib/cli/api/endpoints/_utils/_resolve_model.py in together 3.1.1).
    """
    ids = dict.fromkeys(str(one) for one in (adapter.get("baseModelId"), adapter["id"]) if one)
    for reference in ids:
        found = paged(client, project_path(client, "configs"), purpose, referenceModelId=reference)
        if found:
            return found
    return [_config(one) for one in profiles_of(client, next(iter(ids))) if one.config]


def _config(profile: Profile) -> dict[str, Any]:
    """A profile as a list of configurations has it."""
    chosen = {"accelerator_type": profile.gpu_type, "accelerator_count": str(profile.gpu_count or "")}
    return {
        "id": profile.config_id,
        "projectId": str(profile.config).split("/")[1],
        "selectors": [{"key": key, "value": value} for key, value in chosen.items()],
    }


def _selectors(config: dict[str, Any]) -> dict[str, str]:
    return {str(one.get("key")): str(one.get("value")) for one in objects(config.get("selectors"))}


def _availability(kind: dict[str, Any]) -> str | None:
    """Whether a region has room; None where the service does not tell."""
    rooms = [fields(one.get("headroom")) for one in objects(kind.get("regions"))]
    told = [(room.get("relation"), number(room.get("value")) or 0) for room in rooms if room]
    if not told:
        return None
    return "available" if any(value > 0 or relation == "RELATION_GTE" for relation, value in told) else "unavailable"
