"""NVIDIA's models that see or hear: Nemotron-H Omni and Cosmos 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lora_packer.base_model.architecture import Architecture, Head
from lora_packer.base_model.blocks.attention import attention, plain_attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    whole_language_model,
    with_legacy,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import stacked
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip2
from lora_packer.base_model.models.qwen_vl import QWEN3_VL
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _edge_text(s: Settings) -> Named:
    mlp_bias, inner = s.flag("mlp_bias"), s.size("intermediate_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield linear(f"{prefix}.mlp.fc1", inner, s.size("hidden_size"), bias=mlp_bias)
        yield linear(f"{prefix}.mlp.fc2", s.size("hidden_size"), inner, bias=mlp_bias)

    return stacked(s, layer)


def _edge_visual(s: Settings) -> Named:
    """SigLIP 2 without its pooling head."""
    return siglip2(s.with_fields(vision_use_head=False))


def _edge_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden, inner = vision.size("hidden_size"), s.size("projector_hidden_size")
    yield from layer_norm("projector.norm", hidden)
    yield linear("projector.linear_fc1", inner, hidden * vision.size("spatial_merge_size") ** 2, bias=True)
    yield linear("projector.linear_fc2", text.size("hidden_size"), inner, bias=True)


def _radio(s: Settings) -> Named:
    """C-RADIO: patches of images and of pairs of frames, and several class tokens."""
    hidden, patch = s.size("hidden_size"), s.size("num_channels") * s.size("patch_size") ** 2
    heads, inner = s.size("num_attention_heads"), int(s.size("hidden_size") * s.ratio("mlp_ratio"))
    head_dim, frames = s.optional_size("head_dim") or hidden // heads, s.optional_size("video_temporal_patch_size")
    side = s.size("max_img_size") // s.size("patch_size")
    tokens = s.count("num_cls_tokens") + s.count("num_registers")
    yield "embeddings.position_embedding", Module("parameter", (1, side * side, hidden))
    yield "embeddings.cls_register_token", Module("parameter", (tokens, hidden))
    yield linear("embeddings.patch_projection", hidden, patch)
    if frames is not None:
        yield linear("embeddings.video_patch_projection", hidden, frames * patch)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        bias = s.flag("qkv_bias")
        yield from attention(f"{path}.attention", hidden, heads, heads, head_dim, bias=bias, output_bias=True)
        if s.flag("use_swiglu_ffn"):
            yield from gated_mlp(f"{path}.mlp", hidden, (int(inner * 2 / 3) + 7) // 8 * 8, bias=True)
        else:
            yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
        for number in (1, 2):
            yield from layer_norm(f"{path}.norm{number}", hidden)
            yield f"{path}.layer_scale{number}.lambda1", Module("parameter", (hidden,))


def _parakeet(s: Settings) -> Named:
    """A conformer that halves the frames several times before its layers."""
    channels, side, halvings = (
        s.size("subsampling_conv_channels"),
        s.size("subsampling_conv_kernel_size"),
        s.size("subsampling_factor").bit_length() - 1,
    )
    yield conv("subsampling.layers.0", (channels, 1, side, side), bias=True)
    for index in range(max(halvings - 1, 0)):
        yield conv(f"subsampling.layers.{3 * index + 2}", (channels, 1, side, side), bias=True)
        yield conv(f"subsampling.layers.{3 * index + 3}", (channels, channels, 1, 1), bias=True)
    bands = s.size("num_mel_bins") // s.size("subsampling_conv_stride") ** halvings
    yield linear("subsampling.linear", s.size("hidden_size"), channels * bands, bias=True)
    for index in range(s.size("num_hidden_layers")):
        yield from _parakeet_layer(s, f"layers.{index}")


def _parakeet_layer(s: Settings, path: str) -> Named:
    hidden, inner, heads = s.size("hidden_size"), s.size("intermediate_size"), s.size("num_attention_heads")
    head_dim, bias, folded = (
        s.optional_size("head_dim") or hidden // heads,
        s.flag("attention_bias"),
        (hidden, hidden, 1),
    )
    for name in ("feed_forward1", "feed_forward2"):
        yield linear(f"{path}.{name}.linear1", inner, hidden, bias=bias)
        yield linear(f"{path}.{name}.linear2", hidden, inner, bias=bias)
    yield from attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=bias, output_bias=bias)
    yield linear(f"{path}.self_attn.relative_k_proj", heads * head_dim, hidden)
    yield f"{path}.self_attn.bias_u", Module("parameter", (heads, head_dim))
    yield f"{path}.self_attn.bias_v", Module("parameter", (heads, head_dim))
    bias = s.flag("convolution_bias")
    yield conv(f"{path}.conv.pointwise_conv1", (2 * hidden, hidden, 1), bias=bias)
    yield conv(f"{path}.conv.depthwise_conv", (hidden, 1, s.size("conv_kernel_size")), bias=bias)
    yield conv(f"{path}.conv.pointwise_conv2", folded, bias=bias)
    for name in ("conv.norm", "norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"):
        yield from layer_norm(f"{path}.{name}", hidden)


def _omni(s: Settings, _head: Head) -> Named:
    (text, language), (vision, visual) = _NEMOTRON.of(s), _RADIO_PART.of(s)
    hidden, seen = text.size("hidden_size"), s.size("vision_hidden_size")
    yield from below("language_model", language(text))
    yield from below("vision_model", visual(vision))
    if text.count("num_nextn_predict_layers"):
        yield from layer_norm("vision_final_layernorm", seen)
    folded = seen * int(1 / s.ratio("downsample_ratio")) ** 2
    yield from _omni_projector("multi_modal_projector", folded, s.size("projector_hidden_size"), hidden)
    if s.value("audio_config") is not None:
        audio, heard = _PARAKEET_PART.of(s)
        inner, bias = audio.size("projection_hidden_size"), audio.flag("projection_bias")
        yield from below("audio_tower", heard(audio))
        yield from _omni_projector("embed_audio", audio.size("hidden_size"), inner, hidden, bias=bias)


def _omni_projector(path: str, inputs: int, inner: int, outputs: int, *, bias: bool = False) -> Named:
    yield norm(f"{path}.layer_norm", inputs)
    yield linear(f"{path}.linear_1", inner, inputs, bias=bias)
    yield linear(f"{path}.linear_2", outputs, inner, bias=bias)


_EDGE_TEXT = fixed("text_config", Tower("cosmos3_edge_text", _edge_text))
_RADIO_PART = Part("vision_config", "radio", {"radio": Tower("radio", _radio)}.get)
_PARAKEET_PART = fixed("audio_config", Tower("parakeet_encoder", _parakeet))
_NEMOTRON = Part("text_config", "nemotron_h", whole_language_model)
_OLDER_NAMES = {"llm_config": "text_config", "sound_config": "audio_config", "vit_hidden_size": "vision_hidden_size"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "cosmos3_omni": QWEN3_VL,
    "cosmos3_edge": composite(
        with_towers(
            _EDGE_TEXT,
            seeing(fixed("vision_config", Tower("cosmos3_edge_vision", _edge_visual)), _edge_projector, "visual"),
        )
    ),
    "nemotron_h_omni": replace(composite(with_legacy(_omni, _OLDER_NAMES)), input_embedding="embeddings"),
}
