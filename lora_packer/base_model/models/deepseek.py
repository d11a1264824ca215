"""DeepSeek's decoders: latent attention over experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, declared
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    deepseek_experts,
    dense_before,
    fused_experts,
    number_of_experts,
    parameter_routed_experts,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import attends, indexed_decoder, layered
from lora_packer.base_model.blocks.layers import linear, norm
from lora_packer.base_model.blocks.residual import hyper_connections, merged_streams
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def deepseek_v3(s: Settings, *, experts: Experts = fused_experts) -> Named:
    """DeepSeek-V3's decoder, which Kimi-K2 has too."""
    count = deepseek_experts(s)
    return layered(s, attends(s), dense_before(s), count, experts)


def _deepseek_v2(s: Settings, *, experts: Experts = fused_experts) -> Named:
    count = number_of_experts(s, "n_routed_experts", "num_experts")
    return layered(s, attends(s), dense_before(s), count, experts, bias=s.flag("mlp_bias"))


def _deepseek_v2_before_5(s: Settings) -> Named:
    return _deepseek_v2(s, experts=partial(parameter_routed_experts, bias=s.flag("mlp_bias")))


def _deepseek_v32(s: Settings) -> Named:
    return indexed_decoder(s, lambda _index: "full")


def _deepseek_v4(s: Settings) -> Named:
    """DeepSeek-V4's decoder: compressed keys and values, and hyper-connections around each block."""
    s = s.aliased({"intermediate_size": "moe_intermediate_size"})
    hidden, heads, head_dim, rank = (
        s.size(name) for name in ("hidden_size", "num_attention_heads", "head_dim", "q_lora_rank")
    )
    groups, group_rank, mult = s.size("o_groups"), s.size("o_lora_rank"), s.size("hc_mult")
    count = deepseek_experts(s)
    kind, rates = _deepseek_v4_compression(s), s.nested("compress_rates")

    def attention(prefix: str, compression: str) -> Named:
        yield f"{prefix}.sinks", Module("parameter", (heads,))
        yield linear(f"{prefix}.q_a_proj", rank, hidden)
        yield norm(f"{prefix}.q_a_norm", rank)
        yield linear(f"{prefix}.q_b_proj", heads * head_dim, rank)
        yield linear(f"{prefix}.kv_proj", head_dim, hidden)
        yield norm(f"{prefix}.kv_norm", head_dim)
        yield linear(f"{prefix}.o_a_proj", groups * group_rank, heads * head_dim // groups)
        yield linear(f"{prefix}.o_b_proj", hidden, groups * group_rank)
        if compression == "heavily_compressed_attention":
            rate = s.optional_size("compress_rate_hca") or rates.size(compression)
            yield from _deepseek_v4_compressor(f"{prefix}.compressor", hidden, head_dim, head_dim, rate)
        elif compression == "compressed_sparse_attention":
            rate = s.optional_size("compress_rate_csa") or rates.size(compression)
            path, size = f"{prefix}.compressor", s.size("index_head_dim")
            yield from _deepseek_v4_compressor(path, hidden, 2 * head_dim, head_dim, rate)
            yield from _deepseek_v4_compressor(f"{path}.indexer", hidden, 2 * size, size, rate)
            yield linear(f"{path}.indexer.q_b_proj", s.size("index_n_heads") * size, rank)
            yield linear(f"{path}.indexer.scorer.weights_proj", s.size("index_n_heads"), hidden)

    def layer(prefix: str, index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", kind(index))
        yield from fused_experts(f"{prefix}.mlp", hidden, s.size("intermediate_size"), count)
        yield from gated_mlp(
            f"{prefix}.mlp.shared_experts", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias")
        )
        yield from hyper_connections(prefix, hidden, mult)

    yield from stacked(s, layer)
    yield from merged_streams(hidden, mult)


def _deepseek_v4_compressor(prefix: str, hidden: int, width: int, size: int, rate: int) -> Named:
    yield f"{prefix}.position_bias", Module("parameter", (rate, width))
    yield linear(f"{prefix}.kv_proj", width, hidden)
    yield linear(f"{prefix}.gate_proj", width, hidden)
    yield norm(f"{prefix}.kv_norm", size)


def _deepseek_v4_compression(s: Settings) -> Callable[[int], str]:
    """Return how each layer compresses; older configs have ``compress_ratios``."""
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    listed, ratios = s.names("layer_types"), s.value("compress_ratios")
    if listed is None and isinstance(ratios, list):
        listed = tuple(kinds.get(ratio, "") for ratio in ratios if type(ratio) is int)
    return layer_kinds(listed, lambda index: kinds[4] if index > 2 and index % 2 else kinds[128])


DEEPSEEK_V3 = declared(*both_names(deepseek_v3, parameter_routed_experts, framed))

ARCHITECTURES: Mapping[str, Architecture] = {
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v2": declared(framed(_deepseek_v2), {TRANSFORMERS_4: framed(_deepseek_v2_before_5)}),
    "deepseek_v32": declared(framed(_deepseek_v32)),
    "deepseek_v4": declared(framed(_deepseek_v4)),
}
