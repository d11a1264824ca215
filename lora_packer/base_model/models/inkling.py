"""Inkling's decoders, whose projections are followed by short convolutions, and the models that see and hear."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TEXT_ONLY_5_23,
    TRANSFORMERS_5_23,
    Architectures,
    Build,
    declared,
)
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    renamed_inside,
    text_only,
    text_part,
    with_output_rows,
    with_towers,
)
from lora_packer.base_model.blocks.experts import fused_experts, fused_weights
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import aliased, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import chain, depthwise, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.towers import scaled_layers
from lora_packer.base_model.models.inkling_scales import planned_scales
from lora_packer.base_model.module import Named
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
    relative = s.size("d_rel")
    heads, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
    yield from attention(prefix, s.hidden, heads, kv_heads, head_dim)
    yield from linear(f"{prefix}.r_proj", heads * relative, s.hidden)
    extent = s.size("sliding_window_size" if sliding else "rel_extent")
    yield from parameter(f"{prefix}.rel_logits_proj.proj", relative, extent)


def _inkling(s: Settings) -> Named:
    """Inkling's decoder: sliding layers have heads of their own, and relative positions are projected."""
    kernel = s.size("conv_kernel_size")
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
        yield from parameter(f"{prefix}{'.gate' if sparse else ''}.global_scale", 1)
        if not sparse:
            yield from gated_mlp(prefix, s.hidden, inner)
            return
        experts, shared = s.size("n_routed_experts"), s.count("n_shared_experts")
        yield from fused_weights(f"{prefix}.experts", s.hidden, expert_inner, experts)
        yield from parameter(f"{prefix}.gate.weight", experts + shared, s.hidden)
        for name in ("gate_proj", "up_proj"):
            yield from parameter(f"{prefix}.shared_experts.{name}", shared, expert_inner, s.hidden)
        yield from parameter(f"{prefix}.shared_experts.down_proj", shared, s.hidden, expert_inner)

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "hybrid_sliding"
        _, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
        yield from _inkling_attention(s, path, sliding=sliding)
        yield from norm(path, head_dim, "q_norm", "k_norm")
        for name in ("k_sconv", "v_sconv"):
            yield from depthwise(f"{path}.{name}.conv1d", kv_heads * head_dim, kernel)
        for name in ("attn_sconv", "mlp_sconv"):
            yield from depthwise(f"{prefix}.{name}.conv1d", s.hidden, kernel)
        yield from feed_forward(f"{prefix}.mlp", sparse=feeds(index) == "sparse")

    yield from stacked(s, layer)
    yield from norm("embed_tokens.embed_norm", s.hidden)


def _message_gate(s: Settings, path: str) -> Named:
    """What a looped layer takes over of the pass before it."""
    rank = s.size("loop_gate_rank")
    yield from linear(f"{path}.down_proj", rank, 2 * s.hidden)
    yield from linear(path, s.hidden, rank, "forget_gate_proj", "message_gate_proj")


def _looped(s: Settings) -> range:
    """The layers that are run several times; older configs nest the fields."""
    older = s.nested("loop_config")
    first, end = (older.optional_size(name) for name in ("core_start", "core_end"))
    return range(first or s.size("loop_layer_index_start"), end or s.size("loop_layer_index_end"))


def _inkling2_loop(s: Settings) -> Named:
    """Inkling 2's decoder, in which some layers are run several times."""
    older, loop = s.nested("loop_config"), _looped(s)
    s = s.with_fields(loop_gate_rank=older.optional_size("gate_rank") or s.size("loop_gate_rank"))
    yield from _inkling2(s, loop)
    yield from parameter("message_input.query", len(loop), 4, s.hidden)


