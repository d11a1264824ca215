"""SeamlessM4T, both versions: encoders of text and of speech, a decoder, and what makes speech of its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, Architectures, Head, declared, named_class, only_for
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.conformer import (
    conformer_layer,
    dense_pair,
    projected_features,
    relative_keys,
    relative_positions,
    shortening_layer,
)
from lora_packer.base_model.blocks.encoder_decoder import side_attention
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import aliased
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings

# transformers' ``attribute_map``.
_NAMES = {"num_hidden_layers": "decoder_layers", "num_attention_heads": "decoder_attention_heads"}
# The kernels of a layer that makes sound units of words, and of the first and the last convolution of the vocoder.
_UNIT_KERNEL = _WAVE_KERNEL = 7


def _text_layers(s: Settings, side: str, *attentions: str, prefix: str = "") -> Named:
    inner = s.size(f"{prefix}{side}_ffn_dim")
    for index in range(s.size(f"{prefix}{side}_layers")):
        path = f"layers.{index}"
        for name in attentions:
            yield from side_attention(f"{path}.{name}", s.hidden)
            yield from layer_norm(f"{path}.{name}_layer_norm", s.hidden)
        yield from two_linears_mlp(f"{path}.ffn", s.hidden, inner)
        yield from layer_norm(f"{path}.ffn_layer_norm", s.hidden)
    yield from layer_norm("layer_norm", s.hidden)


def _text_encoder(s: Settings) -> Named:
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from _text_layers(s, "encoder", "self_attn")


def _text_decoder(s: Settings) -> Named:
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from _text_layers(s, "decoder", "self_attn", "cross_attention")


def _speech_encoder(s: Settings, *, first: bool) -> Named:
    """A conformer, and what shortens its output; ``first`` is whether it is that of the first SeamlessM4T."""
    heads, inner = s.size("speech_encoder_attention_heads"), s.size("speech_encoder_intermediate_size")
    kind, norm = s.value("position_embeddings_type"), "batch_norm" if first else "depthwise_layer_norm"
    yield from projected_features(s)
    for index in range(s.size("speech_encoder_layers")):
        path, positions = f"encoder.layers.{index}", list[tuple[str, Module]]()
        if kind == "relative" and first:
            positions = [*relative_positions(f"{path}.self_attn", s.hidden, heads)]
        if kind == "relative_key" and not first:
            positions = [*relative_keys(s, f"{path}.self_attn", s.hidden, heads)]
        yield from conformer_layer(s, path, inner, positions, norm=norm)
    yield from layer_norm("encoder.layer_norm", s.hidden)
    yield from dense_pair("intermediate_ffn", s.hidden, inner)
    for index in range(s.size("num_adapter_layers")) if s.flag("add_adapter") else ():
        yield from shortening_layer(f"adapter.layers.{index}", s.hidden, inner, s.size("adaptor_kernel_size"))
    yield from layer_norm("inner_layer_norm", s.hidden)


def _durations(path: str, inputs: int, width: int, kernel: int) -> Named:
    """How long each unit is."""
    yield from conv(f"{path}.conv1", (width, inputs, kernel), bias=True)
    yield from conv(f"{path}.conv2", (width, width, kernel), bias=True)
    yield from layer_norm(path, width, "ln1", "ln2")
    yield from linear(f"{path}.proj", 1, width, bias=True)


def _first_units(s: Settings) -> Named:
    """Text into units of sound, one after the other."""
    units = s.size("t2u_vocab_size")
    yield from below("model.encoder", _text_layers(s, "encoder", "self_attn", prefix="t2u_"))
    yield from embedding("model.decoder.embed_tokens", units, s.hidden)
    yield from below("model.decoder", _text_layers(s, "decoder", "self_attn", "cross_attention", prefix="t2u_"))
    yield from linear("lm_head", units, s.hidden)


def _units(s: Settings) -> Named:
    """Text into units of sound, all at once."""
    units, prefix = s.size("t2u_vocab_size"), "t2u_variance_predictor"
    yield from below("model.encoder", _text_layers(s, "encoder", "self_attn", prefix="t2u_"))
    yield from parameter("model.decoder.pos_emb_alpha_char", 1)
    yield from parameter("model.decoder.pos_emb_alpha", 1)
    yield from embedding("model.decoder.embed_tokens", units, s.hidden)
    yield from embedding("model.decoder.embed_char", s.size("char_vocab_size"), s.hidden)
    sizes = (s.size(f"{prefix}_{name}") for name in ("embed_dim", "hidden_dim", "kernel_size"))
    yield from _durations("model.decoder.duration_predictor", *sizes)
    for index in range(s.size("t2u_decoder_layers")):
        path = f"model.decoder.layers.{index}"
        yield from side_attention(f"{path}.self_attn", s.hidden)
        yield from layer_norm(path, s.hidden, "self_attn_layer_norm", "conv_layer_norm")
        for name in ("conv1", "conv2"):
            yield from conv(f"{path}.{name}", (s.hidden, s.hidden, _UNIT_KERNEL), bias=True)
    yield from layer_norm("model.decoder.layer_norm", s.hidden)
    yield from linear("lm_head", units, s.hidden)


def _vocoder(s: Settings) -> Named:
    """Units into sound."""
    units, language, speaker = s.size("unit_embed_dim"), s.size("lang_embed_dim"), s.size("spkr_embed_dim")
    yield from _durations("dur_predictor", units, units, s.size("variance_predictor_kernel_size"))
    yield from embedding("unit_embedding", s.size("unit_hifi_gan_vocab_size"), units)
    yield from embedding("speaker_embedding", s.size("vocoder_num_spkrs"), speaker)
    yield from embedding("language_embedding", s.size("vocoder_num_langs"), language)
    width, path = s.size("upsample_initial_channel"), "hifi_gan"
    yield from conv(f"{path}.conv_pre", (width, units + language + speaker, _WAVE_KERNEL), bias=True)
    upsamplings = s.sizes("upsample_kernel_sizes")
    kernels, dilations = s.sizes("resblock_kernel_sizes"), s.value("resblock_dilation_sizes")
    for index, (_, upsampling) in enumerate(zip(s.sizes("upsample_rates"), upsamplings, strict=False)):
        yield from parameter(f"{path}.upsampler.{index}.weight", width, width // 2, upsampling)
        yield from parameter(f"{path}.upsampler.{index}.bias", width // 2)
        width //= 2
        for number, (kernel, steps) in enumerate(zip(kernels, dilations, strict=False)):
            block = f"{path}.resblocks.{index * len(kernels) + number}"
            for name in (f"convs{half}.{step}" for half in (1, 2) for step in range(len(steps))):
                yield from conv(f"{block}.{name}", (width, width, kernel), bias=True)
    yield from conv(f"{path}.conv_post", (1, width, _WAVE_KERNEL), bias=True)


_Parts = Mapping[str, Callable[[Settings], Named]]
_FIRST: _Parts = {
    "text_encoder": _text_encoder,
    "speech_encoder": partial(_speech_encoder, first=True),
    "text_decoder": _text_decoder,
    "t2u_model": _first_units,
    "vocoder": _vocoder,
}
_SECOND: _Parts = {**_FIRST, "speech_encoder": partial(_speech_encoder, first=False), "t2u_model": _units}
# How the classes' names end, and which parts each has.
_CLASSES: Mapping[str, tuple[str, ...]] = {
    "Model": tuple(_FIRST),
    "ForTextToText": ("text_encoder", "text_decoder"),
    "ForSpeechToText": ("speech_encoder", "text_decoder"),
    "ForTextToSpeech": ("text_encoder", "text_decoder", "t2u_model", "vocoder"),
    "ForSpeechToSpeech": ("speech_encoder", "text_decoder", "t2u_model", "vocoder"),
}


def _seamless(name: str, parts: _Parts) -> Architecture:
    """The class that the config names; all of them have the same names, and the whole model has all of their parts."""

    def build(s: Settings, head: Head) -> Named:
        whole = "Model" if head == "none" else "ForTextToText"
        yield from embedding("shared", s.vocab, s.hidden)
        for part in _CLASSES.get((named_class(s) or whole).removeprefix(name), ()):
            yield from below(part, parts[part](s))
        yield from linear("lm_head", s.vocab, s.hidden)

    return declared(
        only_for(aliased(build, _NAMES), *(name + end for end in _CLASSES)),
        input_embedding="text_decoder.embed_tokens",
        encoder_decoder=True,
    )


ARCHITECTURES: Architectures = {
    "seamless_m4t": _seamless("SeamlessM4T", _FIRST),
    "seamless_m4t_v2": _seamless("SeamlessM4Tv2", _SECOND),
}
