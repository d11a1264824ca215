"""What can be wrong with the tiny adapter: each a change of its tensors and its config, and the repair that mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from builders import PREFIX, Tensors


def names(change: Callable[[str], str]) -> Callable[[Tensors, dict[str, Any]], tuple[Tensors, dict[str, Any]]]:
    return lambda tensors, config: ({change(name): tensor for name, tensor in tensors.items()}, config)


def settings(**changes: Any) -> Callable[[Tensors, dict[str, Any]], tuple[Tensors, dict[str, Any]]]:
    def change(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
        return tensors, {name: value for name, value in {**config, **changes}.items() if value is not ...}

    return change


def values(change: Callable[[str, Any], Any]) -> Callable[[Tensors, dict[str, Any]], tuple[Tensors, dict[str, Any]]]:
    return lambda tensors, config: ({name: change(name, tensor) for name, tensor in tensors.items()}, config)


def exchanged(name: str) -> str:
    return name.replace("lora_A", "lora_X").replace("lora_B", "lora_A").replace("lora_X", "lora_B")


BREAKAGES: dict[str, tuple[str, Any]] = {
    "prefix lost": ("names", names(lambda name: name.removeprefix(PREFIX))),
    "prefix twice": ("names", names(lambda name: PREFIX + name)),
    "one model. lost": ("names", names(lambda name: name.replace("model.model.model.", "model.model.", 1))),
    "one model. too many": ("names", names(lambda name: name.replace(PREFIX, PREFIX + "model.", 1))),
    "module. in front": ("names", names(lambda name: "module." + name)),
    "_orig_mod. in front": ("names", names(lambda name: "_orig_mod." + name)),
    "_orig_mod. behind the prefix": ("names", names(lambda name: name.replace(PREFIX, PREFIX + "_orig_mod."))),
    "FSDP's segment": ("names", names(lambda name: name.replace(".self_attn", "._fsdp_wrapped_module.self_attn"))),
    "checkpointing": ("names", names(lambda name: name.replace(".q_proj", ".q_proj._checkpoint_wrapped_module"))),
    "several wrappers": (
        "names",
        names(lambda name: "module._forward_module." + name.replace(".q_proj", "._orig_mod.q_proj")),
    ),
    "default left": ("adapter-name", names(lambda name: name.replace("lora_A", "lora_A.default"))),
    "another name left": ("adapter-name", names(lambda name: name.replace(".weight", ".my_run.weight"))),
    "lower case": ("names", names(lambda name: name.replace("lora_A", "lora_a").replace("lora_B", "lora_b"))),
    "no .weight": ("names", names(lambda name: name.removesuffix(".weight"))),
    "exchanged": ("swapped-names", names(exchanged)),
    "transposed": ("transposed", values(lambda _, tensor: np.ascontiguousarray(tensor.T))),
    "A alone transposed": ("transposed", values(lambda n, t: np.ascontiguousarray(t.T) if "lora_A" in n else t)),
    "unknown field": ("unknown-fields", settings(brand_new=1, another=None)),
    "peft_type in lower case": ("field-value", settings(peft_type="lora")),
    "no peft_type": ("field-value", settings(peft_type=...)),
    "alpha as text": ("field-value", settings(lora_alpha="8")),
    "r as a fraction": ("field-value", settings(r=4.0)),
    "no pattern": ("field-value", settings(rank_pattern=None)),
    "a target missing": ("targets", settings(target_modules=["q_proj"])),
    "no target": ("targets", settings(target_modules=["c_attn"])),
    "a target too many": ("targets", settings(target_modules=["q_proj", "v_proj", "k_proj"])),
    "layers left out": ("targets", settings(layers_to_transform=[0])),
    "excluded": ("targets", settings(exclude_modules=["v_proj"])),
}
