"""Emu3: a language model over the codes of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4_51, Architectures
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, renamed, text_only, with_towers
from lora_packer.base_model.blocks.frames import plain_decoder
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear
from lora_packer.base_model.models.chameleon import plane, residual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _volume(path: str, outputs: int, inputs: int, kernel: tuple[int, int, int]) -> Named:
    """Return a convolution over time and a plane, inside its padding."""
    return conv(f"{path}.conv", (outputs, inputs, *kernel), bias=True)


def _spatial_norm(path: str, size: int, *, guide: int) -> Named:
    """A normalisation whose scale and shift come from the quantised image."""
    yield from layer_norm(f"{path}.norm_layer", size)
    yield from plane(f"{path}.conv_y", size, guide, 1)
    yield from plane(f"{path}.conv_b", size, guide, 1)


def _attention(path: str, hidden: int) -> Named:
    yield from linear(path, hidden, hidden, "k_proj", "v_proj", "q_proj", "out_proj", bias=True)


def _middle(s: Settings, channels: int, norm: Callable[[str, int], Named] = layer_norm) -> Named:
    yield from residual("middle_block.block_1", channels, channels, norm)
    yield from _attention("middle_block.attn_1", s.hidden)
    yield from norm("middle_block.attn_norm", channels)
    yield from residual("middle_block.block_2", channels, channels, norm)


def _over_time(s: Settings, channels: int, kernel: tuple[int, int, int]) -> Named:
    """The residual blocks over time, and the layers that halve or double the frames."""
    for index in range(s.size("temporal_downsample_factor").bit_length() - 1):
        yield from _volume(f"time_conv.{index}.conv", channels, channels, kernel)
    for index in range(s.size("num_res_blocks")):
        path = f"time_res_stack.{index}"
        for number in (1, 2):
            yield from layer_norm(f"{path}.norm{number}", channels)
            yield from _volume(f"{path}.conv{number}", channels, channels, (3, 3, 3))


def _encoder(s: Settings) -> Named:
    channels, attends = s.size("base_channels"), s.indices("attn_resolutions")
    multipliers = s.sizes("channel_multiplier")
    latent = s.size("latent_channels") * (2 if s.flag("double_latent") else 1)
    yield from plane("conv_in", channels, s.size("in_channels"))
    for level, outputs in enumerate(s.size("base_channels") * multiplier for multiplier in multipliers):
        path = f"down_block.down.{level}"
        for block in range(s.size("num_res_blocks")):
            yield from residual(f"{path}.block.{block}", channels, outputs)
            channels = outputs
            if level in attends:
                yield from _attention(f"{path}.attn.{block}", s.hidden)
                yield from layer_norm(f"{path}.attn_norms.{block}", channels)
        if level != len(multipliers) - 1:
            yield from plane(f"{path}.downsample.conv", channels, channels)
    yield from _middle(s, channels)
    yield from layer_norm("norm_out", channels)
    yield from plane("conv_out", latent, channels)
    yield from _over_time(s, latent, (4, 3, 3))


def _decoder(s: Settings) -> Named:
    base, multipliers, attends = s.size("base_channels"), s.sizes("channel_multiplier"), s.indices("attn_resolutions")
    norm = partial(_spatial_norm, guide=s.size("embed_dim"))
    channels = base * multipliers[-1]
    yield from _over_time(s, s.size("latent_channels"), (3, 3, 3))
    yield from plane("conv_in", channels, s.size("latent_channels"))
    yield from _middle(s, channels, norm)
    for level in reversed(range(len(multipliers))):
        path, outputs = f"up_block.up.{level}", base * multipliers[level]
        for block in range(s.size("num_res_blocks") + 1):
            yield from residual(f"{path}.block.{block}", channels, outputs, norm)
            channels = outputs
            if level in attends:
                yield from _attention(f"{path}.attn.{block}", s.hidden)
                yield from norm(f"{path}.attn_norms.{block}", channels)
        if level != 0:
            yield from plane(f"{path}.upsample.conv", channels, channels)
    yield from norm("norm_out", channels)
    yield from plane("conv_out", s.size("out_channels"), channels)


def _codes(s: Settings) -> Named:
    width, latent = s.size("embed_dim"), s.size("latent_channels")
    yield from below("encoder", _encoder(s))
    yield from below("decoder", _decoder(s))
    yield from embedding("quantize.embedding", s.size("codebook_size"), width)
    yield from _volume("quant_conv", width, latent, (3, 1, 1))
    yield from _volume("post_quant_conv", latent, width, (3, 1, 1))


def _beside(s: Settings, _text: Settings) -> Named:
    settings, codes = _CODES.of(s)
    return below("vqmodel", codes(settings))


_CODES = fixed("vq_config", Tower("emu3_vqgan", _codes))
_LANGUAGE = fixed("text_config", Tower("emu3_text_model", plain_decoder))
_EMU3 = with_towers(_LANGUAGE, _beside, language="text_model")
_EMU3_BEFORE_4_52 = renamed(
    _EMU3, ("lm_head", "text_model.lm_head"), ("model.text_model.", "text_model.model."), ("model.vqmodel.", "vqmodel.")
)

ARCHITECTURES: Architectures = {
    "emu3": composite(_EMU3, {TEXT_ONLY: text_only(_LANGUAGE), TRANSFORMERS_4_51: _EMU3_BEFORE_4_52})
}
