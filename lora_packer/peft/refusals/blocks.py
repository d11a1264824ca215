"""What PEFT 0.21.2 refuses of BD-LoRA's blocks on a layer (tuners/lora/variants.py::BdLoraLinearVariant)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Modules
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.redact import escape

_SOURCE = "tuners/lora/variants.py:"


def unfit_blocks(config: LoraConfig, modules: Modules, targeted: Mapping[str, tuple[int, float]]) -> Iterator[Refusal]:
    """Yield the first layer whose halves cannot be divided as ``use_bdlora`` says."""
    settings = config.use_bdlora
    if settings is None:
        return
    in_a = tuple(settings.get("target_modules_bd_a") or ())
    in_b = tuple(settings.get("target_modules_bd_b") or ())
    blocks = settings.get("nblocks", 1)
    for path, (rank, _) in targeted.items():
        module = modules.get(path)
        if module is None or module.kind not in ("linear", "conv1d"):
            continue
        a, b = any(name in path for name in in_a), any(name in path for name in in_b)
        layer = f"'{escape(path, 80)}'"
        if a and b:
            message, line = f"use_bdlora makes both halves of {layer} block-diagonal", "989"
        elif not a and not b and settings.get("match_strict", True):
            message = f"use_bdlora names neither half of {layer}, which match_strict asks for"
            line = "991"
        elif module.kind == "conv1d" and (a or b):
            message, line = f"use_bdlora cannot divide {layer}, which is a Conv1D", "1013"
        elif (a or b) and (rank % blocks or (module.in_features if a else module.out_features) % blocks):
            side = module.in_features if a else module.out_features
            message = f"use_bdlora divides {layer} into {blocks} blocks, and {side} or its rank {rank} is not divisible"
            line = "941"
        else:
            continue
        yield Refusal("use_bdlora", message, None, escape(path), None, _SOURCE + line)
        return
