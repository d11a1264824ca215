"""Apertus, and Apertus 1.5, which sees and hears by codes of images and of sound."""

from __future__ import annotations

from lora_packer.base_model.architecture import TEXT_ONLY, Architectures, declared
from lora_packer.base_model.blocks.attention import normed_attention
from lora_packer.base_model.blocks.composite import (
    Tower,
    below,
    composite,
    fixed,
    text_only,
    with_output_rows,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import ungated_mlp
from lora_packer.base_model.blocks.frames import decoder, framed
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, parameter
from lora_packer.base_model.models.chameleon import middle_block, plane, plane_attention, residual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _apertus_mlp(s: Settings, path: str) -> Named:
    yield from ungated_mlp(s, path)
    if s.value("hidden_act") == "xielu":  # an activation with parameters of its own
        yield from parameter(f"{path}.act_fn.alpha_p", 1)
        yield from parameter(f"{path}.act_fn.alpha_n", 1)


_apertus = decoder(
    {"self_attn": normed_attention, "mlp": _apertus_mlp}, ("attention_layernorm", "feedforward_layernorm")
)


def _image_codes(s: Settings) -> Named:
    """The encoder of VQGAN, and its codebook as a linear."""
    base, multipliers, latent = s.size("base_channels"), s.sizes("channel_multiplier"), s.size("latent_channels")
    resolutions, resolution = s.indices("attn_resolutions"), s.size("resolution")
    channels = base
    yield from plane("encoder.conv_in", channels, s.size("in_channels"))
    for level, outputs in enumerate(base * multiplier for multiplier in multipliers):
        for block in range(s.size("num_res_blocks")):
            path = f"encoder.stages.{level}.layers.{block}"
            yield from residual(f"{path}.resnet", channels, outputs)
            channels = outputs
            if resolution >> level in resolutions:
                yield from plane_attention(f"{path}.attention", channels)
        if level != len(multipliers) - 1:
            yield from plane(f"encoder.stages.{level}.downsample.conv", channels, channels)
    yield from middle_block("encoder.mid", channels)
    yield from layer_norm("encoder.norm_out", channels)
    yield from plane("encoder.conv_out", latent, channels)
    yield from linear("quantize.embedding", s.size("codebook_size"), s.size("embed_dim"))
    yield from plane("quant_conv", s.size("embed_dim"), latent, 1)


def _over_time(s: Settings, path: str, outputs: int, inputs: int, kernel: int) -> Named:
    """A convolution whose weight is normalised, or what comes out of it."""
    yield from conv(f"{path}.conv", (outputs, inputs, kernel), bias=True)
    if s.value("norm_type") == "time_group_norm":
        yield from layer_norm(f"{path}.norm", outputs)
    else:
        yield from parameter(f"{path}.conv.parametrizations.weight.original0", outputs, 1, 1)
        yield from parameter(f"{path}.conv.parametrizations.weight.original1", outputs, inputs, kernel)


def _sound_codes(s: Settings) -> Named:
    """The encoder of WavTokenizer; between its numbered layers stand activations without parameters."""
    channels, index = s.size("num_filters"), 1
    yield from _over_time(s, "encoder.layers.0", channels, s.size("audio_channels"), s.size("kernel_size"))
    for ratio in reversed(s.sizes("upsampling_ratios")):
        for _ in range(s.count("num_residual_layers")):
            path, narrow = f"encoder.layers.{index}", channels // s.size("compress")
            yield from _over_time(s, f"{path}.block.1", narrow, channels, s.size("residual_kernel_size"))
            yield from _over_time(s, f"{path}.block.3", channels, narrow, 1)
            if s.flag("use_conv_shortcut"):
                yield from _over_time(s, f"{path}.shortcut", channels, channels, 1)
            index += 1
        yield from _over_time(s, f"encoder.layers.{index + 1}", 2 * channels, channels, 2 * ratio)
        channels, index = 2 * channels, index + 2
    for layer in range(s.size("num_lstm_layers")):
        for kind, shape in (("weight", (4 * channels, channels)), ("bias", (4 * channels,))):
            for way in ("ih", "hh"):
                yield from parameter(f"encoder.layers.{index}.lstm.{kind}_{way}_l{layer}", *shape)
    last = f"encoder.layers.{index + 2}"
    yield from _over_time(s, last, s.size("hidden_size"), channels, s.size("last_kernel_size"))


def _beside(s: Settings, _text: Settings) -> Named:
    for path, part in (("vision_tokenizer", _IMAGES), ("audio_tokenizer", _SOUND)):
        settings, modules = part.of(s)
        yield from below(path, modules(settings))


def _output_rows(s: Settings) -> int:
    """The head may leave out the rows of what is only read."""
    return s.optional_size("output_vocab_size") or s.vocab


def _output_rows_of_text(s: Settings) -> int:
    return _output_rows(_TEXT.of(s)[0])


_TEXT = fixed("text_config", Tower("apertus1p5_text", _apertus))
_IMAGES = fixed("vision_config", Tower("apertus1p5_vision_tokenizer", _image_codes))
_SOUND = fixed("audio_config", Tower("wavtokenizer_encoder", _sound_codes))

ARCHITECTURES: Architectures = {
    "apertus": declared(framed(_apertus)),
    "apertus1p5_text": declared(with_output_rows(framed(_apertus), _output_rows)),
    "apertus1p5": composite(
        with_output_rows(with_towers(_TEXT, _beside), _output_rows_of_text),
        {TEXT_ONLY: with_output_rows(text_only(_TEXT), _output_rows_of_text)},
    ),
}
