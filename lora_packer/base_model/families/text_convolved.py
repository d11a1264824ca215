"""Decoders with short convolutions around or in place of attention: Inkling, LFM3, ZAYA."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, Head, head_modules
from lora_packer.base_model.blocks import Named, attention, fused_experts, gated_mlp, linear, norm
from lora_packer.base_model.families.common import (
    declared,
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import fused_weights
from lora_packer.base_model.families.hybrid import depthwise, numbered_mlp
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

_INKLING_NAMES = {
    "sliding_window": "sliding_window_size",
    "num_local_experts": "n_routed_experts",
    "sconv_kernel_size": "conv_kernel_size",
}


def _inkling_heads(s: Settings, *, sliding: bool) -> tuple[int, int, int]:
    """The number of query heads, of key and value heads, and the size of a head; sliding layers have their own."""
    prefix = "swa_" if sliding else ""
    heads, kv_heads = s.size(f"{prefix}num_attention_heads"), s.size(f"{prefix}num_key_value_heads")
    return heads, kv_heads, s.size(f"{prefix}head_dim")


def _inkling_attention(s: Settings, prefix: str, *, sliding: bool) -> Named:
    """Attention with projected relative positions."""
    hidden, relative = s.size("hidden_size"), s.size("d_rel")
    heads, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
    yield from attention(prefix, hidden, heads, kv_heads, head_dim)
    yield linear(f"{prefix}.r_proj", heads * relative, hidden)
    extent = s.size("sliding_window_size" if sliding else "rel_extent")
    yield f"{prefix}.rel_logits_proj.proj", Module("parameter", (relative, extent))


def _inkling(s: Settings) -> Named:
    """Inkling's decoder: sliding layers have heads of their own, and relative positions are projected."""
    hidden, kernel = s.size("hidden_size"), s.size("conv_kernel_size")
    local, dense = s.indices("local_layer_ids"), s.count("dense_mlp_idx")
    listed = s.value("local_layer_ids") is not None

    def derived(index: int) -> str:
        return "hybrid_sliding" if (index in local if listed else (index + 1) % 6) else "hybrid"

    attends = layer_kinds(s.names("layer_types"), derived)
    feeds = layer_kinds(s.names("mlp_layer_types"), lambda index: "dense" if index < dense else "sparse")
    # Older configs name the width of the experts as others name that of the dense block.
    older = s.value("dense_intermediate_size") is not None
    inner = s.size("dense_intermediate_size" if older else "intermediate_size")
    expert_inner = s.size("intermediate_size" if older else "moe_intermediate_size")

    def feed_forward(prefix: str, *, sparse: bool) -> Named:
        yield f"{prefix}{'.gate' if sparse else ''}.global_scale", Module("parameter", (1,))
        if not sparse:
            yield from gated_mlp(prefix, hidden, inner)
            return
        experts, shared = s.size("n_routed_experts"), s.count("n_shared_experts")
        yield from fused_weights(f"{prefix}.experts", hidden, expert_inner, experts)
        yield f"{prefix}.gate.weight", Module("parameter", (experts + shared, hidden))
        for name in ("gate_proj", "up_proj"):
            yield f"{prefix}.shared_experts.{name}", Module("parameter", (shared, expert_inner, hidden))
        yield f"{prefix}.shared_experts.down_proj", Module("parameter", (shared, hidden, expert_inner))

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "hybrid_sliding"
        _, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
        yield from _inkling_attention(s, path, sliding=sliding)
        yield from qk_norms(path, head_dim, head_dim)
        for name in ("k_sconv", "v_sconv"):
            yield depthwise(f"{path}.{name}.conv1d", kv_heads * head_dim, kernel)
        for name in ("attn_sconv", "mlp_sconv"):
            yield depthwise(f"{prefix}.{name}.conv1d", hidden, kernel)
        yield from feed_forward(f"{prefix}.mlp", sparse=feeds(index) == "sparse")

    yield from stacked(s, layer)
    yield norm("embed_tokens.embed_norm", hidden)


def _inkling2(s: Settings) -> Named:
    """Inkling 2's decoder: each block chooses what it reads of the layers before it."""
    s = s.aliased({"intermediate_size": "moe_intermediate_size"})
    hidden, kernel, relative = s.size("hidden_size"), s.size("conv_kernel_size"), s.size("d_rel")
    attends = layer_kinds(s.names("layer_types"), lambda index: "hybrid_sliding" if (index + 1) % 6 else "hybrid")

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "hybrid_sliding"
        heads, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
        yield from _inkling_attention(s, path, sliding=sliding)
        yield linear(f"{path}.gate_proj", heads * head_dim, hidden)
        yield linear(f"{path}.sink_proj", heads, hidden)
        yield f"{path}.q_l2_clip.scale", Module("parameter", (heads, head_dim))
        yield f"{path}.rel_l2_clip.scale", Module("parameter", (heads, relative))
        for name in ("k_sconv", "v_sconv"):
            if sliding:
                yield depthwise(f"{path}.{name}.conv1d", kv_heads * head_dim, kernel)
            else:
                yield f"{path}.{name}.static_weight", Module("parameter", (kernel, kv_heads * head_dim))
                yield linear(f"{path}.{name}.weight_proj", kv_heads * kernel, hidden)
        if index:
            queries = (hidden,) if sliding else (3, hidden)
            yield f"{prefix}.attention_input.query", Module("parameter", queries)
        yield f"{prefix}.mlp_input.query", Module("parameter", (hidden,))
        for name in ("",) if sliding else ("q_", "k_", "v_"):
            yield norm(f"{prefix}.{name}input_layernorm", hidden)
        for name in ("post_attention_convolution", "post_mlp_convolution"):
            yield depthwise(f"{prefix}.{name}.conv1d", hidden, kernel)
        yield from fused_experts(f"{prefix}.mlp", hidden, s.size("intermediate_size"), s.size("n_routed_experts"))

    yield from stacked(s, layer, norms=("post_attention_layernorm",))
    yield norm("embed_tokens.embed_norm", hidden)
    yield "final_input.query", Module("parameter", (hidden,))


