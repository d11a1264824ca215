"""Encoders of sound: Whisper's and what stands around it."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Build
from lora_packer.base_model.blocks.attention import attention, head_sizes
from lora_packer.base_model.blocks.composite import Beside, Part, below, composite, head_inside, with_towers
from lora_packer.base_model.blocks.encoder_decoder import side_attention, side_layer
from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# Yields what joins the encoder to the language model, from the whole config, the encoder's and the language model's.
Listening = Callable[[Settings, Settings, Settings], Named]
# transformers' ``attribute_map`` of Whisper's relatives, and of those whose fields are named as Whisper's.
WHISPER_NAMES = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
RENAMED_NAMES = {name: alias for alias, name in WHISPER_NAMES.items()}


def whisper_convs(s: Settings, width: int, path: str = "") -> Named:
    """The two convolutions over a spectrogram."""
    yield from conv(f"{path}conv1", (width, s.size("num_mel_bins"), 3), bias=True)
    yield from conv(f"{path}conv2", (width, width, 3), bias=True)


def whisper_layers(s: Settings, *, key_bias: bool = False) -> Named:
    """The layers of Whisper's encoder."""
    for index in range(s.layers):
        path = f"layers.{index}"
        attentions = {"self_attn": side_attention(f"{path}.self_attn", s.hidden, key_bias=key_bias)}
        yield from side_layer(path, s.hidden, s.inner, attentions)


def whisper_encoder(s: Settings) -> Named:
    """Whisper's encoder."""
    yield from whisper_convs(s, s.hidden)
    yield from embedding("embed_positions", s.size("max_source_positions"), s.hidden)
    yield from whisper_layers(s)
    yield from layer_norm("layer_norm", s.hidden)


def conformer(s: Settings) -> Named:
    """A conformer that halves the frames several times before its layers."""
    channels = s.size("subsampling_conv_channels")
    side = s.size("subsampling_conv_kernel_size")
    halvings = s.size("subsampling_factor").bit_length() - 1
    yield from conv("subsampling.layers.0", (channels, 1, side, side), bias=True)
    for index in range(max(halvings - 1, 0)):
        yield from depthwise(f"subsampling.layers.{3 * index + 2}", channels, side, side, bias=True)
        yield from conv(f"subsampling.layers.{3 * index + 3}", (channels, channels, 1, 1), bias=True)
    bands = s.size("num_mel_bins") // s.size("subsampling_conv_stride") ** halvings
    yield from linear("subsampling.linear", s.hidden, channels * bands, bias=True)
    for index in range(s.layers):
        yield from _conformer_layer(s, f"layers.{index}")


def _conformer_layer(s: Settings, path: str) -> Named:
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    for name in ("feed_forward1", "feed_forward2"):
        yield from chain(f"{path}.{name}", (s.hidden, s.inner, s.hidden), "linear1", "linear2", bias=bias)
    yield from attention(f"{path}.self_attn", s.hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
    yield from linear(f"{path}.self_attn.relative_k_proj", heads * head_dim, s.hidden)
    yield from parameter(f"{path}.self_attn.bias_u", heads, head_dim)
    yield from parameter(f"{path}.self_attn.bias_v", heads, head_dim)
    bias = s.flag("convolution_bias")
    yield from conv(f"{path}.conv.pointwise_conv1", (2 * s.hidden, s.hidden, 1), bias=bias)
    yield from depthwise(f"{path}.conv.depthwise_conv", s.hidden, s.size("conv_kernel_size"), bias=bias)
    yield from conv(f"{path}.conv.pointwise_conv2", (s.hidden, s.hidden, 1), bias=bias)
    yield from layer_norm(
        path,
        s.hidden,
        "conv.norm",
        "norm_feed_forward1",
        "norm_self_att",
        "norm_conv",
        "norm_feed_forward2",
        "norm_out",
    )


def hearing(audio: Part, projector: Listening) -> Beside:
    """An encoder of sound and a projector."""

    def beside(s: Settings, text: Settings) -> Named:
        settings, modules = audio.of(s)
        yield from below("audio_tower", modules(settings))
        yield from projector(s, settings, text)

    return beside


def before_5(build: Build) -> dict[str, Build]:
    """The names where the language model had its head inside, and nothing stood below ``model``."""
    return {TRANSFORMERS_4: head_inside(build)}


def heard(text: Part, audio: Part, projector: Listening) -> Architecture:
    """Return the definition of a language model that hears."""
    build = with_towers(text, hearing(audio, projector))
    return composite(build, before_5(build))
