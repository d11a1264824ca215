"""Where the tensors land in the class that vLLM serves, as a user sees it through ``check --target vllm``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, ROOT, ones, tiny_config, write_adapter

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.targets import find_target
from lora_packer.targets.served import Layout, place, served_class

Cli = Callable[..., Any]
CONFIGS = ROOT / "fixtures" / "base-configs"
BEFORE, SINCE = "vllm@0.32.0", "vllm@0.33.0"  # the fallback for a text-only class's names came with 0.33.0
ATTENTION = tuple(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def pairs(modules: Iterable[str]) -> list[str]:
    return [f"{PREFIX}{module}.lora_{half}.weight" for module in modules for half in "AB"]


def layers(before: str, names: Iterable[str], count: int = 2) -> list[str]:
    return pairs(f"{before}.{number}.{name}" for number in range(count) for name in names)


def experts(before: str, names: Iterable[str], count: int = 3) -> list[str]:
    return layers(before, [name.format(number) for number in range(count) for name in names])


def verdict(target: str, architecture: str, names: Iterable[str]) -> str:
    """What becomes of the names: "lands", "part", "nowhere", "refused", "towers" or "no LoRA"."""
    at = find_target(target)
    layout = served_class(at, architecture, "")
    if layout is None:
        return "no LoRA"
    assert isinstance(layout, Layout), layout
    found = place(layout, at, names)
    if found.refused:
        return "refused"
    if found.in_towers:
        return "towers"
    if found.nowhere:
        return "part" if found.landed else "nowhere"
    return "lands"


TEXT = layers("model.layers", (*ATTENTION, *MLP))
WRAPPED = layers("model.language_model.layers", (*ATTENTION, *MLP))
OLD_WRAPPED = layers("language_model.model.layers", (*ATTENTION, *MLP))
ONE_EXPERT = tuple(f"mlp.experts.{{}}.{name}" for name in ("gate_proj", "up_proj", "down_proj"))
MIXTRAL_EXPERT = tuple(f"block_sparse_moe.experts.{{}}.{name}" for name in ("w1", "w2", "w3"))
FUSED = ("mlp.experts", "mlp.experts.base_layer")

# Target, the class that the base config names, the adapter's names, and what vLLM does.
CASES: list[tuple[str, str, str, list[str], str]] = [
    ("text names on the text class", SINCE, "LlamaForCausalLM", TEXT, "lands"),
    ("one projection of a packed module", SINCE, "LlamaForCausalLM", layers("model.layers", ["self_attn.q_proj"]), "lands"),
    ("without PEFT's prefix", SINCE, "LlamaForCausalLM", [name.removeprefix(PREFIX) for name in TEXT], "lands"),
    ("one prefix too many", SINCE, "LlamaForCausalLM", layers("model.model.layers", ATTENTION), "nowhere"),
    ("a module of another block", SINCE, "LlamaForCausalLM", [*TEXT, *layers("model.layers", ["mlp.q_proj"])], "part"),
    ("fused already, on Llama", SINCE, "LlamaForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "refused"),
    ("fused already, on Phi-3", SINCE, "Phi3ForCausalLM", layers("model.layers", ["self_attn.qkv_proj"]), "lands"),
    ("apart, on Phi-3", SINCE, "Phi3ForCausalLM", layers("model.layers", ["self_attn.q_proj"]), "refused"),
    ("the head, on Llama", SINCE, "LlamaForCausalLM", pairs(["lm_head"]), "lands"),
    ("the head, on Qwen2", SINCE, "Qwen2ForCausalLM", pairs(["lm_head"]), "refused"),
    ("text names on the multimodal class, before", BEFORE, "Gemma3ForConditionalGeneration", TEXT, "lands"),
    ("multimodal names on the text class", SINCE, "Gemma3ForCausalLM", WRAPPED, "nowhere"),
    ("its own names on the multimodal class", SINCE, "Gemma3ForConditionalGeneration", WRAPPED, "lands"),
    ("older names on the multimodal class", SINCE, "Gemma3ForConditionalGeneration", OLD_WRAPPED, "lands"),
    ("text names, Qwen3-VL, before", BEFORE, "Qwen3VLForConditionalGeneration", TEXT, "nowhere"),
    ("text names, Qwen3-VL, since", SINCE, "Qwen3VLForConditionalGeneration", TEXT, "lands"),
    ("Mixtral, its experts one by one", SINCE, "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT), "lands"),
    ("Mixtral, two of three projections", SINCE, "MixtralForCausalLM", experts("model.layers", MIXTRAL_EXPERT[:2]), "refused"),
    ("Mixtral, fused", SINCE, "MixtralForCausalLM", layers("model.layers", [f"block_sparse_{n}".replace("mlp", "moe") for n in FUSED]), "refused"),
    ("Mixtral, transformers 5's names, fused", SINCE, "MixtralForCausalLM", layers("model.layers", FUSED), "nowhere"),
    ("gpt-oss, one by one", SINCE, "GptOssForCausalLM", experts("model.layers", ONE_EXPERT), "refused"),
    ("gpt-oss, fused", SINCE, "GptOssForCausalLM", layers("model.layers", FUSED), "lands"),
    ("gpt-oss, half of the fused", SINCE, "GptOssForCausalLM", layers("model.layers", FUSED[:1]), "refused"),
    ("Qwen3-MoE, one by one", SINCE, "Qwen3MoeForCausalLM", experts("model.layers", ONE_EXPERT), "lands"),
    ("Qwen3-MoE, fused", SINCE, "Qwen3MoeForCausalLM", layers("model.layers", FUSED), "refused"),
    ("Qwen3-VL-MoE, one by one", SINCE, "Qwen3VLMoeForConditionalGeneration", experts("model.language_model.layers", ONE_EXPERT), "refused"),
    ("Qwen3-VL-MoE, fused", SINCE, "Qwen3VLMoeForConditionalGeneration", layers("model.language_model.layers", FUSED), "lands"),
    ("GPT-2", SINCE, "GPT2LMHeadModel", pairs(["transformer.h.0.attn.c_attn"]), "no LoRA"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "architecture", "names", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_where_the_tensors_land(target: str, architecture: str, names: list[str], expected: str) -> None:
    assert verdict(target, architecture, names) == expected
