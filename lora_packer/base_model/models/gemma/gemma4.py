"""Gemma 4: the decoders, the towers, and the model that writes by diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_5,
    Architectures,
    Head,
    declared,
)
from lora_packer.base_model.blocks.composite import (
    Tower,
    below,
    composite,
    fixed,
    head_of_text,
    text_only,
    text_part,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import (
    fields_by_layer,
    framed,
    layer_kinds,
    stacked,
)
from lora_packer.base_model.blocks.layers import conv, depthwise, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.models.gemma.decoders import NORMS_AROUND_BOTH
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _gemma4_unified(s: Settings, head: Head) -> Named:
    """Gemma 4's decoder without experts and without inputs for each layer."""
    plain = s.with_fields(hidden_size_per_layer_input=0, enable_moe_block=False)
    return GEMMA4_TEXT.dialects[TRANSFORMERS_5](plain, head)


def _gemma4_attends(s: Settings) -> Callable[[int], str]:
    """Every sixth layer has full attention, unless the config says otherwise; the last one always has."""
    derived = layer_kinds(
        s.names("layer_types"), lambda index: "sliding_attention" if (index + 1) % 6 else "full_attention"
    )
    last = s.layers - 1
    return lambda index: "full_attention" if index == last else derived(index)


def _gemma4_of_layer(s: Settings, saved: Mapping[str, Any] | None, *, full: bool) -> Settings:
    """The config as one layer sees it: by the fields saved for it, or as layers of full attention have other heads."""
    mine: Mapping[str, Any]
    if saved is not None:
        mine = saved
    elif full:
        mine = {"head_dim": s.size("global_head_dim")}
        kv_heads = s.optional_size("num_global_key_value_heads")
        if s.flag("attention_k_eq_v") and kv_heads is not None:
            mine["num_key_value_heads"] = kv_heads
    else:
        mine = {}
    return s.with_fields(**mine)


def _gemma4_attention(s: Settings, path: str, *, shares: bool, values: bool) -> Named:
    """Attention; a layer that shares the keys of an earlier one has none of its own."""
    bias, head_dim = s.flag("attention_bias"), s.size("head_dim")
    queries, keys = s.heads * head_dim, s.size("num_key_value_heads") * head_dim
    yield from linear(f"{path}.q_proj", queries, s.hidden, bias=bias)
    yield from norm(f"{path}.q_norm", head_dim)
    if not shares:
        yield from linear(f"{path}.k_proj", keys, s.hidden, bias=bias)
        yield from norm(f"{path}.k_norm", head_dim)
        if values:
            yield from linear(f"{path}.v_proj", keys, s.hidden, bias=bias)
    yield from linear(f"{path}.o_proj", s.hidden, queries, bias=bias)


def _gemma4_experts(s: Settings, path: str) -> Named:
    inner, experts = s.size("moe_intermediate_size"), s.size("num_experts")
    yield from linear(f"{path}.router.proj", experts, s.hidden)
    yield from parameter(f"{path}.router.scale", s.hidden)
    yield from parameter(f"{path}.router.per_expert_scale", experts)
    yield from parameter(f"{path}.experts.gate_up_proj", experts, 2 * inner, s.hidden)
    yield from parameter(f"{path}.experts.down_proj", experts, s.hidden, inner)
    yield from norm(
        path, s.hidden, "post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"
    )


def _gemma4_text(s: Settings) -> Named:
    per_layer = s.count("hidden_size_per_layer_input")
    first_sharing = s.layers - s.count("num_kv_shared_layers")
    attends, by_layer = _gemma4_attends(s), fields_by_layer(s)

    def layer(prefix: str, index: int) -> Named:
        full, shares = attends(index) == "full_attention", index >= first_sharing
        values = not (s.flag("attention_k_eq_v") and full)
        own = _gemma4_of_layer(s, None if by_layer is None else by_layer.get(index, {}), full=full)
        yield from _gemma4_attention(own, f"{prefix}.self_attn", shares=shares, values=values)
        widening = 2 if s.flag("use_double_wide_mlp") and shares else 1
        yield from gated_mlp(f"{prefix}.mlp", s.hidden, s.inner * widening)
        if per_layer:
            yield from linear(f"{prefix}.per_layer_input_gate", per_layer, s.hidden)
            yield from linear(f"{prefix}.per_layer_projection", s.hidden, per_layer)
            yield from norm(f"{prefix}.post_per_layer_input_norm", s.hidden)
        if s.flag("enable_moe_block"):
            yield from _gemma4_experts(s, prefix)

    yield from stacked(s, layer, norms=NORMS_AROUND_BOTH)
    if per_layer:
        rows = s.size("vocab_size_per_layer_input")
        yield from embedding("embed_tokens_per_layer", rows, s.layers * per_layer)
        yield from linear("per_layer_model_projection", s.layers * per_layer, s.hidden)
        yield from norm("per_layer_projection_norm", per_layer)


