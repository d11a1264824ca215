"""Inkling's decoders, whose projections are followed by short convolutions."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import attention, qk_norms
from lora_packer.base_model.blocks.experts import fused_experts, fused_weights
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import aliased, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import depthwise, linear, norm
from lora_packer.base_model.module import Module, Named
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


ARCHITECTURES: Mapping[str, Architecture] = {
    "inkling_text": declared(aliased(framed(_inkling), _INKLING_NAMES)),
    "inkling2_text": declared(aliased(framed(_inkling2), _INKLING_NAMES)),
}
