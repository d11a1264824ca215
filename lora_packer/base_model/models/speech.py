"""Models that hear and are the only one of their name, and the two Flamingos; Moshi, which speaks."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import DECODER, TRANSFORMERS_4, Architectures, Head, declared, like, only_for
from lora_packer.base_model.blocks.attention import head_sizes, plain_attention
from lora_packer.base_model.blocks.codec import mimi
from lora_packer.base_model.blocks.composed import composed
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_part,
    with_towers,
)
from lora_packer.base_model.blocks.encoder_decoder import BART_NAMES, side_layers
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, framed, numbered, stacked
from lora_packer.base_model.blocks.hearing import RENAMED_NAMES, conformer, heard, hearing, whisper_encoder
from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import two_linears
from lora_packer.base_model.models.hearing_towers import WHISPER_PART
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _moshi(s: Settings, *, tokens: str = "embed_tokens", codes: int = 0) -> Named:
    """Moshi's language model, whose projections are linears inside modules of their own.

    ``codes`` is how many codes of sound its embedding, whose path ``tokens`` is, has besides the words.
    """
    inner, (heads, kv_heads, head_dim) = s.size("ffn_dim"), head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield from linear(f"{prefix}.self_attn.{name}.linear", count * head_dim, s.hidden)
        yield from linear(f"{prefix}.self_attn.o_proj.linear", s.hidden, heads * head_dim)
        yield from linear(f"{prefix}.mlp.fc1", inner, s.hidden)
        yield from linear(f"{prefix}.mlp.fc2", s.hidden, inner // 2)
        yield from norm(prefix, s.hidden, *LAYER_NORMS)

    yield from embedding(tokens, s.vocab + codes + 1, s.hidden)
    yield from numbered(s, "layers", layer)
    yield from norm("norm", s.hidden)


def _kyutai(s: Settings, head: Head, *, tied: bool = True) -> Named:
    """The same that writes down what it hears, with the codec that it hears by.

    ``tied`` is whether a head that is the input embedding has a row for each code, too, as since transformers 5.
    """
    codes = s.size("num_codebooks") * s.size("codebook_vocab_size")
    before, (codec, modules) = "" if head == "none" else "model.", _MIMI.of(s)
    for path, module in _moshi(s, tokens="embed_tokens.embed_tokens", codes=codes):
        yield before + path, module
    if head != "none":
        more = codes + 1 if tied and s.flag("tie_word_embeddings") else 0
        yield from linear("lm_head", s.vocab + more, s.hidden)
        yield from below("codec_model", modules(codec))


_MIMI = Part("codec_config", "mimi", {"mimi": Tower("mimi", mimi)}.get)


def _audioflamingo3(s: Settings, audio: Settings, text: Settings) -> Named:
    bias = s.flag("projector_bias")
    yield from two_linears("multi_modal_projector", audio.hidden, text.hidden, bias=bias)


def _vibevoice_convnext(s: Settings, path: str, width: int, count: int) -> Named:
    """A stage of VibeVoice's tokenizers."""
    inner = s.size("ffn_expansion") * width
    for index in range(count):
        block = f"{path}.stage.{index}"
        yield from parameter(f"{block}.gamma", width)
        yield from parameter(f"{block}.ffn_gamma", width)
        yield from norm(block, width, "norm", "ffn_norm")
        yield from chain(f"{block}.ffn", (width, inner, width), "linear1", "linear2", bias=True)
        yield from depthwise(f"{block}.mixer.conv", width, s.size("kernel_size"), bias=True)


def _vibevoice_tokenizer(s: Settings) -> Named:
    """A tokenizer of sound: each stage is twice as wide as the one before, and a ratio shorter."""
    width, kernel = s.size("num_filters"), s.size("kernel_size")
    ratios, depths = s.numbers("downsampling_ratios") or (), s.numbers("depths") or ()
    if len(depths) <= len(ratios):
        raise InputError(
            "the base config's depths have to be more than its downsampling_ratios.",
            hint="Use the base model's own config.json.",
        )
    yield from conv("stem.conv.conv", (width, s.size("channels"), kernel), bias=True)
    yield from _vibevoice_convnext(s, "stem", width, depths[0])
    for index, (ratio, depth) in enumerate(zip(ratios, depths[1:], strict=False)):
        path = f"conv_layers.{index}"
        yield from conv(f"{path}.conv.conv", (2 * width, width, 2 * ratio), bias=True)
        width *= 2
        yield from _vibevoice_convnext(s, path, width, depth)
    yield from conv("head.conv", (s.hidden, width, kernel), bias=True)


