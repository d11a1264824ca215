"""The parts of Qwen's omni models that speak: from codes to sound."""

from __future__ import annotations

from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import stacked
from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError

# The width of the embedding of a diffusion step (modeling_qwen2_5_omni.py, DiTTimestepEmbedding).
_TIME_WIDTH = 256
# The convolutions of one residual block, and how many there are of each kind.
_CONVS = 3


def _snake(path: str, channels: int) -> Named:
    """An activation with two learned vectors."""
    yield from parameter(f"{path}.alpha", channels)
    yield from parameter(f"{path}.beta", channels)


def _upward(path: str, inputs: int, outputs: int, kernel: int) -> Named:
    """A transposed convolution, which PEFT cannot adapt: two parameters."""
    yield from parameter(f"{path}.weight", inputs, outputs, kernel)
    yield from parameter(f"{path}.bias", outputs)


def _speaker(s: Settings) -> Named:
    """The ECAPA-TDNN encoder of the speaker."""
    channels, kernels = s.numbers("enc_channels") or (), s.numbers("enc_kernel_sizes") or ()
    if len(channels) < 2 or len(channels) != len(kernels):
        raise InputError(
            "the base config's enc_channels and enc_kernel_sizes are not as long as each other.",
            hint="Use the base model's own config.json.",
        )
    last, attended, squeezed = channels[-1], s.size("enc_attention_channels"), s.size("enc_se_channels")
    scale = s.size("enc_res2net_scale")
    yield from conv("blocks.0.conv", (channels[0], s.size("mel_dim"), kernels[0]), bias=True)
    for index in range(1, len(channels) - 1):
        path, inputs, outputs = f"blocks.{index}", channels[index - 1], channels[index]
        yield from conv(f"{path}.tdnn1.conv", (outputs, inputs, 1), bias=True)
        part = outputs // scale
        for block in range(scale - 1):
            yield from conv(f"{path}.res2net_block.blocks.{block}.conv", (part, part, kernels[index]), bias=True)
        yield from conv(f"{path}.tdnn2.conv", (outputs, outputs, 1), bias=True)
        yield from conv(f"{path}.se_block.conv1", (squeezed, outputs, 1), bias=True)
        yield from conv(f"{path}.se_block.conv2", (outputs, squeezed, 1), bias=True)
    yield from conv("mfa.conv", (last, last, kernels[-1]), bias=True)
    yield from conv("asp.tdnn.conv", (attended, 3 * last, 1), bias=True)
    yield from conv("asp.conv", (last, attended, 1), bias=True)
    yield from conv("fc", (s.size("enc_dim"), 2 * last, 1), bias=True)


