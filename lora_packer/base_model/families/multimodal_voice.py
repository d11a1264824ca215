"""Models that see and hear: Phi-4 Multimodal and Nemotron Omni."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head, framed
from lora_packer.base_model.blocks import Named, attention, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import sizes
from lora_packer.base_model.families.composite import Part, Tower, below, composite, fixed, with_legacy
from lora_packer.base_model.families.dense_variants import ARCHITECTURES as DENSE
from lora_packer.base_model.families.multimodal_qformer import whole_language_model
from lora_packer.base_model.families.vision import TOWERS, conv, tower_sizes
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _phi4(s: Settings) -> Named:
    """The decoder of Phi-3, and what embeds images and sound."""
    hidden = s.size("hidden_size")
    yield from DENSE["phi3"].dialects[TRANSFORMERS_5](s, "none")
    vision, visual = _PHI4_VISION_PART.of(s)
    width, path = vision.size("hidden_size"), "embed_tokens_extend.image_embed"
    yield from below(f"{path}.img_processor", visual(vision))
    yield linear(f"{path}.img_projection_up", hidden, width, bias=True)
    yield linear(f"{path}.img_projection_down", hidden, hidden, bias=True)
    yield f"{path}.global_img_feature_extensor", Module("parameter", (1, 1, width))
    yield f"{path}.sub_img_feature_extensor", Module("parameter", (1, 1, 1, width))
    audio, heard = _PHI4_AUDIO_PART.of(s)
    path, frames = "embed_tokens_extend.audio_embed", audio.size("hidden_size") * audio.size("downsample_rate")
    yield from below(f"{path}.encoder", heard(audio))
    for name in ("speech", "vision_speech"):
        yield linear(f"{path}.up_proj_for_{name}", hidden, frames, bias=True)
        yield linear(f"{path}.down_proj_for_{name}", hidden, hidden, bias=True)


def _phi4_audio(s: Settings) -> Named:
    """A conformer."""
    hidden, channels = s.size("hidden_size"), s.size("nemo_conv_channels")
    halvings, bands = s.size("time_reduction").bit_length() - 1, s.size("input_size")
    yield conv("embed.conv.0", (channels, 1, 3, 3), bias=True)
    for index in range(max(halvings - 1, 0)):
        yield conv(f"embed.conv.{3 * index + 2}", (channels, 1, 3, 3), bias=True)
        yield conv(f"embed.conv.{3 * index + 3}", (channels, channels, 1, 1), bias=True)
    for _ in range(halvings):
        bands = (bands + 1) // 2
    yield linear("embed.out", hidden, channels * (s.optional_size("nemo_final_size") or bands), bias=True)
    buckets = s.size("bias_max_distance") * (1 if s.flag("bias_symmetric") else 2)
    yield embedding("relative_attention_bias_layer.bias_values", buckets, s.size("num_attention_heads"))
    for index in range(s.size("num_blocks")):
        yield from _phi4_audio_layer(s, f"encoders.{index}", hidden)


def _phi4_audio_layer(s: Settings, path: str, hidden: int) -> Named:
    heads, inner = s.size("num_attention_heads"), s.size("intermediate_size")
    head_dim = s.optional_size("head_dim") or hidden // heads
    for name in ("feed_forward_in", "feed_forward_out"):
        yield from layer_norm(f"{path}.{name}.layer_norm", hidden)
        yield linear(f"{path}.{name}.gate_up_proj", 2 * inner, hidden, bias=True)
        yield linear(f"{path}.{name}.down_proj", hidden, inner, bias=True)
    yield from attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=True, output_bias=True)
    pointwise, deep = s.size("ext_pw_out_channel"), hidden * s.size("depthwise_multiplier")
    yield from layer_norm(f"{path}.conv.layer_norm", hidden)
    yield conv(f"{path}.conv.glu.ext_pw_conv_1d", (2 * pointwise, hidden, 1), bias=True)
    yield f"{path}.conv.glu.b1", Module("parameter", (1, pointwise, 1))
    yield f"{path}.conv.glu.b2", Module("parameter", (1, pointwise, 1))
    yield conv(f"{path}.conv.dw_sep_conv_1d.dw_conv", (deep, 1, s.size("kernel_size")), bias=True)
    separable = (s.size("depthwise_separable_out_channel"), deep, 1)
    yield conv(f"{path}.conv.dw_sep_conv_1d.pw_conv", separable, bias=True)
    yield conv(f"{path}.conv.ext_pw_conv_1d", (pointwise, hidden, 1), bias=True)
    yield from layer_norm(f"{path}.layer_norm_att", hidden)
    yield from layer_norm(f"{path}.layer_norm", hidden)


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
            yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
            yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
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


_PHI4_VISION = tower_sizes(1152, 4304, 27, 16, 14, 448, vision_use_head=True)
_PHI4_AUDIO: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 1536,
    "num_blocks": 24,
    "num_attention_heads": 16,
    "ext_pw_out_channel": 1024,
    "depthwise_separable_out_channel": 1024,
    "depthwise_multiplier": 1,
    "kernel_size": 3,
    "input_size": 80,
    "time_reduction": 8,
    "bias_max_distance": 1000,
    "nemo_conv_channels": 1024,
    "downsample_rate": 1,
}
_RADIO = tower_sizes(
    1280, 0, 32, 16, 16, 224, mlp_ratio=4.0, qkv_bias=True, max_img_size=2048, num_cls_tokens=3, num_registers=7
)
_PARAKEET: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "attention_bias": False,
    "convolution_bias": True,
    "conv_kernel_size": 9,
    "subsampling_factor": 8,
    "subsampling_conv_channels": 256,
    "subsampling_conv_kernel_size": 3,
    "subsampling_conv_stride": 2,
    "num_mel_bins": 80,
}
_PHI4_VISION_PART = fixed("vision_config", Tower(_PHI4_VISION, TOWERS["siglip_vision_model"].modules))
_PHI4_AUDIO_PART = fixed("audio_config", Tower(_PHI4_AUDIO, _phi4_audio))
_RADIO_PART = Part(
    "vision_config", "radio", {"radio": Tower(_RADIO, _radio)}.get, absent={"video_temporal_patch_size": 2}
)
_PARAKEET_PART = fixed("audio_config", Tower(_PARAKEET, _parakeet))
_NEMOTRON = Part("text_config", "nemotron_h", whole_language_model)
_OLDER_NAMES = {"llm_config": "text_config", "sound_config": "audio_config", "vit_hidden_size": "vision_hidden_size"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "phi4_multimodal": Architecture(
        sizes(200064, 3072, 8192, 32, 32, 8), {TRANSFORMERS_5: framed(_phi4)}, default_targets=()
    ),
    "nemotron_h_omni": replace(
        composite(
            {"downsample_ratio": 0.5, "projector_hidden_size": 4096, "vision_hidden_size": 1280},
            with_legacy(_omni, _OLDER_NAMES),
        ),
        input_embedding="embeddings",
    ),
}