def _inkling2(s: Settings, loop: Collection[int] = ()) -> Named:
    """Inkling 2's decoder: each block chooses what it reads of the layers before it.

    Since transformers 5.24 a projection holds the convolution and the scale that follow it.
    """
    s = s.aliased({"intermediate_size": "moe_intermediate_size"})
    hidden, kernel, relative = s.hidden, s.size("conv_kernel_size"), s.size("d_rel")
    attends = layer_kinds(s.names("layer_types"), lambda index: "hybrid_sliding" if (index + 1) % 6 else "hybrid")

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "hybrid_sliding"
        heads, kv_heads, head_dim = _inkling_heads(s, sliding=sliding)
        yield from linear(f"{path}.q_proj.linear", heads * head_dim, hidden)
        yield from linear(path, kv_heads * head_dim, hidden, "k_proj.linear", "v_proj.linear")
        yield from linear(f"{path}.o_proj.linear", hidden, heads * head_dim)
        yield from linear(f"{path}.o_proj.gate_proj", heads * head_dim, hidden)
        yield from linear(f"{path}.sink_proj", heads, hidden)
        yield from parameter(f"{path}.q_proj.norm.scale", heads, head_dim)
        yield from linear(f"{path}.relative_position_bias.linear", heads * relative, hidden)
        extent = s.size("sliding_window_size" if sliding else "rel_extent")
        yield from parameter(f"{path}.relative_position_bias.proj", relative, extent)
        yield from parameter(f"{path}.relative_position_bias.norm.scale", heads, relative)
        for name in ("k_proj.sconv", "v_proj.sconv"):
            if sliding:
                yield from depthwise(f"{path}.{name}.conv1d", kv_heads * head_dim, kernel)
            else:
                yield from parameter(f"{path}.{name}.static_weight", kernel, kv_heads * head_dim)
                yield from linear(f"{path}.{name}.weight_proj", kv_heads * kernel, hidden)
        if index:
            queries = (hidden,) if sliding else (3, hidden)
            yield from parameter(f"{prefix}.attention_input.query", *queries)
        yield from parameter(f"{prefix}.mlp_input.query", hidden)
        for name in ("",) if sliding else ("q_", "k_", "v_"):
            yield from norm(f"{prefix}.{name}input_layernorm", hidden)
        for name in ("post_attention_convolution", "post_mlp_convolution"):
            yield from depthwise(f"{prefix}.{name}.conv1d", hidden, kernel)
        yield from fused_experts(f"{prefix}.mlp", hidden, s.inner, s.size("n_routed_experts"))
        for name in ("q", "k", "v", "mlp") if index in loop else ():
            yield from _message_gate(s, f"{prefix}.{name}_message_gate")

    yield from stacked(s, layer, norms=("post_attention_layernorm",))
    yield from norm("embed_tokens.embed_norm", hidden)
    yield from parameter("final_input.query", hidden)


# How transformers 5.23 names what is in Inkling 2's attention.
_BEFORE_5_24 = {
    "q_proj.linear": "q_proj",
    "k_proj.linear": "k_proj",
    "v_proj.linear": "v_proj",
    "o_proj.linear": "o_proj",
    "o_proj.gate_proj": "gate_proj",
    "q_proj.norm": "q_l2_clip",
    "k_proj.sconv": "k_sconv",
    "v_proj.sconv": "v_sconv",
    "relative_position_bias.linear": "r_proj",
    "relative_position_bias.norm": "rel_l2_clip",
    "relative_position_bias.proj": "rel_logits_proj.proj",
}