def diffusion(s: Settings) -> Named:
    """Qwen2.5-Omni's diffusion transformer, from codes to a spectrogram."""
    mels, width = s.size("mel_dim"), s.size("emb_dim")
    projected, inner = s.size("head_dim") * s.heads, s.hidden * s.size("ff_mult")
    yield from chain("time_embed.time_mlp", (_TIME_WIDTH, s.hidden, s.hidden), "0", "2", bias=True)
    yield from embedding("text_embed.codec_embed", s.size("num_embeds") + 1, width)
    read = mels + s.size("enc_dim") + s.size("enc_emb_dim") + width
    yield from linear("input_embed.proj", s.hidden, read, bias=True)
    yield from below("input_embed.spk_encoder", _speaker(s))
    for index in range(s.layers):
        path = f"transformer_blocks.{index}"
        yield from linear(f"{path}.attn_norm.linear", 6 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{path}.attn", projected, s.hidden, "to_q", "to_k", "to_v", bias=True)
        yield from linear(f"{path}.attn.to_out.0", s.hidden, projected, bias=True)
        yield from chain(f"{path}.ff.ff", (s.hidden, inner, s.hidden), "0", "3", bias=True)
    yield from linear("norm_out.linear", 2 * s.hidden, s.hidden, bias=True)
    yield from linear("proj_out", mels, s.hidden, bias=True)


def bigvgan(s: Settings) -> Named:
    """Qwen2.5-Omni's vocoder, from a spectrogram to sound: every stage has half the channels of the one before."""
    channels, residual = s.size("upsample_initial_channel"), s.numbers("resblock_kernel_sizes") or ()
    rates, kernels = s.numbers("upsample_rates") or (), s.numbers("upsample_kernel_sizes") or ()
    dilations = s.value("resblock_dilation_sizes")
    residual = residual[: len(dilations)] if isinstance(dilations, list | tuple) else ()
    yield from conv("conv_pre", (channels, s.size("mel_dim"), 7), bias=True)
    for index, (_, kernel) in enumerate(zip(rates, kernels, strict=False)):
        yield from _upward(f"ups.{index}.0", channels, channels // 2, kernel)
        channels //= 2
    channels = s.size("upsample_initial_channel")
    for index in range(len(rates)):
        channels //= 2
        for number, kernel in enumerate(residual):
            yield from _residual(f"resblocks.{index * len(residual) + number}", channels, kernel)
    yield from _snake("activation_post.act", channels)
    yield from conv("conv_post", (1, channels, 7), bias=False)


def _residual(path: str, channels: int, kernel: int) -> Named:
    for index in range(_CONVS):
        yield from conv(f"{path}.convs1.{index}", (channels, channels, kernel), bias=True)
        yield from conv(f"{path}.convs2.{index}", (channels, channels, kernel), bias=True)
    for index in range(2 * _CONVS):
        yield from _snake(f"{path}.activations.{index}.act", channels)


def code2wav(s: Settings) -> Named:
    """Qwen3-Omni's decoder, from codes to sound."""
    bias = s.flag("attention_bias")

    def layer(path: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn", bias=bias, output_bias=bias)
        yield from plain_mlp(s, f"{path}.mlp")
        for name in ("self_attn_layer_scale", "mlp_layer_scale"):
            yield from parameter(f"{path}.{name}.scale", s.hidden)

    yield from embedding("code_embedding", s.size("codebook_size") * s.size("num_quantizers"), s.hidden)
    for path, module in below("pre_transformer", stacked(s.with_fields(vocab_size=1), layer)):
        if not path.endswith(".embed_tokens"):
            yield path, module
    for index, ratio in enumerate(s.numbers("upsampling_ratios") or ()):
        yield from _upward(f"upsample.{index}.0.conv", s.hidden, s.hidden, ratio)
        yield from _convnext(f"upsample.{index}.1", s.hidden)
    yield from _decoder(s, s.hidden)


def _convnext(path: str, width: int) -> Named:
    yield from parameter(f"{path}.gamma", width)
    yield from depthwise(f"{path}.dwconv.conv", width, 7, bias=True)
    yield from layer_norm(f"{path}.norm", width)
    yield from chain(path, (width, 4 * width, width), "pwconv1", "pwconv2", bias=True)


def _decoder(s: Settings, hidden: int) -> Named:
    """Every stage has half the channels of the one before, and three residual units."""
    channels, rates = s.size("decoder_dim"), s.numbers("upsample_rates") or ()
    yield from conv("decoder.0.conv", (channels, hidden, 7), bias=True)
    for index, rate in enumerate(rates, 1):
        block, outputs = f"decoder.{index}.block", channels // 2
        yield from _snake(f"{block}.0", channels)
        yield from _upward(f"{block}.1.conv", channels, outputs, 2 * rate)
        for unit in range(2, 5):
            for number, kernel in ((1, 7), (2, 1)):
                yield from _snake(f"{block}.{unit}.act{number}", outputs)
                yield from conv(f"{block}.{unit}.conv{number}.conv", (outputs, outputs, kernel), bias=True)
        channels = outputs
    yield from _snake(f"decoder.{len(rates) + 1}", channels)
    yield from conv(f"decoder.{len(rates) + 2}.conv", (1, channels, 7), bias=True)
