"""GLM's decoders."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import grouped_attention, head_sizes, qk_norms
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    deepseek_experts,
    fused_experts,
    mixture_or_dense,
    parameter_routed_experts,
)
from lora_packer.base_model.blocks.feed_forward import fused_gated_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import attends, indexed_decoder, indexer_kinds, layered
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _glm(s: Settings, *more_norms: str) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        yield from fused_gated_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=(*LAYER_NORMS, *more_norms))


def _glm4(s: Settings) -> Named:
    return _glm(s, "post_self_attn_layernorm", "post_mlp_layernorm")


def glm4_moe(
    s: Settings, *, experts: Experts = fused_experts, normed: bool | None = None, output_bias: bool = False
) -> Named:
    """GLM-4.5's decoder and its relatives: ``normed`` says whether queries and keys have norms."""
    bias, dense, head_dim = s.flag("attention_bias"), s.count("first_k_dense_replace"), head_sizes(s)[2]
    count = deepseek_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias and output_bias)
        if s.flag("use_qk_norm") if normed is None else normed:
            yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, experts, sparse=index >= dense)

    return stacked(s, layer)


def _glm4_moe_lite(s: Settings) -> Named:
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    count = deepseek_experts(s)
    rope = s.aliased({"head_dim": "qk_rope_head_dim"}).size("head_dim")
    return layered(s, attends(s, rope), kind, count)


def _glm_moe_dsa(s: Settings) -> Named:
    """GLM-5's decoder: some layers take over the indexer of an earlier one."""
    return indexed_decoder(s, indexer_kinds(s, offset=s.count("index_skip_topk_offset")))


GLM4_MOE = declared(*both_names(glm4_moe, parameter_routed_experts, framed))

ARCHITECTURES: Mapping[str, Architecture] = {
    "glm": declared(framed(_glm)),
    "glm4": declared(framed(_glm4)),
    "glm4_moe": GLM4_MOE,
    "glm_moe_dsa": declared(framed(_glm_moe_dsa)),
    "glm4_moe_lite": declared(framed(_glm4_moe_lite)),
}
