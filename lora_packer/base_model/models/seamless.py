"""SeamlessM4T v2, which translates text and speech: encoders of both, a decoder, and what makes speech of its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_packer.base_model.architecture import Architectures, Head, declared, named_class, only_for
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.encoder_decoder import side_attention
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import aliased
from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
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


def _feed(s: Settings, path: str) -> Named:
    sizes = (s.hidden, s.size("speech_encoder_intermediate_size"), s.hidden)
    yield from chain(path, sizes, "intermediate_dense", "output_dense", bias=True)


def _speech_attention(s: Settings, path: str) -> Named:
    yield from linear(path, s.hidden, s.hidden, "linear_q", "linear_k", "linear_v", "linear_out", bias=True)


def _speech_encoder(s: Settings) -> Named:
    """A conformer, and what shortens its output."""
    inputs = s.size("feature_projection_input_dim")
    yield from layer_norm("feature_projection.layer_norm", inputs)
    yield from linear("feature_projection.projection", s.hidden, inputs, bias=True)
    for index in range(s.size("speech_encoder_layers")):
        yield from _conformer_layer(s, f"encoder.layers.{index}")
    yield from layer_norm("encoder.layer_norm", s.hidden)
    yield from _feed(s, "intermediate_ffn")
    for index in range(s.size("num_adapter_layers")) if s.flag("add_adapter") else ():
        path, shape = f"adapter.layers.{index}", (2 * s.hidden, s.hidden, s.size("adaptor_kernel_size"))
        yield from layer_norm(path, s.hidden, "residual_layer_norm", "self_attn_layer_norm", "ffn_layer_norm")
        yield from conv(f"{path}.residual_conv", shape, bias=True)
        yield from conv(f"{path}.self_attn_conv", shape, bias=True)
        yield from _speech_attention(s, f"{path}.self_attn")
        yield from _feed(s, f"{path}.ffn")
    yield from layer_norm("inner_layer_norm", s.hidden)


def _conformer_layer(s: Settings, path: str) -> Named:
    for name in ("ffn1", "ffn2"):
        yield from _feed(s, f"{path}.{name}")
        yield from layer_norm(f"{path}.{name}_layer_norm", s.hidden)
    yield from _speech_attention(s, f"{path}.self_attn")
    if s.value("position_embeddings_type") == "relative_key":
        positions = s.size("left_max_position_embeddings") + s.size("right_max_position_embeddings") + 1
        head_dim = s.hidden // s.size("speech_encoder_attention_heads")
        yield from embedding(f"{path}.self_attn.distance_embedding", positions, head_dim)
    yield from layer_norm(path, s.hidden, "self_attn_layer_norm", "final_layer_norm")
    module = f"{path}.conv_module"
    yield from layer_norm(module, s.hidden, "layer_norm", "depthwise_layer_norm")
    yield from conv(f"{module}.pointwise_conv1", (2 * s.hidden, s.hidden, 1), bias=False)
    yield from depthwise(f"{module}.depthwise_conv", s.hidden, s.size("conv_depthwise_kernel_size"))
    yield from conv(f"{module}.pointwise_conv2", (s.hidden, s.hidden, 1), bias=False)


def _durations(path: str, inputs: int, width: int, kernel: int) -> Named:
    """How long each unit is."""
    yield from conv(f"{path}.conv1", (width, inputs, kernel), bias=True)
    yield from conv(f"{path}.conv2", (width, width, kernel), bias=True)
    yield from layer_norm(path, width, "ln1", "ln2")
    yield from linear(f"{path}.proj", 1, width, bias=True)


def _units(s: Settings) -> Named:
    """Text into units of sound."""
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


_PARTS: Mapping[str, Callable[[Settings], Named]] = {
    "text_encoder": _text_encoder,
    "speech_encoder": _speech_encoder,
    "text_decoder": _text_decoder,
    "t2u_model": _units,
    "vocoder": _vocoder,
}
_WHOLE = "SeamlessM4Tv2Model"
_CLASSES: Mapping[str, tuple[str, ...]] = {
    _WHOLE: tuple(_PARTS),
    "SeamlessM4Tv2ForTextToText": ("text_encoder", "text_decoder"),
    "SeamlessM4Tv2ForSpeechToText": ("speech_encoder", "text_decoder"),
    "SeamlessM4Tv2ForTextToSpeech": ("text_encoder", "text_decoder", "t2u_model", "vocoder"),
    "SeamlessM4Tv2ForSpeechToSpeech": ("speech_encoder", "text_decoder", "t2u_model", "vocoder"),
}


def _seamless(s: Settings, head: Head) -> Named:
    """The class that the config names; all of them have the same names, and the whole model has all of their parts."""
    named = named_class(s) or (_WHOLE if head == "none" else "SeamlessM4Tv2ForTextToText")
    yield from embedding("shared", s.vocab, s.hidden)
    for part in _CLASSES.get(named, ()):
        yield from below(part, _PARTS[part](s))
    yield from linear("lm_head", s.vocab, s.hidden)


ARCHITECTURES: Architectures = {
    "seamless_m4t_v2": declared(
        only_for(aliased(_seamless, _NAMES), *_CLASSES),
        input_embedding="text_decoder.embed_tokens",
        encoder_decoder=True,
    ),
}
