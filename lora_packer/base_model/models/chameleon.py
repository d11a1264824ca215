"""Models that see and draw by codes of images: Chameleon and Janus."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.feed_forward import plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.layers import Norm, chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import patch_conv, patches
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def plane(path: str, outputs: int, inputs: int, side: int = 3) -> Named:
    """Return a convolution over a square."""
    return conv(path, (outputs, inputs, side, side), bias=True)


def residual(path: str, inputs: int, outputs: int, norm: Norm = layer_norm) -> Named:
    """A residual block of two convolutions."""
    yield from norm(f"{path}.norm1", inputs)
    yield from plane(f"{path}.conv1", outputs, inputs)
    yield from norm(f"{path}.norm2", outputs)
    yield from plane(f"{path}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from plane(f"{path}.nin_shortcut", outputs, inputs, 1)


def plane_attention(path: str, channels: int) -> Named:
    """Attention between the points of a square."""
    yield from layer_norm(f"{path}.norm", channels)
    for name in ("q", "k", "v", "proj_out"):
        yield from plane(f"{path}.{name}", channels, channels, 1)


def middle_block(path: str, channels: int, *, attends: bool = True) -> Named:
    """Two residual blocks, with attention between them."""
    yield from residual(f"{path}.block_1", channels, channels)
    if attends:
        yield from plane_attention(f"{path}.attn_1", channels)
    yield from residual(f"{path}.block_2", channels, channels)


def _latents(s: Settings) -> int:
    return s.size("latent_channels") * (2 if s.flag("double_latent") else 1)


def _encoder(s: Settings, attends: Callable[[int], bool], *, middle: bool = True) -> Named:
    """The encoder of VQGAN: levels of residual blocks, some with attention."""
    channels = s.size("base_channels")
    multipliers = s.sizes("channel_multiplier")
    yield from plane("conv_in", channels, s.size("in_channels"))
    for level, outputs in enumerate(s.size("base_channels") * multiplier for multiplier in multipliers):
        for block in range(s.size("num_res_blocks")):
            yield from residual(f"down.{level}.block.{block}", channels, outputs)
            channels = outputs
            if attends(level):
                yield from plane_attention(f"down.{level}.attn.{block}", channels)
        if level != len(multipliers) - 1:
            yield from plane(f"down.{level}.downsample.conv", channels, channels)
    yield from middle_block("mid", channels, attends=middle)
    yield from layer_norm("norm_out", channels)
    yield from plane("conv_out", _latents(s), channels)


def _decoder(s: Settings) -> Named:
    """Janus's decoder; its levels are numbered in the order in which they are run."""
    base, multipliers = s.size("base_channels"), s.sizes("channel_multiplier")
    channels = base * multipliers[-1]
    yield from plane("conv_in", channels, s.size("latent_channels"))
    yield from middle_block("mid", channels)
    for level, multiplier in enumerate(reversed(multipliers)):
        for block in range(s.size("num_res_blocks") + 1):
            yield from residual(f"up.{level}.block.{block}", channels, base * multiplier)
            channels = base * multiplier
            if level == 0:
                yield from plane_attention(f"up.{level}.attn.{block}", channels)
        if level != len(multipliers) - 1:
            yield from plane(f"up.{level}.upsample.conv", channels, channels)
    yield from layer_norm("norm_out", channels)
    yield from plane("conv_out", s.size("out_channels"), channels)


def codebook(s: Settings) -> Named:
    """The codes of an image, and the convolutions around them."""
    width, latent = s.size("embed_dim"), s.size("latent_channels")
    yield from embedding("quantize.embedding", s.size("num_embeddings"), width)
    yield from plane("quant_conv", width, latent, 1)
    yield from plane("post_quant_conv", latent, width, 1)


def _chameleon(s: Settings) -> Named:
    kv_heads = s.size("num_key_value_heads")
    head_dim, bias = s.hidden // s.heads, s.flag("attention_bias")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from attention(path, s.hidden, s.heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        for name, count in (("q_norm", s.heads), ("k_norm", kv_heads)):
            yield from parameter(f"{path}.{name}.weight", count, head_dim)
            yield from parameter(f"{path}.{name}.bias", count, head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp", bias=s.flag("mlp_bias"))

    codes, _ = _CHAMELEON_CODES.of(s)
    vanilla, resolutions = codes.value("attn_type") == "vanilla", codes.indices("attn_resolutions")
    resolution = codes.size("resolution")
    yield from stacked(s, layer)
    yield from below(
        "vqmodel.encoder", _encoder(codes, lambda level: vanilla and resolution >> level in resolutions, middle=vanilla)
    )
    yield from below("vqmodel", codebook(codes))


def _janus_visual(s: Settings) -> Named:
    """SigLIP with an optional bias and norms on queries and keys."""
    inner = int(s.hidden * s.ratio("mlp_ratio"))
    yield from patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield from embedding("embeddings.position_embedding", patches(s), s.hidden)
    for index in range(s.layers):
        path = f"encoder.layers.{index}"
        yield from linear(
            f"{path}.self_attn", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", bias=s.flag("attention_bias")
        )
        yield from linear(f"{path}.self_attn.projection_layer", s.hidden, s.hidden, bias=True)
        if s.flag("use_qk_norm"):
            yield from layer_norm(f"{path}.self_attn", s.hidden, "q_norm", "k_norm")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, inner)
        yield from layer_norm(path, s.hidden, "layer_norm1", "layer_norm2")
    yield from layer_norm("post_layernorm", s.hidden)


def _janus_aligner(path: str, inputs: int, width: int, layers: int) -> Named:
    yield from linear(f"{path}.fc1", width, inputs, bias=True)
    for index in range(layers - 1):
        yield from linear(f"{path}.hidden_layers.{index}", width, width, bias=True)


def _janus_beside(s: Settings, _text: Settings) -> Named:
    vision, visual = _JANUS_VISION_PART.of(s)
    codes, _ = _JANUS_CODES.of(s)
    yield from below("vision_model", visual(vision))
    yield from _janus_aligner("aligner", vision.hidden, vision.size("projection_dim"), vision.size("depth"))
    last = len(codes.sizes("channel_multiplier")) - 1
    yield from below("vqmodel.encoder", _encoder(codes, lambda level: level == last))
    yield from below("vqmodel.decoder", _decoder(codes))
    yield from below("vqmodel", codebook(codes))
    count, width = codes.size("num_embeddings"), codes.size("projection_dim")
    yield from embedding("generation_embeddings", count, codes.size("embed_dim"))
    yield from _janus_aligner("generation_aligner", codes.size("embed_dim"), width, codes.layers)
    yield from chain(
        "generation_head", (codes.size("image_token_embed_dim"), width, count), "proj_out", "vision_head", bias=True
    )


_CHAMELEON_CODES = fixed("vq_config", Tower("chameleon_vqgan", lambda _: iter(())))
_JANUS_CODES = fixed("vq_config", Tower("janus_vqgan", lambda _: iter(())))
_JANUS_VISION_PART = fixed("vision_config", Tower("janus_vision_model", _janus_visual))

ARCHITECTURES: Architectures = {
    "chameleon": declared(framed(_chameleon)),
    "janus": composite(with_towers(text_part("llama"), _janus_beside)),
}