def _lfm3(s: Settings) -> Named:
    """LFM3's decoder: gated short convolutions, and attention with a gate for each head."""
    hidden, head_dim, bias = s.size("hidden_size"), head_sizes(s)[2], s.flag("attention_bias")
    kinds = {0: "sliding_attention", 2: "full_attention"}
    attends = layer_kinds(s.names("layer_types"), lambda index: kinds.get(index % 4, "conv") if index else "conv")

    def layer(prefix: str, index: int) -> Named:
        if attends(index) == "conv":
            biased = s.flag("conv_bias")
            yield depthwise(f"{prefix}.conv.conv", hidden, s.size("conv_L_cache"), bias=biased)
            yield linear(f"{prefix}.conv.in_proj", 3 * hidden, hidden, bias=biased)
            yield linear(f"{prefix}.conv.out_proj", hidden, hidden, bias=biased)
        else:
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
            yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
            if s.flag("use_attention_gate"):
                yield linear(f"{prefix}.self_attn.g_proj", s.size("num_attention_heads"), hidden)
        yield from numbered_mlp(s, f"{prefix}.feed_forward", s.size("intermediate_size"))

    after = ("post_operator_norm", "post_ffn_norm") if s.flag("use_sandwich_norm") else ()
    return stacked(s, layer, norms=("operator_norm", "ffn_norm", *after), last_norm="embedding_norm")


def _zaya(s: Settings) -> Named:
    """ZAYA's decoder: attention on convolved queries and keys, and a router that is a network of its own."""
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("attention_bias")
    routed, count = s.size("router_hidden_size"), s.size("num_experts")
    width, channels = kv_heads * head_dim, (heads + kv_heads) * head_dim

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn.qkv_proj"
        yield linear(f"{path}.q_proj", heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.k_proj", width, hidden, bias=bias)
        for name in ("v_proj_current", "v_proj_delayed"):
            yield linear(f"{path}.{name}", width // 2, hidden, bias=bias)
        yield depthwise(f"{path}.conv_qk_depthwise", channels, s.size("cca_time0"), bias=True)
        yield f"{path}.conv_qk_grouped", Module("conv", (channels, head_dim, s.size("cca_time1")), True)
        yield linear(f"{prefix}.self_attn.o_proj", hidden, heads * head_dim, bias=bias)
        yield f"{prefix}.self_attn.qk_norm.temp", Module("parameter", (kv_heads,))
        gate, experts = f"{prefix}.mlp.gate", f"{prefix}.mlp.experts"
        yield linear(f"{gate}.down_proj", routed, hidden, bias=True)
        yield norm(f"{gate}.router_mlp.norm", routed)
        for name in ("fc1", "fc2"):
            yield linear(f"{gate}.router_mlp.{name}", routed, routed, bias=True)
        yield linear(f"{gate}.router_mlp.out_proj", count + 1, routed)
        if index:
            yield f"{gate}.router_states_scale", Module("parameter", (routed,))
        yield from fused_weights(experts, hidden, s.size("moe_intermediate_size"), count)
        for block in ("post_attention_residual_scale", "post_mlp_residual_scale"):
            for name in ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias"):
                yield f"{prefix}.{block}.{name}", Module("parameter", (hidden,))

    yield from stacked(s, layer)
    for name in ("input_hidden_states_scale", "input_hidden_states_bias"):
        yield name, Module("parameter", (hidden,))


def _zaya_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("lm_head_bias"))


ARCHITECTURES: Mapping[str, Architecture] = {
    "inkling_text": declared(
        sizes(
            201024,
            6144,
            24576,
            66,
            64,
            8,
            head_dim=128,
            swa_num_attention_heads=64,
            swa_num_key_value_heads=16,
            swa_head_dim=128,
            sliding_window_size=512,
            d_rel=16,
            rel_extent=1024,
            conv_kernel_size=4,
            moe_intermediate_size=3072,
            n_routed_experts=256,
            n_shared_experts=2,
        ),
        _inkling,
        aliases=_INKLING_NAMES,
    ),
    "inkling2_text": declared(
        {
            "vocab_size": 201024,
            "hidden_size": 4608,
            "num_hidden_layers": 48,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "swa_num_attention_heads": 48,
            "swa_num_key_value_heads": 8,
            "swa_head_dim": 128,
            "sliding_window_size": 1024,
            "d_rel": 16,
            "rel_extent": 1024,
            "conv_kernel_size": 4,
            "moe_intermediate_size": 2304,
            "n_routed_experts": 384,
        },
        _inkling2,
        aliases=_INKLING_NAMES,
    ),
    "lfm3": declared(
        sizes(
            128000, 2048, 7680, 24, 16, 4, head_dim=128, conv_L_cache=7, use_sandwich_norm=True, use_attention_gate=True
        ),
        _lfm3,
    ),
    "zaya": declared(
        {
            "vocab_size": 262272,
            "hidden_size": 2048,
            "num_hidden_layers": 40,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "moe_intermediate_size": 2048,
            "num_experts": 16,
            "router_hidden_size": 256,
            "cca_time0": 2,
            "cca_time1": 2,
        },
        _zaya,
        heads=_zaya_head,
    ),
}
