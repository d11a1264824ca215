"""LoRA tensors for chosen modules of a base model, as PEFT names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from builders import PREFIX, Tensors

from lora_packer.base_model import BaseModel

GPT_OSS: Mapping[str, Any] = {
    "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "hidden_size": 48, "intermediate_size": 80,
    "head_dim": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "num_local_experts": 3,
    "vocab_size": 112, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
PHI3: Mapping[str, Any] = {
    "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 112, "pad_token_id": 0,
}  # fmt: skip
QWEN_VL: Mapping[str, Any] = {
    "model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "vocab_size": 128, "vision_config": {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4,
                                         "out_hidden_size": 64},
}  # fmt: skip
MISTRAL3: Mapping[str, Any] = {
    "model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"],
    "text_config": {"model_type": "mistral", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 112},
    "vision_config": {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
                      "num_attention_heads": 4, "head_dim": 8, "image_size": 28, "patch_size": 14},
}  # fmt: skip
T5: Mapping[str, Any] = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_kv": 16, "d_ff": 128,
    "num_layers": 2, "num_heads": 4, "vocab_size": 320,
}  # fmt: skip


def pair(path: str, inputs: int, outputs: int, rank: int = 4) -> Tensors:
    """Return the two halves of one module's update; 0.3 is no bfloat16, so that nothing is told of its bits."""
    a, b = np.full((rank, inputs), 0.3, np.float32), np.full((outputs, rank), 0.3, np.float32)
    return {f"{PREFIX}{path}.lora_A.weight": a, f"{PREFIX}{path}.lora_B.weight": b}


def lora_on(base: Mapping[str, Any], trained: Callable[[str], bool], rank: int = 4) -> Tensors:
    """Return LoRA for the linear modules of which ``trained`` is true."""
    found: Tensors = {}
    for path, module in BaseModel.load(base).modules.items():
        if module.kind == "linear" and trained(path):
            found |= pair(path, module.in_features, module.out_features, rank)
    return found


def lora_config(**changes: Any) -> dict[str, Any]:
    """Return a config of rank 4."""
    return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **changes}
