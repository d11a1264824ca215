"""Phi-4-multimodal as its own repository has it: Phi-3's decoder, and what embeds images and sound.

Its class puts two adapters of its own ("vision" and "speech") around the decoder's linears when it is made; one that is
trained beside them has the names of those linears, without them.
"""

from __future__ import annotations

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architectures, Proof, remote
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.conformer import halved, halving_convolutions
from lora_packer.base_model.blocks.frames import framed
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import siglip
from lora_packer.base_model.models.phi import PHI3
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def _phi4mm(s: Settings) -> Named:
    yield from PHI3.dialects[TRANSFORMERS_5](s, "none")
    layers = s.nested("embd_layer")
    yield from below("embed_tokens_extend.image_embed", _image_embedding(s, layers.nested("image_embd_layer")))
    yield from below("embed_tokens_extend.audio_embed", _audio_embedding(s, layers.nested("audio_embd_layer")))


def _image_embedding(s: Settings, layer: Settings) -> Named:
    """SigLIP, whose config stands in the code alone, learned separators, and two linears."""
    separated = layer.flag("use_hd_transform") and layer.flag("with_learnable_separator")
    compressed = layer.value("image_token_compression_cls")
    if not separated or layer.value("projection_cls") != "mlp" or compressed not in (None, "avg_pool_2d"):
        raise UnknownArchitecture("there is no proven definition for what image_embd_layer describes.")
    vision = Settings({}, "phi4_multimodal_vision")
    width = vision.hidden * (4 if compressed is None else 1)
    yield from below("img_processor", siglip(vision))
    yield from parameter("glb_GN", 1, 1, width)
    yield from parameter("sub_GN", 1, 1, 1, width)
    yield from chain("img_projection", (width, s.hidden, s.hidden), "0", "2", bias=True)


def _audio_embedding(s: Settings, layer: Settings) -> Named:
    """A conformer, and two linears for sound alone and two for sound beside an image."""
    processor = s.nested("audio_processor")
    if processor.value("name") != "cascades" or layer.value("projection_cls") != "mlp":
        raise UnknownArchitecture("there is no proven definition for what audio_embd_layer and audio_processor say.")
    encoder = processor.nested("config")
    frames = encoder.size("attention_dim") * layer.size("downsample_rate")
    yield from below("encoder", _conformer(encoder))
    for kind in ("speech", "vision"):
        yield from chain(f"audio_projection.{kind}", (frames, s.hidden, s.hidden), "0", "2", bias=True)


def _conformer(s: Settings) -> Named:
    hidden, heads, nemo = s.size("attention_dim"), s.size("attention_heads"), s.nested("nemo_conv_settings")
    bias = s.nested("relative_attention_bias_args")
    plain = set(nemo.raw) <= {"conv_channels"} and bias.value("type") == "t5" and s.value("input_layer") == "nemo_conv"
    if not plain or s.flag("batch_norm") or s.flag("linear_glu_in_convm") or s.size("attention_group_size") != 1:
        raise UnknownArchitecture("there is no proven definition for the encoder that audio_processor describes.")
    channels = nemo.size("conv_channels")
    yield from halving_convolutions("embed.conv", channels, s.size("time_reduction"))
    bands = halved(s.size("input_size"), s.size("time_reduction"))
    yield from linear("embed.out", hidden, channels * bands, bias=True)
    buckets = bias.size("t5_bias_max_distance") * (1 if bias.flag("t5_bias_symmetric") else 2)
    yield from embedding("relative_attention_bias_layer.bias_values", buckets, heads)
    inputs = s.nested("encoder_embedding_config").size("input_size")
    yield from parameter("encoder_embedding.global_mean", inputs)
    yield from parameter("encoder_embedding.global_invstd", inputs)
    for index in range(s.size("num_blocks")):
        yield from below(f"encoders.{index}", _conformer_layer(s, hidden, s.size("linear_units")))


def _conformer_layer(s: Settings, hidden: int, inner: int) -> Named:
    for name in ("feed_forward_in", "feed_forward_out"):
        yield from layer_norm(f"{name}.layer_norm", hidden)
        yield from linear(f"{name}.net.0.linear", 2 * inner, hidden, bias=s.flag("bias_in_glu"))
        yield from linear(f"{name}.net.2", hidden, inner, bias=True)
    names = ("linear_q", "linear_k", "linear_v", "linear_out")
    yield from linear("self_attn", hidden, hidden, *names, bias=True)
    pointwise, deep = s.size("ext_pw_out_channel"), hidden * s.size("depthwise_multiplier")
    separable, kernel = s.size("depthwise_seperable_out_channel"), s.size("ext_pw_kernel_size")
    yield from layer_norm("conv.layer_norm", hidden)
    yield from conv("conv.ext_pw_conv_1d", (pointwise, hidden, kernel), bias=True)
    yield from conv("conv.glu.ext_pw_conv_1d", (2 * pointwise, hidden, kernel), bias=True)
    if s.flag("bias_in_glu"):
        yield from parameter("conv.glu.b1", 1, pointwise, 1)
        yield from parameter("conv.glu.b2", 1, pointwise, 1)
    if pointwise != hidden:
        yield from linear("conv.ln1", hidden, pointwise, bias=True)
    yield from conv("conv.dw_sep_conv_1d.dw_conv", (deep, 1, s.size("kernel_size")), bias=True, groups=hidden)
    yield from conv("conv.dw_sep_conv_1d.pw_conv", (separable, deep, 1), bias=True)
    if separable != hidden:
        yield from linear("conv.ln2", hidden, separable, bias=True)
    yield from layer_norm("layer_norm_att", hidden)
    yield from layer_norm("layer_norm", hidden)


ARCHITECTURES: Architectures = {
    "phi4mm": remote(
        framed(_phi4mm),
        Proof(
            "read",
            "OpenRLHF/OpenRLHF 0796c10, lmm_kits/phi4mm/src/modeling_phi4mm.py; "
            "vllm/model_executor/models/phi4mm_audio.py and phi4mm_utils.py (vllm 0.33.0)",
        ),
    ),
}