def _inkling_visual(s: Settings, hidden: int) -> Named:
    s = s.aliased({"num_hidden_layers": "n_layers"})
    layers = s.size("n_layers")
    scales = planned_scales(s.size("temporal_patch_size"), s.size("patch_size"), layers, s.size("num_channels"))
    for index, (before, after) in enumerate(pairwise(scales)):
        last, path = index == layers - 1, f"encoder_layers.{index}"
        folded = (after.frames // before.frames) * (after.side // before.side) ** 2
        yield from linear(f"{path}.projection", hidden if last else after.width, before.width * folded)
        if not last:
            yield from norm(f"{path}.layer_norm", after.width)
    yield from norm("final_norm", hidden)


def _inkling_beside(s: Settings, text: Settings) -> Named:
    vision, _ = _VISION_PART.of(s)
    audio, _ = _AUDIO_PART.of(s)
    yield from below("vision_tower", _inkling_visual(vision, text.hidden))
    tokens = audio.size("n_mel_bins") * audio.size("mel_vocab_size")
    yield from embedding("audio_tower.embed_audio_tokens.embed_audio_tokens", tokens, text.hidden)
    yield from norm("audio_tower.norm", text.hidden)


def _inkling2_visual(s: Settings) -> Named:
    s = s.aliased({"native_patch_size": "patch_size", "adapter_merge_size": "spatial_merge_size"})
    hidden, inner = s.hidden, s.optional_size("intermediate_size")
    width, bias = s.size("projection_hidden_dim"), s.flag("projector_bias")
    yield from parameter("embeddings.class_embedding", hidden)
    yield from parameter("embeddings.cls_position_embedding", hidden)
    yield from linear("embeddings.patch_embedding", hidden, s.size("num_channels") * s.size("patch_size") ** 2)
    yield from embedding("embeddings.position_embedding", s.size("posemb_grid_size") ** 2, hidden)
    yield from layer_norm("pre_layernorm", hidden)
    yield from scaled_layers(s, inner or int(hidden * s.ratio("mlp_ratio")))
    yield from chain(
        "merger",
        (hidden * s.size("spatial_merge_size") ** 2, width, s.size("text_hidden_size")),
        "linear_1",
        "linear_2",
        bias=bias,
    )


def _inkling2_beside(s: Settings, _text: Settings) -> Named:
    vision, visual = _VISION2_PART.of(s)
    return below("vision_tower", visual(vision))


def _unpadded(build: Build) -> Build:
    """Since transformers 5.24 the head has no rows for what pads the vocabulary."""
    return with_output_rows(build, lambda s: s.size("unpadded_vocab_size"))


def _unpadded_with_tower(build: Build, text: Part) -> Build:
    return with_output_rows(build, lambda s: text.of(s)[0].size("unpadded_vocab_size"))


_VISION_PART = fixed("vision_config", Tower("inkling_vision", lambda _: iter(())))
_AUDIO_PART = fixed(
    "audio_config",
    Tower("inkling_audio", lambda _: iter(())),
    attribute_map={"num_codebooks": "n_mel_bins", "codebook_size": "mel_vocab_size"},
)
_VISION2_PART = Part("vision_config", "", lambda _: Tower("inkling2_vision", _inkling2_visual), filled=True)
_TEXT2, _TEXT2_LOOP = text_part("inkling2_text"), text_part("inkling2_loop_text")
_INKLING2 = aliased(framed(_inkling2), _INKLING_NAMES)
_INKLING2_MM = with_towers(_TEXT2, _inkling2_beside)

ARCHITECTURES: Architectures = {
    "inkling_text": declared(aliased(framed(_inkling), _INKLING_NAMES)),
    "inkling2_text": declared(_unpadded(_INKLING2), {TRANSFORMERS_5_23: renamed_inside(_INKLING2, _BEFORE_5_24)}),
    "inkling2_loop_text": declared(_unpadded(aliased(framed(_inkling2_loop), _INKLING_NAMES))),
    "inkling_mm_model": composite(with_towers(text_part("inkling_text"), _inkling_beside)),
    "inkling2": composite(
        _unpadded_with_tower(_INKLING2_MM, _TEXT2),
        {
            TRANSFORMERS_5_23: renamed_inside(_INKLING2_MM, _BEFORE_5_24),
            TEXT_ONLY: _unpadded_with_tower(text_only(_TEXT2), _TEXT2),
            TEXT_ONLY_5_23: renamed_inside(text_only(_TEXT2), _BEFORE_5_24),
        },
    ),
    "inkling2_loop": composite(
        _unpadded_with_tower(with_towers(_TEXT2_LOOP, _inkling2_beside), _TEXT2_LOOP),
        {TEXT_ONLY: _unpadded_with_tower(text_only(_TEXT2_LOOP), _TEXT2_LOOP)},
    ),
}
