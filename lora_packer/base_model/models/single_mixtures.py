"""Decoders with experts that are the only one of their name."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.attention import (
    attention,
    grouped_attention,
    head_sizes,
    normed_attention,
    plain_attention,
    qk_norms,
    sinks,
)
from lora_packer.base_model.blocks.experts import (
    aliased_experts,
    deepseek_experts,
    deepseek_mixture,
    fused_experts,
    fused_weights,
    qwen_is_sparse,
    routed_experts,
    sparse_after,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, framed, head_modules, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import linear, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _solar_open(s: Settings) -> Named:
    count = deepseek_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        yield from deepseek_mixture(s, f"{prefix}.mlp", count)

    return stacked(s, layer)


def _afmoe(s: Settings) -> Named:
    (heads, _, head_dim), hidden = head_sizes(s), s.size("hidden_size")
    dense, count, intermediate = s.count("num_dense_layers"), s.size("num_experts"), s.size("moe_intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield linear(f"{prefix}.self_attn.gate_proj", heads * head_dim, hidden)
        if index < dense:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))
            return
        yield linear(f"{prefix}.mlp.router.gate", count, hidden)
        yield f"{prefix}.mlp.expert_bias", Module("parameter", (count,))
        yield from fused_weights(f"{prefix}.mlp.experts", hidden, intermediate, count)
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, intermediate * s.size("num_shared_experts"))

    norms = ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
    return stacked(s, layer, norms=norms)


def _mimo_v2_flash(s: Settings) -> Named:
    hidden, heads, bias = s.size("hidden_size"), s.size("num_attention_heads"), s.flag("attention_bias")
    head_dim, value_dim, few = s.size("head_dim"), s.size("v_head_dim"), s.size("num_key_value_heads")
    attends = layer_kinds(
        s.names("layer_types"), lambda index: "sliding_attention" if index and (index + 1) % 6 else "full_attention"
    )
    feeds = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    count = deepseek_experts(s)

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "sliding_attention"
        kv_heads = 2 * few if sliding else few
        if sliding:
            yield f"{path}.sinks", Module("parameter", (heads,))
        yield linear(f"{path}.q_proj", heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.k_proj", kv_heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.v_proj", kv_heads * value_dim, hidden, bias=bias)
        yield linear(f"{path}.o_proj", hidden, heads * value_dim)
        if feeds(index) == "sparse":
            yield from fused_experts(f"{prefix}.mlp", hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _jetmoe(s: Settings) -> Named:
    """JetMoE: the query and output projections are experts too."""
    hidden, count, kv_heads = s.size("hidden_size"), s.size("num_local_experts"), s.size("num_key_value_heads")
    width = kv_heads * s.aliased({"head_dim": "kv_channels"}).size("head_dim")

    def experts(prefix: str, outwards: int, inwards: int) -> Named:
        yield f"{prefix}.bias", Module("parameter", (hidden,))
        yield f"{prefix}.input_linear.weight", Module("parameter", (count, outwards, hidden))
        yield f"{prefix}.output_linear.weight", Module("parameter", (count, hidden, inwards))
        yield linear(f"{prefix}.router.layer", count, hidden)

    def layer(prefix: str, _index: int) -> Named:
        yield from experts(f"{prefix}.self_attention.experts", width, width)
        yield linear(f"{prefix}.self_attention.kv_proj", 2 * width, hidden)
        yield from experts(f"{prefix}.mlp", 2 * s.size("intermediate_size"), s.size("intermediate_size"))

    return stacked(s, layer)


def _dbrx(s: Settings) -> Named:
    width = s.size("d_model")  # transformers takes the experts' from the declared name alone
    s = s.aliased({"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"})
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    feed, kv_heads = s.nested("ffn_config"), s.nested("attn_config").size("kv_n_heads")
    count, intermediate = feed.size("moe_num_experts"), feed.size("ffn_hidden_size")
    yield "wte", Module("embedding", (s.size("vocab_size"), hidden))
    for index in range(s.size("num_hidden_layers")):
        prefix = f"blocks.{index}"
        attends = f"{prefix}.norm_attn_norm"
        yield norm(f"{attends}.norm_1", hidden)
        yield linear(f"{attends}.attn.Wqkv", hidden + 2 * kv_heads * (hidden // heads), hidden)
        yield linear(f"{attends}.attn.out_proj", hidden, hidden)
        yield norm(f"{attends}.norm_2", hidden)
        yield linear(f"{prefix}.ffn.router.layer", count, width)
        for name in ("w1", "v1", "w2"):
            yield f"{prefix}.ffn.experts.mlp.{name}", Module("parameter", (count * intermediate, width))
    yield norm("norm_f", hidden)


def _dbrx_head(s: Settings, head: Head) -> Named:
    return head_modules(s.aliased({"hidden_size": "d_model"}), head)


def _shared_expert(s: Settings, path: str) -> Named:
    return gated_mlp(path, s.size("hidden_size"), s.size("shared_expert_intermediate_size"))


def _dense(s: Settings, prefix: str) -> Named:
    return plain_mlp(s, prefix)


def _kolibri1(s: Settings) -> Named:
    head_dim, count = head_sizes(s)[2], aliased_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield from routed_experts(s, f"{prefix}.mlp", count)
        yield from _shared_expert(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer, norms=(*LAYER_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm"))


def _laguna(s: Settings) -> Named:
    """Laguna's decoder: gated attention, whose number of heads may differ between layers."""
    kind, hidden, bias = sparse_after(s, 1), s.size("hidden_size"), s.flag("attention_bias")
    usual, kv_heads, head_dim = head_sizes(s)
    listed = s.numbers("num_attention_heads_per_layer") or ()
    per_head = s.value("gating") is True or s.value("gating") == "per-head"

    def layer(prefix: str, index: int) -> Named:
        path, heads = f"{prefix}.self_attn", listed[index] if index < len(listed) else usual
        yield from attention(path, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        yield from qk_norms(path, head_dim, head_dim)
        yield linear(f"{path}.g_proj", heads if per_head else heads * head_dim, hidden)
        if kind(index) != "sparse":
            yield from _dense(s, f"{prefix}.mlp")
            return
        yield from routed_experts(s, f"{prefix}.mlp", s.size("num_experts"))
        yield f"{prefix}.mlp.gate.e_score_correction_bias", Module("parameter", (s.size("num_experts"),))
        yield from _shared_expert(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer)


def _mellum(s: Settings) -> Named:
    kind, count = sparse_after(s, 0), aliased_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from normed_attention(s, f"{prefix}.self_attn")
        yield from routed_experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _flint(s: Settings) -> Named:
    if s.value("mlp_only_layers") is None:
        s = s.with_fields(mlp_only_layers=[0, 1])
    count = s.count("num_experts")
    sparse = qwen_is_sparse(s, count)

    def layer(prefix: str, index: int) -> Named:
        yield sinks(s, f"{prefix}.self_attn")
        yield from normed_attention(s, f"{prefix}.self_attn")
        if sparse(index):
            yield from routed_experts(s, f"{prefix}.mlp", count)
            yield from _shared_expert(s, f"{prefix}.mlp.shared_expert")
        else:
            yield from _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _beam(s: Settings) -> Named:
    kind, hidden, (heads, _, head_dim) = sparse_after(s, 3), s.size("hidden_size"), head_sizes(s)
    count = s.size("num_experts")

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from normed_attention(s, path)
        yield linear(f"{path}.gate_proj", heads * head_dim, hidden)
        yield f"{path}.gate_bias", Module("parameter", (heads,))
        yield from routed_experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=(*LAYER_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm"))


ARCHITECTURES: Mapping[str, Architecture] = {
    "solar_open": declared(framed(_solar_open)),
    "afmoe": declared(framed(_afmoe)),
    "mimo_v2_flash": declared(framed(_mimo_v2_flash)),
    "jetmoe": declared(framed(_jetmoe)),
    "dbrx": declared(framed(_dbrx, prefix="transformer.", heads=_dbrx_head), input_embedding="wte"),
    "kolibri1": declared(framed(_kolibri1)),
    "laguna": declared(framed(_laguna)),
    "mellum": declared(framed(_mellum)),
    "flint": declared(framed(_flint)),
    "beam": declared(framed(_beam)),
}
