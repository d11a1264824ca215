"""Decoders with experts that are the only one of their name."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.attention import (
    attention,
    grouped_attention,
    head_sizes,
    normed_attention,
    plain_attention,
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
from lora_packer.base_model.blocks.layers import embedding, linear, norm, parameter
from lora_packer.base_model.blocks.recurrent import delta_net
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _solar_open(s: Settings) -> Named:
    count = deepseek_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        yield from deepseek_mixture(s, f"{prefix}.mlp", count)

    return stacked(s, layer)


def _afmoe(s: Settings) -> Named:
    heads, _, head_dim = head_sizes(s)
    dense, count, intermediate = s.count("num_dense_layers"), s.size("num_experts"), s.size("moe_intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
        yield from linear(f"{prefix}.self_attn.gate_proj", heads * head_dim, s.hidden)
        if index < dense:
            yield from plain_mlp(s, f"{prefix}.mlp")
            return
        yield from linear(f"{prefix}.mlp.router.gate", count, s.hidden)
        yield from parameter(f"{prefix}.mlp.expert_bias", count)
        yield from fused_weights(f"{prefix}.mlp.experts", s.hidden, intermediate, count)
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, intermediate * s.size("num_shared_experts"))

    norms = ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
    return stacked(s, layer, norms=norms)


def _mimo_v2_flash(s: Settings) -> Named:
    bias = s.flag("attention_bias")
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
            yield from parameter(f"{path}.sinks", s.heads)
        yield from linear(f"{path}.q_proj", s.heads * head_dim, s.hidden, bias=bias)
        yield from linear(f"{path}.k_proj", kv_heads * head_dim, s.hidden, bias=bias)
        yield from linear(f"{path}.v_proj", kv_heads * value_dim, s.hidden, bias=bias)
        yield from linear(f"{path}.o_proj", s.hidden, s.heads * value_dim)
        if feeds(index) == "sparse":
            yield from fused_experts(f"{prefix}.mlp", s.hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _jetmoe(s: Settings) -> Named:
    """JetMoE: the query and output projections are experts too."""
    count, kv_heads = s.size("num_local_experts"), s.size("num_key_value_heads")
    width = kv_heads * s.aliased({"head_dim": "kv_channels"}).size("head_dim")

    def experts(prefix: str, outwards: int, inwards: int) -> Named:
        yield from parameter(f"{prefix}.bias", s.hidden)
        yield from parameter(f"{prefix}.input_linear.weight", count, outwards, s.hidden)
        yield from parameter(f"{prefix}.output_linear.weight", count, s.hidden, inwards)
        yield from linear(f"{prefix}.router.layer", count, s.hidden)

    def layer(prefix: str, _index: int) -> Named:
        yield from experts(f"{prefix}.self_attention.experts", width, width)
        yield from linear(f"{prefix}.self_attention.kv_proj", 2 * width, s.hidden)
        yield from experts(f"{prefix}.mlp", 2 * s.inner, s.inner)

    return stacked(s, layer)


def _dbrx(s: Settings) -> Named:
    width = s.size("d_model")  # transformers takes the experts' from the declared name alone
    s = s.aliased({"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"})
    hidden, heads = s.hidden, s.heads
    feed, kv_heads = s.nested("ffn_config"), s.nested("attn_config").size("kv_n_heads")
    count, intermediate = feed.size("moe_num_experts"), feed.size("ffn_hidden_size")
    yield from embedding("wte", s.vocab, hidden)
    for index in range(s.layers):
        prefix = f"blocks.{index}"
        attends = f"{prefix}.norm_attn_norm"
        yield from norm(f"{attends}.norm_1", hidden)
        yield from linear(f"{attends}.attn.Wqkv", hidden + 2 * kv_heads * (hidden // heads), hidden)
        yield from linear(f"{attends}.attn.out_proj", hidden, hidden)
        yield from norm(f"{attends}.norm_2", hidden)
        yield from linear(f"{prefix}.ffn.router.layer", count, width)
        for name in ("w1", "v1", "w2"):
            yield from parameter(f"{prefix}.ffn.experts.mlp.{name}", count * intermediate, width)
    yield from norm("norm_f", hidden)


def _dbrx_head(s: Settings, head: Head) -> Named:
    return head_modules(s.aliased({"hidden_size": "d_model"}), head)


def _shared_expert(s: Settings, path: str) -> Named:
    return gated_mlp(path, s.hidden, s.size("shared_expert_intermediate_size"))


def _dense(s: Settings, prefix: str) -> Named:
    return plain_mlp(s, prefix)


def _kolibri1(s: Settings) -> Named:
    head_dim, count = head_sizes(s)[2], aliased_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
        yield from routed_experts(s, f"{prefix}.mlp", count)
        yield from _shared_expert(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer, norms=(*LAYER_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm"))


def _laguna(s: Settings) -> Named:
    """Laguna's decoder: gated attention, whose number of heads may differ between layers."""
    kind, bias = sparse_after(s, 1), s.flag("attention_bias")
    usual, kv_heads, head_dim = head_sizes(s)
    listed = s.numbers("num_attention_heads_per_layer") or ()
    per_head = s.value("gating") is True or s.value("gating") == "per-head"

    def layer(prefix: str, index: int) -> Named:
        path, heads = f"{prefix}.self_attn", listed[index] if index < len(listed) else usual
        yield from attention(path, s.hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        yield from norm(path, head_dim, "q_norm", "k_norm")
        yield from linear(f"{path}.g_proj", heads if per_head else heads * head_dim, s.hidden)
        if kind(index) != "sparse":
            yield from _dense(s, f"{prefix}.mlp")
            return
        yield from routed_experts(s, f"{prefix}.mlp", s.size("num_experts"))
        yield from parameter(f"{prefix}.mlp.gate.e_score_correction_bias", s.size("num_experts"))
        yield from _shared_expert(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer)


def _mellum(s: Settings) -> Named:
    kind, count = sparse_after(s, 0), aliased_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from normed_attention(s, f"{prefix}.self_attn")
        yield from routed_experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _flint(s: Settings) -> Named:
    s = s.filled("mlp_only_layers")
    count = s.count("num_experts")
    sparse = qwen_is_sparse(s, count)

    def layer(prefix: str, index: int) -> Named:
        yield from sinks(s, f"{prefix}.self_attn.sinks")
        yield from normed_attention(s, f"{prefix}.self_attn")
        if sparse(index):
            yield from routed_experts(s, f"{prefix}.mlp", count)
            yield from _shared_expert(s, f"{prefix}.mlp.shared_expert")
        else:
            yield from _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _beam(s: Settings) -> Named:
    kind, (heads, _, head_dim) = sparse_after(s, 3), head_sizes(s)
    count = s.size("num_experts")

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from normed_attention(s, path)
        yield from linear(f"{path}.gate_proj", heads * head_dim, s.hidden)
        yield from parameter(f"{path}.gate_bias", heads)
        yield from routed_experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=(*LAYER_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm"))


def _lara_mini(s: Settings) -> Named:
    """Gated delta nets, with two kinds of attention between them, and experts everywhere."""
    kind = layer_kinds(s.names("layer_types"), lambda index: "linear_attention" if index % 5 in (0, 2) else "attention")
    count = s.size("num_experts")

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from delta_net(s, f"{prefix}.linear_attn", fused=False)
        else:
            yield from normed_attention(s, f"{prefix}.self_attn")
        yield from routed_experts(s, f"{prefix}.mlp", count)
        yield from _shared_expert(s, f"{prefix}.mlp.shared_expert")

    return stacked(s, layer)


ARCHITECTURES: Architectures = {
    "lara_mini": declared(framed(_lara_mini)),
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
