"""Liquid's LFM: short convolutions among attention, with and without a tower."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import grouped_attention, head_sizes
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.experts import fused_experts
from lora_packer.base_model.blocks.feed_forward import numbered_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import chain, depthwise, layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import llava_like, seeing
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _lfm2(s: Settings) -> Named:
    width = s.value("block_ff_dim")
    width = s.inner if width is None else s.size("block_ff_dim")
    if s.flag("block_auto_adjust_ff_dim"):
        width = 2 * width // 3
        if s.value("block_ffn_dim_multiplier") is not None:
            width = int(s.ratio("block_ffn_dim_multiplier") * width)
        multiple = s.size("block_multiple_of")
        width = multiple * -(-width // multiple)
    full = s.indices("full_attn_idxs") if s.value("full_attn_idxs") is not None else None

    def derived(index: int) -> str:
        return "full_attention" if full is None or index in full else "conv"

    return _short_convolutions(s, derived, lambda prefix, _index: numbered_mlp(s, prefix, width))


def _lfm2_moe(s: Settings) -> Named:
    def feed_forward(prefix: str, index: int) -> Named:
        if index < s.count("num_dense_layers"):
            return numbered_mlp(s, prefix, s.inner)
        return fused_experts(prefix, s.hidden, s.size("moe_intermediate_size"), s.size("num_experts"))

    return _short_convolutions(s, lambda _index: "conv", feed_forward)


def _short_convolutions(s: Settings, derived: Callable[[int], str], feed_forward: Callable[[str, int], Named]) -> Named:
    """LFM2's decoder: gated short convolutions and grouped-query attention."""
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("conv_bias")
    kind = layer_kinds(s.names("layer_types"), derived)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "full_attention":
            path = f"{prefix}.self_attn"
            yield from linear(f"{path}.q_proj", heads * head_dim, s.hidden)
            yield from linear(path, kv_heads * head_dim, s.hidden, "k_proj", "v_proj")
            yield from linear(f"{path}.out_proj", s.hidden, heads * head_dim)
            yield from norm(path, head_dim, "q_layernorm", "k_layernorm")
        else:
            yield from depthwise(f"{prefix}.conv.conv", s.hidden, s.size("conv_L_cache"), bias=bias)
            yield from linear(f"{prefix}.conv.in_proj", 3 * s.hidden, s.hidden, bias=bias)
            yield from linear(f"{prefix}.conv.out_proj", s.hidden, s.hidden, bias=bias)
        yield from feed_forward(f"{prefix}.feed_forward", index)

    return stacked(s, layer, norms=("operator_norm", "ffn_norm"), last_norm="embedding_norm")


def _lfm3(s: Settings) -> Named:
    """LFM3's decoder: gated short convolutions, and attention with a gate for each head."""
    head_dim, bias = head_sizes(s)[2], s.flag("attention_bias")
    kinds = {0: "sliding_attention", 2: "full_attention"}
    attends = layer_kinds(s.names("layer_types"), lambda index: kinds.get(index % 4, "conv") if index else "conv")

    def layer(prefix: str, index: int) -> Named:
        if attends(index) == "conv":
            biased = s.flag("conv_bias")
            yield from depthwise(f"{prefix}.conv.conv", s.hidden, s.size("conv_L_cache"), bias=biased)
            yield from linear(f"{prefix}.conv.in_proj", 3 * s.hidden, s.hidden, bias=biased)
            yield from linear(f"{prefix}.conv.out_proj", s.hidden, s.hidden, bias=biased)
        else:
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
            yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
            if s.flag("use_attention_gate"):
                yield from linear(f"{prefix}.self_attn.g_proj", s.heads, s.hidden)
        yield from numbered_mlp(s, f"{prefix}.feed_forward", s.inner)

    after = ("post_operator_norm", "post_ffn_norm") if s.flag("use_sandwich_norm") else ()
    return stacked(s, layer, norms=("operator_norm", "ffn_norm", *after), last_norm="embedding_norm")


def _lfm3_visual(s: Settings) -> Named:
    """Layers of attention between layers of a short convolution over the plane."""
    kv_heads = s.size("num_key_value_heads")
    head_dim, side = s.hidden // s.heads, s.size("conv_kernel_size")
    kind = layer_kinds(s.names("layer_types"), lambda index: "conv" if index < 2 or index % 2 else "full_attention")
    pixels = s.size("in_channels") * s.size("temporal_patch_size") * s.size("patch_size") ** 2
    yield from linear("patch_embed", s.hidden, pixels)
    yield from norm("embedding_norm", s.hidden)
    for index in range(s.layers):
        path = f"layers.{index}"
        if kind(index) == "conv":
            yield from linear(f"{path}.conv.in_proj", 3 * s.hidden, s.hidden)
            yield from depthwise(f"{path}.conv.spatial_conv", s.hidden, side, side)
            yield from linear(f"{path}.conv.out_proj", s.hidden, s.hidden)
        else:
            for name, count in (("q_proj", s.heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
                yield from linear(f"{path}.self_attn.{name}", count * head_dim, s.hidden)
            yield from linear(f"{path}.self_attn.out_proj", s.hidden, s.heads * head_dim)
            yield from norm(f"{path}.self_attn", head_dim, "q_norm", "k_norm")
        yield from linear(f"{path}.feed_forward", s.inner, s.hidden, "w1", "w3")
        yield from linear(f"{path}.feed_forward.w2", s.hidden, s.inner)
        yield from norm(path, s.hidden, "operator_norm", "ffn_norm")


def _lfm3_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    inner, bias = s.size("projector_hidden_size"), s.flag("projector_bias")
    folded = vision.hidden * vision.size("spatial_merge_size") ** 2
    yield from layer_norm("multi_modal_projector.layer_norm", vision.hidden)
    yield from chain("multi_modal_projector", (folded, inner, text.hidden), "linear_1", "linear_2", bias=bias)


def _lfm2_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    folded, inner = vision.hidden * s.size("downsample_factor") ** 2, s.size("projector_hidden_size")
    if s.flag("projector_use_layernorm"):
        yield from layer_norm("multi_modal_projector.layer_norm", folded)
    yield from chain(
        "multi_modal_projector", (folded, inner, text.hidden), "linear_1", "linear_2", bias=s.flag("projector_bias")
    )


ARCHITECTURES: Architectures = {
    "lfm2": declared(framed(_lfm2)),
    "lfm2_moe": declared(framed(_lfm2_moe)),
    "lfm3": declared(framed(_lfm3)),
    "lfm3_vl": composite(
        with_towers(
            text_part("lfm3"), seeing(fixed("vision_config", Tower("lfm3_vl_vision", _lfm3_visual)), _lfm3_projector)
        )
    ),
    "lfm2_vl": llava_like(text_part("lfm2"), vision_config("siglip2_vision_model"), _lfm2_projector),
}
