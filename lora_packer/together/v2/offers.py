"""What can serve a model on version 2: the configurations for its base model, with their machines and prices."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.together.answers import listed
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.project import paged, project_path
from lora_packer.together.v2.supported import profiles_of
from lora_packer.together.v2.told_models import ToldModel
from lora_packer.together.v2.told_offers import Config, Machine, Profile, config_in, machine_in
from lora_packer.together.wanted import Hardware

_DIGITS = 6  # of a number of GPUs; no machine has so many
_GPU, _GPUS = "accelerator_type", "accelerator_count"  # the keys under which a configuration selects its machine


def offers_for(client: Client, adapter: ToldModel) -> list[tuple[Hardware, str]]:
    """Return the configurations for the adapter's base model with their prices, cheapest first, each with its path.

    Raises ServiceError.
    """
    purpose = Purpose(action="list the configurations")
    configs = _configs(client, adapter, purpose)
    machines = {one.name: one for one in _machines(client, purpose)}
    found = [(_offer(config, machines), config.path) for config in configs]
    return sorted(found, key=lambda pair: (pair[0].cents_per_minute is None, pair[0].cents_per_minute or 0.0, pair[1]))


def machine_prices(client: Client) -> dict[str, float]:
    """Return what each machine costs, in US cents a minute, by its name. Raises ServiceError."""
    found = _machines(client, Purpose(action="list the machines and their prices"))
    return {one.name: one.cents_per_hour / 60 for one in found if one.name and one.cents_per_hour is not None}


def _machines(client: Client, purpose: Purpose) -> list[Machine]:
    types = client.request("GET", "/v2/public/inference-instance-types", retry=True, purpose=purpose)
    return [machine_in(one) for one in listed(types, purpose)]


def _offer(config: Config, machines: Mapping[str | None, Machine]) -> Hardware:
    count, gpu = config.selectors.get(_GPUS, ""), config.selectors.get(_GPU, "")
    machine = machines.get(f"{count}x{gpu}", Machine(None, None, None))
    return Hardware(
        id=config.id,
        gpu_type=gpu,
        gpu_count=int(count) if count.isascii() and count.isdigit() and len(count) < _DIGITS else None,
        cents_per_minute=None if machine.cents_per_hour is None else machine.cents_per_hour / 60,
        availability=machine.availability,
    )


def _configs(client: Client, adapter: ToldModel, purpose: Purpose) -> list[Config]:
    """The configurations for the adapter's base model, else for the adapter itself, else those of the catalogue.

    The first is often empty for models of the catalogue, whose deployment profiles tell them instead
    (models-and-configs.md in github.com/togethercomputer/skills); the second is what the vendor's command line looks at
    too (lib/cli/api/endpoints/_utils/_resolve_model.py in together 3.1.1).
    """
    ids = dict.fromkeys(one for one in (adapter.base_id, adapter.id) if one)
    for reference in ids:
        found = paged(client, project_path(client, "configs"), purpose, config_in, referenceModelId=reference)
        if found:
            return found
    profiles = profiles_of(client, next(iter(ids)))
    return [_config(one, *one.config) for one in profiles if one.config]


def _config(profile: Profile, project: str, config: str) -> Config:
    """A profile as a list of configurations has it."""
    return Config(config, project, {_GPU: profile.gpu_type, _GPUS: str(profile.gpu_count or "")})
