"""Mimi, which makes few numbers of sound and sound of them: convolutions, a transformer on each side, code books.

Names and shapes: transformers/models/mimi/modeling_mimi.py at v5.24.0.
"""

from __future__ import annotations

import math

from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _block(s: Settings, path: str, width: int) -> Named:
    """A block whose output is added to its input."""
    narrow = width // s.size("compress")
    yield from conv(f"{path}.block.1.conv", (narrow, width, s.size("residual_kernel_size")), bias=True)
    yield from conv(f"{path}.block.3.conv", (width, narrow, 1), bias=True)
    if s.flag("use_conv_shortcut"):
        yield from conv(f"{path}.shortcut.conv", (width, width, 1), bias=True)


def _shortening(s: Settings) -> Named:
    """From samples to frames; what acts between the convolutions is numbered with them."""
    width, number, blocks = s.size("num_filters"), 1, s.count("num_residual_layers")
    yield from conv("layers.0.conv", (width, s.size("audio_channels"), s.size("kernel_size")), bias=True)
    for ratio in reversed(s.sizes("upsampling_ratios")):
        for index in range(blocks):
            yield from _block(s, f"layers.{number + index}", width)
        number += blocks + 2
        yield from conv(f"layers.{number - 1}.conv", (2 * width, width, 2 * ratio), bias=True)
        width *= 2
    yield from conv(f"layers.{number + 1}.conv", (s.hidden, width, s.size("last_kernel_size")), bias=True)


def _lengthening(s: Settings) -> Named:
    """From frames to samples; the convolutions that lengthen are of a class of their own."""
    ratios, number, blocks = s.sizes("upsampling_ratios"), 1, s.count("num_residual_layers")
    width = s.size("num_filters") << len(ratios)
    yield from conv("layers.0.conv", (width, s.hidden, s.size("kernel_size")), bias=True)
    for ratio in ratios:
        yield from parameter(f"layers.{number + 1}.conv.weight", width, width // 2, 2 * ratio)
        yield from parameter(f"layers.{number + 1}.conv.bias", width // 2)
        width //= 2
        for index in range(blocks):
            yield from _block(s, f"layers.{number + 2 + index}", width)
        number += blocks + 2
    last = (s.size("audio_channels"), width, s.size("last_kernel_size"))
    yield from conv(f"layers.{number + 1}.conv", last, bias=True)


def _transformer(s: Settings) -> Named:
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from plain_attention(s, f"{path}.self_attn")
        yield from linear(f"{path}.mlp.fc1", s.inner, s.hidden)
        yield from linear(f"{path}.mlp.fc2", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "input_layernorm", "post_attention_layernorm")
        yield from parameter(f"{path}.self_attn_layer_scale.scale", s.hidden)
        yield from parameter(f"{path}.mlp_layer_scale.scale", s.hidden)


def _stride(s: Settings) -> int:
    """How many frames of the convolutions become one: the rate is half of theirs, which is rounded up."""
    samples, rate = math.prod(s.sizes("upsampling_ratios")), s.size("sampling_rate")
    return int(math.ceil(rate / samples) / (rate / (2 * samples)))


def mimi(s: Settings) -> Named:
    """Both sides, and what numbers the frames."""
    kernel = 2 * _stride(s)
    yield from below("encoder.encoder_seanet", _shortening(s))
    yield from below("encoder.encoder_transformer", _transformer(s))
    yield from below("decoder.decoder_transformer", _transformer(s))
    yield from below("decoder.decoder_seanet", _lengthening(s))
    yield from conv("encoder.downsample.conv", (s.hidden, s.hidden, kernel), bias=False)
    yield from parameter("decoder.upsample.conv.weight", s.hidden, s.hidden // s.size("upsample_groups"), kernel)
    inner = s.size("vector_quantization_hidden_dimension")
    for name in ("semantic", "acoustic") if inner != s.hidden else ():
        path = f"quantizer.{name}_residual_vector_quantizer"
        yield from conv(f"{path}.input_proj", (inner, s.hidden, 1), bias=False)
        yield from conv(f"{path}.output_proj", (s.hidden, inner, 1), bias=False)
