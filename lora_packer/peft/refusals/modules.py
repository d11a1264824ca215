"""What PEFT 0.21.2 refuses of a config on a base model: one row for each ``raise``.

Each names the line of https://github.com/huggingface/peft/tree/v0.21.2/src/peft that raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Modules
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.redact import escape

_MAMBA_TYPES = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_NOT_IN_MAMBA = frozenset({"out_proj", "conv1d"})


def refused_modules(
    config: LoraConfig, base_model_type: str, modules: Modules, targeted: Mapping[str, tuple[int, float]]
) -> Iterator[Refusal]:
    """Yield what PEFT refuses of the config on this base model.

    Args:
        config: the typed config, in which ``refused_config`` found nothing.
        base_model_type: ``model_type`` of the base model's own config.
        modules: the base model's modules, by path.
        targeted: the paths that get LoRA, with their rank and alpha.
    """
    del config, modules
    yield from _mamba(base_model_type, targeted)


def _mamba(base_model_type: str, targeted: Mapping[str, tuple[int, float]]) -> Iterator[Refusal]:
    """The Mamba kernels take these layers' weights past their ``forward``, where LoRA acts."""
    if base_model_type not in _MAMBA_TYPES:
        return
    refused = [path for path in targeted if path.rpartition(".")[2] in _NOT_IN_MAMBA]
    if refused:
        name = refused[0].rpartition(".")[2]
        message = (
            f"target_modules matches '{escape(refused[0], 80)}': PEFT takes no {name} in {base_model_type}, "
            "whose kernels do not call it"
        )
        if base_model_type == "nemotron_h":
            message += " (PEFT before 0.20 did not refuse it, and the adapter had no effect there)"
        hint = f"Take {name} out of target_modules, and train again without it."
        yield Refusal(
            "target_modules", message, None, escape(refused[0]), hint, "tuners/tuners_utils.py:160", kind="target"
        )
