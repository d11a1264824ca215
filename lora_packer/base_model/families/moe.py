"""Decoders with a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, fused_experts, separate_experts
from lora_packer.base_model.families.common import decoder, grouped_attention, sizes
from lora_packer.base_model.settings import Settings


def _mixtral(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from fused_experts(f"{prefix}.mlp", *_expert_sizes(s))

    return decoder(s, layer)


def _mixtral_before_5(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from separate_experts(f"{prefix}.block_sparse_moe", *_expert_sizes(s), names=("w1", "w2", "w3"))

    return decoder(s, layer)


def _expert_sizes(s: Settings) -> tuple[int, int, int]:
    return s.size("hidden_size"), s.size("intermediate_size"), s.size("num_local_experts")


ARCHITECTURES: Mapping[str, Architecture] = {
    "mixtral": Architecture(
        sizes(32000, 4096, 14336, 32, 32, 8, num_local_experts=8),
        {TRANSFORMERS_5: framed(_mixtral), TRANSFORMERS_4: framed(_mixtral_before_5)},
    ),
}
