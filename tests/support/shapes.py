"""Adapters as shapes alone, against small base models of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builders import PREFIX

from lora_packer.adapter import TensorInfo
from lora_packer.adapter.config import parse_config
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.diagnosis import diagnose

Shapes = Mapping[str, tuple[int, ...]]

LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 112,
}
BLOOM = {"model_type": "bloom", "hidden_size": 64, "n_layer": 1, "n_head": 4, "vocab_size": 112}
BIOGPT = {"model_type": "biogpt", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
BIOGPT |= {"intermediate_size": 96, "vocab_size": 112}
GPTJ = {"model_type": "gptj", "n_embd": 64, "n_layer": 1, "n_head": 4, "rotary_dim": 8, "vocab_size": 112}
JAMBA = {"model_type": "jamba", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 112}
JAMBA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
JAMBA |= {"expert_layer_period": 2, "expert_layer_offset": 5, "mamba_dt_rank": 8, "mamba_expand": 2, "mamba_d_conv": 4}
QWEN3_MOE = {"model_type": "qwen3_moe", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
QWEN3_MOE |= {
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 3,
    "moe_intermediate_size": 20,
    "vocab_size": 112,
}


def told(base: Mapping[str, Any], config: Mapping[str, Any], shapes: Shapes) -> tuple[Finding, ...]:
    parsed, problems = parse_config({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **config})
    assert not problems
    tensors = {PREFIX + name: TensorInfo("F32", shape, 0, 0) for name, shape in shapes.items()}
    return diagnose(parsed, BaseModel.load(base), tensors).findings


def pair(path: str, inner: int, outer: int, rank: int = 4) -> Shapes:
    return {f"{path}.lora_A.weight": (rank, inner), f"{path}.lora_B.weight": (outer, rank)}


def q_proj(layers: int = 2, prefix: str = "model.") -> Shapes:
    pairs = [pair(f"{prefix}layers.{layer}.self_attn.q_proj", 48, 64) for layer in range(layers)]
    return {name: shape for item in pairs for name, shape in item.items()}
