"""More language models that hear: Granite Speech through a Q-Former, VibeVoice through two tokenizers of sound."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear, norm
from lora_packer.base_model.families.audio import before_5
from lora_packer.base_model.families.composite import Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.families.multimodal_qformer import BLIP2_QFORMER
from lora_packer.base_model.families.vision import conv
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.pre_norm", width)
    yield linear(f"{path}.up_proj", inner, width, bias=True)
    yield linear(f"{path}.down_proj", width, inner, bias=True)


def _conformer(s: Settings) -> Named:
    """Granite Speech's encoder: attention and a convolution between two feed-forward blocks."""
    width, heads = s.size("hidden_dim"), s.size("num_heads")
    head_dim = s.optional_size("dim_head") or width // heads
    projected, between = heads * head_dim, width * s.size("conv_expansion_factor")
    yield linear("input_linear", width, s.size("input_dim"), bias=True)
    for index in range(s.size("num_layers")):
        path = f"layers.{index}"
        for name in ("ff1", "ff2"):
            yield from _feed_forward(f"{path}.{name}", width, width * s.size("feedforward_mult"))
        yield from layer_norm(f"{path}.attn.pre_norm", width)
        yield linear(f"{path}.attn.to_q", projected, width)
        yield linear(f"{path}.attn.to_kv", 2 * projected, width)
        yield linear(f"{path}.attn.to_out", width, projected, bias=True)
        yield embedding(f"{path}.attn.rel_pos_emb", 2 * s.size("max_pos_emb") + 1, head_dim)
        yield from layer_norm(f"{path}.conv.norm", width)
        yield conv(f"{path}.conv.up_conv", (2 * between, width, 1), bias=True)
        yield conv(f"{path}.conv.depth_conv.conv", (between, 1, s.size("conv_kernel_size")), bias=False)
        yield from layer_norm(f"{path}.conv.batch_norm", between)
        yield conv(f"{path}.conv.down_conv", (width, between, 1), bias=True)
        yield from layer_norm(f"{path}.post_norm", width)
    yield linear("out", s.size("output_dim"), width, bias=True)
    yield linear("out_mid", width, s.size("output_dim"), bias=True)


def _granite_beside(s: Settings, text: Settings) -> Named:
    encoder, modules = _CONFORMER.of(s)
    reading, qformer = _READER.of(s)
    width = reading.size("hidden_size")
    yield from below("encoder", modules(encoder))
    yield "projector.query", Module("parameter", (1, s.size("window_size") // s.size("downsample_rate"), width))
    yield from below("projector.qformer", qformer(reading))
    yield linear("projector.linear", text.size("hidden_size"), width, bias=True)


def _convnext(s: Settings, path: str, width: int, count: int) -> Named:
    """A stage of VibeVoice's tokenizers."""
    inner = s.size("ffn_expansion") * width
    for index in range(count):
        block = f"{path}.stage.{index}"
        yield f"{block}.gamma", Module("parameter", (width,))
        yield f"{block}.ffn_gamma", Module("parameter", (width,))
        yield norm(f"{block}.norm", width)
        yield norm(f"{block}.ffn_norm", width)
        yield linear(f"{block}.ffn.linear1", inner, width, bias=True)
        yield linear(f"{block}.ffn.linear2", width, inner, bias=True)
        yield conv(f"{block}.mixer.conv", (width, 1, s.size("kernel_size")), bias=True)


def _tokenizer(s: Settings) -> Named:
    """A tokenizer of sound: each stage is twice as wide as the one before, and a ratio shorter."""
    width, kernel = s.size("num_filters"), s.size("kernel_size")
    ratios, depths = s.numbers("downsampling_ratios") or (), s.numbers("depths") or ()
    if len(depths) <= len(ratios):
        raise InputError(
            "the base config's depths have to be more than its downsampling_ratios.",
            hint="Use the base model's own config.json.",
        )
    yield conv("stem.conv.conv", (width, s.size("channels"), kernel), bias=True)
    yield from _convnext(s, "stem", width, depths[0])
    for index, (ratio, depth) in enumerate(zip(ratios, depths[1:], strict=False)):
        path = f"conv_layers.{index}"
        yield conv(f"{path}.conv.conv", (2 * width, width, 2 * ratio), bias=True)
        width *= 2
        yield from _convnext(s, path, width, depth)
    yield conv("head.conv", (s.size("hidden_size"), width, kernel), bias=True)


def _vibevoice_beside(s: Settings, text: Settings) -> Named:
    hidden = text.size("hidden_size")
    for name, part in _TOKENIZERS.items():
        settings, modules = part.of(s)
        yield from below(f"{name}_tokenizer_encoder", modules(settings))
        path = f"multi_modal_projector.{name}"
        yield linear(f"{path}_linear_1", hidden, settings.size("hidden_size"), bias=True)
        yield norm(f"{path}_norm", hidden)
        yield linear(f"{path}_linear_2", hidden, hidden, bias=True)


_CONFORMER = fixed(
    "encoder_config",
    Tower(
        {
            "input_dim": 160,
            "num_layers": 10,
            "hidden_dim": 1024,
            "feedforward_mult": 4,
            "num_heads": 8,
            "output_dim": 42,
            "max_pos_emb": 512,
            "conv_kernel_size": 15,
            "conv_expansion_factor": 2,
        },
        _conformer,
    ),
    attribute_map={
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_mel_bins": "input_dim",
    },
)
_READER = fixed("projector_config", BLIP2_QFORMER)
_TOKENIZER = Tower(
    {
        "channels": 1,
        "hidden_size": 64,
        "kernel_size": 7,
        "num_filters": 32,
        "downsampling_ratios": [2, 2, 4, 5, 5, 8],
        "depths": [3, 3, 3, 3, 3, 3, 8],
        "ffn_expansion": 4,
    },
    _tokenizer,
)
_TOKENIZERS = {
    "acoustic": fixed("acoustic_tokenizer_encoder_config", _TOKENIZER),
    "semantic": fixed("semantic_tokenizer_encoder_config", _TOKENIZER, absent={"hidden_size": 128}),
}
_GRANITE_BUILD = with_towers(Part("text_config", "granite"), _granite_beside)
_GRANITE = composite({"downsample_rate": 5, "window_size": 15}, _GRANITE_BUILD, before_5(_GRANITE_BUILD))

ARCHITECTURES: Mapping[str, Architecture] = {
    "granite_speech": _GRANITE,
    "granite_speech_plus": _GRANITE,
    "vibevoice_asr": composite({}, with_towers(Part("text_config", "qwen2"), _vibevoice_beside)),
}