GEMMA4_TEXT = declared(framed(_gemma4_text))


def _clippable(path: str, out_features: int, in_features: int) -> Named:
    """A linear inside a module that may clip what goes in and comes out."""
    return linear(f"{path}.linear", out_features, in_features)


def gemma4_visual(s: Settings) -> Named:
    """Gemma 4's tower."""
    head_dim = s.size("head_dim")
    queries, keys = s.heads * head_dim, s.size("num_key_value_heads") * head_dim
    yield from linear("patch_embedder.input_proj", s.hidden, 3 * s.size("patch_size") ** 2)
    positions = (2, s.size("position_embedding_size"), s.hidden)
    yield from parameter("patch_embedder.position_embedding_table", *positions)
    for index in range(s.layers):
        path = f"encoder.layers.{index}"
        yield from _clippable(f"{path}.self_attn.q_proj", queries, s.hidden)
        yield from _clippable(f"{path}.self_attn.k_proj", keys, s.hidden)
        yield from _clippable(f"{path}.self_attn.v_proj", keys, s.hidden)
        yield from _clippable(f"{path}.self_attn.o_proj", s.hidden, queries)
        yield from norm(f"{path}.self_attn", head_dim, "q_norm", "k_norm")
        yield from _clippable(f"{path}.mlp.gate_proj", s.inner, s.hidden)
        yield from _clippable(f"{path}.mlp.up_proj", s.inner, s.hidden)
        yield from _clippable(f"{path}.mlp.down_proj", s.hidden, s.inner)
        yield from norm(path, s.hidden, *NORMS_AROUND_BOTH)


