"""Sarvam's mixtures of experts, which run in GLM-4.5's and DeepSeek-V3's classes."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.frames import aliased, framed
from lora_packer.base_model.models.deepseek import deepseek_v3
from lora_packer.base_model.models.glm import glm4_moe

# The names of the models' own code.
_NAMES = {"num_experts": "n_routed_experts", "num_shared_experts": "n_shared_experts"}

ARCHITECTURES: Architectures = {
    "sarvam_moe": declared(aliased(framed(glm4_moe), {**_NAMES, "use_qkv_bias": "attention_bias"})),
    "sarvam_mla": declared(aliased(framed(deepseek_v3), _NAMES)),
}
