"""Decoders of grouped-query attention with a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, Head, framed, head_modules
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, layer_norm, linear
from lora_packer.base_model.families.common import (
    TRANSFORMER,
    grouped_attention,
    head_sizes,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import (
    Experts,
    both_names,
    fused_weights,
    linear_experts,
    number_of_experts,
    numbered_experts,
    qwen_is_sparse,
    qwen_mixture,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _local_experts(s: Settings) -> int:
    return number_of_experts(s, "num_local_experts", "num_experts")


def _mixtral(s: Settings, *, experts: Experts = fused_experts, block: str = "mlp") -> Named:
    count = _local_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from experts(f"{prefix}.{block}", s.size("hidden_size"), s.size("intermediate_size"), count)

    return stacked(s, layer)


def _minimax_m2(s: Settings) -> Named:
    count = _local_experts(s)
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", heads * head_dim, kv_heads * head_dim)
        yield from fused_experts(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"), count)

    return stacked(s, layer)


def _phimoe(s: Settings) -> Named:
    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        yield linear(f"{prefix}.router", count, hidden)
        yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)

    return _phimoe_of(s, experts, "mlp")


def _phimoe_before_5(s: Settings) -> Named:
    return _phimoe_of(s, numbered_experts, "block_sparse_moe")


def _phimoe_of(s: Settings, experts: Experts, block: str) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from experts(f"{prefix}.{block}", hidden, s.size("intermediate_size"), s.size("num_local_experts"))
        yield from layer_norm(f"{prefix}.input_layernorm", hidden)
        yield from layer_norm(f"{prefix}.post_attention_layernorm", hidden)

    yield from stacked(s, layer, norms=())
    yield "norm.bias", Module("parameter", (hidden,))


def _gpt_oss(s: Settings) -> Named:
    hidden, intermediate, count = s.size("hidden_size"), s.size("intermediate_size"), _local_experts(s)
    bias = s.flag("attention_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield f"{prefix}.self_attn.sinks", Module("parameter", (s.size("num_attention_heads"),))
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        router, experts = f"{prefix}.mlp.router", f"{prefix}.mlp.experts"
        yield f"{router}.weight", Module("parameter", (count, hidden))
        yield f"{router}.bias", Module("parameter", (count,))
        yield f"{experts}.gate_up_proj", Module("parameter", (count, hidden, 2 * intermediate), transposed=True)
        yield f"{experts}.gate_up_proj_bias", Module("parameter", (count, 2 * intermediate))
        yield f"{experts}.down_proj", Module("parameter", (count, intermediate, hidden), transposed=True)
        yield f"{experts}.down_proj_bias", Module("parameter", (count, hidden))

    return stacked(s, layer)


def qwen3_moe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    """Qwen3-MoE's decoder."""
    count, hidden = number_of_experts(s, "num_experts", "num_local_experts"), s.size("hidden_size")
    bias, sparse = s.flag("attention_bias"), qwen_is_sparse(s, count)
    head_dim = head_sizes(s)[2]

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        if sparse(index):
            yield from experts(f"{prefix}.mlp", hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _qwen2_moe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    bias, sparse = s.flag("qkv_bias"), qwen_is_sparse(s, s.count("num_experts"))

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias)
        if sparse(index):
            yield from qwen_mixture(s, f"{prefix}.mlp", experts)
        else:
            yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"))

    return stacked(s, layer)


def _olmoe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    hidden, kv_heads = s.size("hidden_size"), head_sizes(s)[1]
    norms = (hidden, hidden // s.size("num_attention_heads") * kv_heads)
    return _olmo_moe(s, experts, norms, ("input_layernorm", "post_attention_layernorm"))


def _flex_olmo(s: Settings, *, experts: Experts = fused_experts) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)
    norms = (heads * head_dim, kv_heads * head_dim)
    return _olmo_moe(s, experts, norms, ("post_attention_layernorm", "post_feedforward_layernorm"))


def _olmo_moe(s: Settings, experts: Experts, norms: tuple[int, int], layer_norms: tuple[str, str]) -> Named:
    bias = s.flag("attention_bias")
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", *norms)
        yield from experts(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"), count)

    return stacked(s, layer, norms=layer_norms)


def _phimoe_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("lm_head_bias"))


_phimoe_frame = partial(framed, heads=_phimoe_head)
_transformer = partial(framed, answering_prefix=TRANSFORMER)

ARCHITECTURES: Mapping[str, Architecture] = {
    "mixtral": Architecture(
        sizes(32000, 4096, 14336, 32, 32, 8, num_local_experts=8),
        {
            TRANSFORMERS_5: framed(_mixtral),
            TRANSFORMERS_4: framed(partial(_mixtral, experts=numbered_experts, block="block_sparse_moe")),
        },
    ),
    "qwen3_moe": Architecture(
        sizes(151936, 2048, 6144, 24, 32, 4, num_experts=128, moe_intermediate_size=768, decoder_sparse_step=1),
        both_names(qwen3_moe, linear_experts, _transformer),
        (),
    ),
    "qwen2_moe": Architecture(
        sizes(
            151936,
            2048,
            5632,
            24,
            16,
            16,
            num_experts=60,
            moe_intermediate_size=1408,
            decoder_sparse_step=1,
            shared_expert_intermediate_size=5632,
            qkv_bias=True,
        ),
        both_names(_qwen2_moe, linear_experts, framed),
        (),
    ),
    "gpt_oss": Architecture(
        sizes(201088, 2880, 2880, 36, 64, 8, head_dim=64, num_local_experts=128, attention_bias=True),
        {TRANSFORMERS_5: framed(_gpt_oss)},
        (),
    ),
    "minimax_m2": Architecture(
        sizes(200064, 3072, 1536, 62, 48, 8, head_dim=128, num_local_experts=256),
        {TRANSFORMERS_5: framed(_minimax_m2)},
        (),
    ),
    "olmoe": Architecture(
        sizes(50304, 2048, 2048, 16, 16, None, num_experts=64), both_names(_olmoe, linear_experts, framed), ()
    ),
    "flex_olmo": Architecture(
        sizes(100352, 4096, 11008, 32, 32, None, num_experts=7), both_names(_flex_olmo, linear_experts, framed), ()
    ),
    "phimoe": Architecture(
        sizes(32064, 4096, 6400, 32, 32, 8, num_local_experts=16),
        {TRANSFORMERS_5: _phimoe_frame(_phimoe), TRANSFORMERS_4: _phimoe_frame(_phimoe_before_5)},
        (),
    ),
}