def _gemma4_audio(s: Settings) -> Named:
    first, second = s.pair("subsampling_conv_channels")
    for index, shape in enumerate([(first, 1, 3, 3), (second, first, 3, 3)]):
        yield from conv(f"subsample_conv_projection.layer{index}.conv", shape, bias=False)
        yield from norm(f"subsample_conv_projection.layer{index}.norm", shape[0])
    yield from linear("subsample_conv_projection.input_proj_linear", s.hidden, first // 4 * second)
    for index in range(s.layers):
        yield from _gemma4_audio_layer(s, f"layers.{index}", s.hidden)
    yield from linear("output_proj", s.size("output_proj_dims"), s.hidden, bias=True)


def _gemma4_audio_layer(s: Settings, path: str, hidden: int) -> Named:
    """A conformer layer: attention and a convolution between two feed-forward blocks."""
    for name in ("feed_forward1", "feed_forward2"):
        yield from _clippable(f"{path}.{name}.ffw_layer_1", 4 * hidden, hidden)
        yield from _clippable(f"{path}.{name}.ffw_layer_2", hidden, 4 * hidden)
        yield from norm(f"{path}.{name}", hidden, "pre_layer_norm", "post_layer_norm")
    head_dim = hidden // s.heads
    width = head_dim * s.heads
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from _clippable(f"{path}.self_attn.{name}", width, hidden)
    yield from _clippable(f"{path}.self_attn.post", hidden, hidden)
    yield from linear(f"{path}.self_attn.relative_k_proj", width, hidden)
    yield from parameter(f"{path}.self_attn.per_dim_scale", head_dim)
    yield from _clippable(f"{path}.lconv1d.linear_start", 2 * hidden, hidden)
    yield from _clippable(f"{path}.lconv1d.linear_end", hidden, hidden)
    yield from depthwise(f"{path}.lconv1d.depthwise_conv1d", hidden, s.size("conv_kernel_size"))
    yield from norm(
        path, hidden, "lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"
    )


def gemma4_beside(s: Settings, text: Settings) -> Named:
    """The towers that the config has, each with what projects its features."""
    for kind, part, width in (
        ("vision", GEMMA4_VISION, "hidden_size"),
        ("audio", _GEMMA4_AUDIO_PART, "output_proj_dims"),
    ):
        if s.value(part.name) is not None:
            settings, modules = part.of(s)
            yield from below(f"{kind}_tower", modules(settings))
            yield from linear(f"embed_{kind}.embedding_projection", text.hidden, settings.size(width))


def _gemma4_unified_beside(s: Settings, text: Settings) -> Named:
    """Patches and samples are projected straight to the language model's width, where the config has their part."""
    if s.value("vision_config") is not None:
        vision, _ = _UNIFIED_VISION_PART.of(s)
        pixels = 3 * (vision.size("patch_size") * vision.size("pooling_kernel_size")) ** 2
        width = vision.size("mm_embed_dim")
        yield from layer_norm("embed_vision.patch_ln1", pixels)
        yield from linear("embed_vision.patch_dense", width, pixels, bias=True)
        yield from layer_norm("embed_vision.patch_ln2", width)
        yield from parameter("embed_vision.pos_embedding", vision.size("mm_posemb_size"), 2, width)
        yield from layer_norm("embed_vision.pos_norm", width)
        path = "embed_vision.multimodal_embedder.embedding_projection"
        yield from linear(path, text.hidden, vision.size("output_proj_dims"))
    if s.value("audio_config") is not None:
        audio, _ = _UNIFIED_AUDIO_PART.of(s)
        yield from linear("embed_audio.embedding_projection", text.hidden, audio.size("audio_embed_dim"))


def _diffusion_text(s: Settings) -> Named:
    """Gemma 4's decoder with experts in every layer, where full attention has no values of its own."""
    plain = s.with_fields(
        hidden_size_per_layer_input=0, num_kv_shared_layers=0, enable_moe_block=True, attention_k_eq_v=True
    )
    return GEMMA4_TEXT.dialects[TRANSFORMERS_5](plain, "none")


def _diffusion(s: Settings, head: Head) -> Named:
    """An encoder that sees, and a decoder of the same shape that is fed its own last guess."""
    before = "" if head == "none" else "model."
    (text, decoder), (vision, visual) = _DIFFUSION_TEXT.of(s), GEMMA4_VISION.of(s)
    yield from below(f"{before}encoder.language_model", decoder(text))
    yield from below(f"{before}encoder.vision_tower", visual(vision))
    yield from linear(f"{before}encoder.embed_vision.embedding_projection", text.hidden, vision.hidden)
    yield from below(f"{before}decoder", decoder(text))
    yield from norm(f"{before}decoder.self_conditioning.pre_norm", text.hidden)
    yield from plain_mlp(text, f"{before}decoder.self_conditioning")
    yield from head_of_text(s, text, head)


_GEMMA4_TEXT_PART = fixed("text_config", Tower("gemma4_text", _gemma4_text))
GEMMA4_VISION = fixed("vision_config", Tower("gemma4_vision", gemma4_visual))
_GEMMA4_AUDIO_PART = fixed("audio_config", Tower("gemma4_audio", _gemma4_audio))
_UNIFIED_VISION_PART = fixed("vision_config", Tower("gemma4_unified_vision", lambda _: iter(())))
_UNIFIED_AUDIO_PART = fixed("audio_config", Tower("gemma4_unified_audio", lambda _: iter(())))
_UNIFIED_TEXT = text_part("gemma4_unified_text")
_DIFFUSION_TEXT = fixed("text_config", Tower("diffusion_gemma_text", _diffusion_text))

ARCHITECTURES: Architectures = {
    "gemma4_unified_text": declared(_gemma4_unified),
    "gemma4_text": GEMMA4_TEXT,
    "gemma4": composite(
        with_towers(_GEMMA4_TEXT_PART, gemma4_beside),
        {TEXT_ONLY: text_only(_GEMMA4_TEXT_PART)},
        targets=r".*language_model\..*\.(q_proj|v_proj)",
    ),
    "gemma4_unified": composite(
        with_towers(_UNIFIED_TEXT, _gemma4_unified_beside), {TEXT_ONLY: text_only(_UNIFIED_TEXT)}
    ),
    "diffusion_gemma": composite(_diffusion, input_embedding="language_model.embed_tokens"),
}
