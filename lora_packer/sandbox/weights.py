"""Which weights the sandbox's base models have: some come in two quantizations, and of one nothing is linked.

As the vendor's command line expects it: profiles of one supported model may name different models, one for each
quantization (lib/cli/api/endpoints/_utils/_resolve_model.py in together 3.1.1, ``_config_reference_ids``); the base may
be empty (``types/supported_model.py``), and the list of configurations too (models-and-configs.md in
github.com/togethercomputer/skills).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from lora_packer.frozen import frozen

_QUANTIZED = {"Qwen/Qwen3.5-9B": (("Qwen/Qwen3.5-9B", "bf16"), ("Qwen/Qwen3.5-9B-FP8", "fp8"))}
_UNLINKED = ("mistralai/Mixtral-8x7B-Instruct-v0.1",)


@frozen
class Weights:
    """Weights of a base model: the name of their deployments, and their quantization."""

    name: str
    quantization: str

    @property
    def id(self) -> str:
        """The ``ml_`` id that adapters are created on."""
        return base_id(self.name)


def base_id(name: str) -> str:
    """Return the id that models are created on, for a base model's name; an id is itself."""
    return name if name.startswith("ml_") else f"ml_{uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:20]}"


def weights_of(name: str) -> tuple[Weights, ...]:
    """Return the weights that a supported model has."""
    return tuple(Weights(*one) for one in _QUANTIZED.get(name, ((name, "bf16"),)))


def is_linked(name: str) -> bool:
    """Whether a supported model names its base, and its configurations are in the list of them."""
    return name not in _UNLINKED


def ids_of(names: Sequence[str]) -> set[str]:
    """Return the ids of all weights of these models."""
    return {one.id for name in names for one in weights_of(name)}