def _vibevoice_beside(s: Settings, text: Settings) -> Named:
    for name, part in _VIBEVOICE_TOKENIZERS.items():
        settings, modules = part.of(s)
        yield from below(f"{name}_tokenizer_encoder", modules(settings))
        path = f"multi_modal_projector.{name}"
        yield from linear(f"{path}_linear_1", text.hidden, settings.hidden, bias=True)
        yield from norm(f"{path}_norm", text.hidden)
        yield from linear(f"{path}_linear_2", text.hidden, text.hidden, bias=True)


_VIBEVOICE_TOKENIZER = Tower("vibevoice_acoustic_tokenizer_encoder", _vibevoice_tokenizer)
_VIBEVOICE_TOKENIZERS = {
    "acoustic": fixed("acoustic_tokenizer_encoder_config", _VIBEVOICE_TOKENIZER),
    "semantic": fixed("semantic_tokenizer_encoder_config", _VIBEVOICE_TOKENIZER),
}


def _omniasr_encoder(s: Settings) -> Named:
    """Wav2Vec2's encoder, with a norm after every convolution."""
    bias, inputs = s.flag("conv_bias"), 1
    for index, (width, kernel) in enumerate(zip(s.sizes("conv_dim"), s.sizes("conv_kernel"), strict=False)):
        path = f"subsampling.conv_layers.{index}"
        yield from conv(f"{path}.conv", (width, inputs, kernel), bias=bias)
        yield from layer_norm(f"{path}.layer_norm", width)
        inputs = width
    yield from layer_norm("subsampling.layer_norm", inputs)
    yield from linear("subsampling.projection", s.hidden, inputs, bias=True)
    groups, kernel = s.size("num_conv_pos_embedding_groups"), s.size("num_conv_pos_embeddings")
    yield from conv("encode_positions.conv", (s.hidden, s.hidden // groups, kernel), bias=True, groups=groups)
    for index in range(s.layers):
        path = f"layers.{index}"
        names = ("k_proj", "v_proj", "q_proj", "out_proj")
        yield from linear(f"{path}.attention", s.hidden, s.hidden, *names, bias=True)
        sizes = (s.hidden, s.inner, s.hidden)
        yield from chain(f"{path}.feed_forward", sizes, "intermediate_dense", "output_dense", bias=True)
        yield from layer_norm(path, s.hidden, "layer_norm", "final_layer_norm")
    yield from layer_norm("layer_norm", s.hidden)


def _omniasr(_s: Settings, audio: Settings, text: Settings) -> Named:
    yield from linear("multi_modal_projector", text.hidden, audio.hidden, bias=True)


def _canary_decoder(s: Settings) -> Named:
    def layer(path: str, _index: int) -> Named:
        for name in ("self_attn", "encoder_attn"):
            yield from plain_attention(s, f"{path}.{name}")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, *LAYER_NORMS, "final_layernorm")

    yield from stacked(s, layer, norms=(), kind=layer_norm)
    yield from layer_norm("embedding_layernorm", s.hidden)


_PARAKEET = Part("encoder_config", "parakeet_encoder", {"parakeet_encoder": Tower("parakeet_encoder", conformer)}.get)
_CANARY_DECODER = fixed("decoder_config", Tower("canary_decoder", _canary_decoder))


def _canary(s: Settings, head: Head) -> Named:
    """A conformer, and a decoder that reads it."""
    before = "" if head == "none" else "model."
    for name, part in (("encoder", _PARAKEET), ("decoder", _CANARY_DECODER)):
        settings, modules = part.of(s)
        yield from below(before + name, modules(settings))
    if head != "none":
        decoder, _ = _CANARY_DECODER.of(s)
        yield from linear("proj_out", decoder.vocab, decoder.hidden, bias=True)


def _fun_asr_layer(s: Settings, path: str, inputs: int) -> Named:
    """Attention and two linears; the first layer of an encoder reads features of another width."""
    yield from linear(f"{path}.self_attn", s.hidden, inputs, "q_proj", "k_proj", "v_proj", bias=True)
    yield from linear(f"{path}.self_attn.o_proj", s.hidden, s.hidden, bias=True)
    yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
    yield from layer_norm(f"{path}.input_layernorm", inputs)
    yield from layer_norm(f"{path}.post_attention_layernorm", s.hidden)


def _fun_asr_encoder(s: Settings) -> Named:
    """Layers with a memory beside their attention; what ends the words and what ends their times is normed."""
    features = s.size("num_mel_bins") * s.size("num_stacked_frames")
    normed = (s.layers - s.count("num_timestamp_prediction_layers") - 1, s.layers - 1)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from _fun_asr_layer(s, path, s.hidden if index else features)
        yield from depthwise(f"{path}.self_attn.fsmn.conv", s.hidden, s.size("fsmn_kernel_size"))
        if index in normed:
            yield from layer_norm(f"{path}.final_layernorm", s.hidden)


def _fun_asr(s: Settings, audio: Settings, _text: Settings) -> Named:
    path, adaptor = "multi_modal_projector", s.nested("adaptor_config")
    sizes = (audio.hidden, adaptor.size("projector_hidden_size"), adaptor.hidden)
    yield from chain(path, sizes, "linear_1", "linear_2", bias=True)
    for index in range(adaptor.layers):
        yield from _fun_asr_layer(adaptor, f"{path}.layers.{index}", adaptor.hidden)


def _moss(s: Settings, audio: Settings, text: Settings) -> Named:
    path, bias = "multi_modal_projector", s.flag("projector_bias")
    sizes = (s.size("audio_merge_size") * audio.hidden, text.hidden, text.hidden)
    yield from chain(path, sizes, "linear_1", "linear_2", bias=bias)
    yield from layer_norm(f"{path}.norm", text.hidden)


_FUN_ASR_PART = fixed("audio_config", Tower("fun_asr_nano_encoder", _fun_asr_encoder))
_MOSS_PART = fixed("audio_config", Tower("moss_transcribe_diarize_audio", whisper_encoder), attribute_map=RENAMED_NAMES)


def _speech_to_text(raw: Settings, head: Head) -> Named:
    """BART that reads a spectrogram through convolutions."""
    s = raw.aliased(BART_NAMES)
    before, width, between = "" if head == "none" else "model.", s.size("d_model"), s.size("conv_channels")
    kernels = s.sizes("conv_kernel_sizes")
    inputs = s.size("input_feat_per_channel") * s.size("input_channels")
    for index, kernel in enumerate(kernels):
        outputs = between if index < len(kernels) - 1 else 2 * width
        yield from conv(f"{before}encoder.conv.conv_layers.{index}", (outputs, inputs, kernel), bias=True)
        inputs = between // 2
    yield from embedding(f"{before}decoder.embed_tokens", s.vocab, width)
    for side in ("encoder", "decoder"):
        for path, module in side_layers(s, side):
            yield before + path, module
        yield from layer_norm(f"{before}{side}.layer_norm", width)
    if head != "none":
        yield from linear("lm_head", s.vocab, width)


ARCHITECTURES: Architectures = {
    "speech-encoder-decoder": composed("SpeechEncoderDecoderModel", DECODER, output_width="output_hidden_size"),
    "speech_to_text": declared(_speech_to_text, encoder_decoder=True),
    "omniasr": composite(
        with_towers(
            Part("text_config", "llama", filled=True),
            hearing(fixed("audio_config", Tower("omniasr_audio", _omniasr_encoder)), _omniasr),
        )
    ),
    "canary": declared(_canary, text_config="decoder_config", encoder_decoder=True),
    "fun_asr_nano": composite(with_towers(text_part("qwen3"), hearing(_FUN_ASR_PART, _fun_asr))),
    "moss_transcribe_diarize": composite(with_towers(text_part("qwen3"), hearing(_MOSS_PART, _moss))),
    "kyutai_speech_to_text": declared(
        _kyutai,
        {
            TRANSFORMERS_4: renamed(
                partial(_kyutai, tied=False),
                ("codec_model.encoder.encoder_seanet.", "codec_model.encoder."),
                ("codec_model.encoder.", "codec_model."),
                ("codec_model.decoder.decoder_seanet.", "codec_model.decoder."),
                ("codec_model.decoder.", "codec_model."),
            )
        },
    ),
    "moshi": declared(only_for(framed(_moshi), "MoshiForCausalLM", "MoshiModel")),
    "audioflamingo3": heard(text_part("qwen2"), WHISPER_PART, _audioflamingo3),
    "musicflamingo": like("audioflamingo3"),
    "vibevoice_asr": composite(with_towers(text_part("qwen2"), _vibevoice_beside)),
}
