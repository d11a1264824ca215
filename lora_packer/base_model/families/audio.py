"""Models that hear: Whisper, and language models with its encoder or a relative of it in front of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Build, Head
from lora_packer.base_model.blocks import Named, attention, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families import seq2seq
from lora_packer.base_model.families.common import decoder, grouped_attention, head_sizes, sizes
from lora_packer.base_model.families.composite import (
    Beside,
    Part,
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_tower,
    with_towers,
)
from lora_packer.base_model.families.multimodal import two_linears
from lora_packer.base_model.families.vision import conv
from lora_packer.base_model.settings import Settings

# Yields what joins the encoder to the language model, from the whole config, the encoder's and the language model's.
Projector = Callable[[Settings, Settings, Settings], Named]

# transformers' ``attribute_map`` of Whisper's relatives, and of those whose fields are named as Whisper's.
WHISPER_NAMES = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
_RENAMED_NAMES = {name: alias for alias, name in WHISPER_NAMES.items()}


def whisper_convs(s: Settings, width: int, path: str = "") -> Named:
    """The two convolutions over a spectrogram."""
    yield conv(f"{path}conv1", (width, s.size("num_mel_bins"), 3), bias=True)
    yield conv(f"{path}conv2", (width, width, 3), bias=True)


def whisper_layers(s: Settings, *, key_bias: bool = False) -> Named:
    """The layers of Whisper's encoder."""
    width, inner = s.size("hidden_size"), s.size("intermediate_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        attentions = {"self_attn": seq2seq.attention(f"{path}.self_attn", width, key_bias=key_bias)}
        yield from seq2seq.layer(path, width, inner, attentions)


def _whisper_encoder(s: Settings) -> Named:
    width = s.size("hidden_size")
    yield from whisper_convs(s, width)
    yield embedding("embed_positions", s.size("max_source_positions"), width)
    yield from whisper_layers(s)
    yield from layer_norm("layer_norm", width)


def _whisper_side(s: Settings, side: str) -> Named:
    width = s.size("d_model")
    if side == "encoder":
        yield from whisper_convs(s, width, "encoder.")
        yield embedding("encoder.embed_positions", s.size("max_source_positions"), width)
    else:
        yield embedding("decoder.embed_tokens", s.size("vocab_size"), width)
        yield embedding("decoder.embed_positions", s.size("max_target_positions"), width)
    yield from seq2seq.layers(s, side, key_bias=False)
    yield from layer_norm(f"{side}.layer_norm", width)


def _whisper(raw: Settings, head: Head) -> Named:
    s = raw.aliased(seq2seq.BART_NAMES)
    for side in ("decoder",) if head == "causal-lm" else ("encoder", "decoder"):
        for path, module in _whisper_side(s, side):
            yield path if head == "none" else f"model.{path}", module
    if head != "none":
        yield linear("proj_out", s.size("vocab_size"), s.size("d_model"))


def hearing(audio: Part, projector: Projector) -> Beside:
    """An encoder of sound and a projector."""

    def beside(s: Settings, text: Settings) -> Named:
        settings, modules = audio.of(s)
        yield from below("audio_tower", modules(settings))
        yield from projector(s, settings, text)

    return beside


def _voxtral(_s: Settings, audio: Settings, text: Settings) -> Named:
    """Some frames side by side are as wide as the encoder's feed-forward blocks."""
    yield from two_linears(
        "multi_modal_projector", audio.size("intermediate_size"), text.size("hidden_size"), bias=False
    )


def _voxtral_realtime(s: Settings, audio: Settings, text: Settings) -> Named:
    folded = audio.size("hidden_size") * s.size("downsample_factor")
    yield from two_linears("multi_modal_projector", folded, text.size("hidden_size"), bias=False)


def _audioflamingo3(s: Settings, audio: Settings, text: Settings) -> Named:
    bias = s.flag("projector_bias")
    yield from two_linears("multi_modal_projector", audio.size("hidden_size"), text.size("hidden_size"), bias=bias)


def _glmasr(_s: Settings, audio: Settings, text: Settings) -> Named:
    hidden = text.size("hidden_size")
    yield linear("multi_modal_projector.linear_1", 2 * hidden, audio.size("intermediate_size"), bias=True)
    yield linear("multi_modal_projector.linear_2", hidden, 2 * hidden, bias=True)


def _qwen2_audio(_s: Settings, audio: Settings, text: Settings) -> Named:
    yield linear("multi_modal_projector.linear", text.size("hidden_size"), audio.size("hidden_size"), bias=True)


def _qwen3_asr(_s: Settings, audio: Settings, _text: Settings) -> Named:
    width = audio.size("hidden_size")
    yield linear("multi_modal_projector.linear_1", width, width, bias=True)
    yield linear("multi_modal_projector.linear_2", audio.size("output_dim"), width, bias=True)


def _glmasr_encoder(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield from whisper_convs(s, hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        for name, module in attention(f"{path}.self_attn", hidden, *head_sizes(s), bias=True, output_bias=True):
            yield name, module._replace(bias=not name.endswith(".k_proj"))
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.input_layernorm", hidden)
        yield from layer_norm(f"{path}.post_attention_layernorm", hidden)
    yield from layer_norm("norm", hidden)


def _realtime_encoder(s: Settings) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    head_dim = s.optional_size("head_dim") or hidden // heads
    yield from whisper_convs(s, hidden, "embedder.")
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        for name, module in attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=True, output_bias=True):
            yield name, module._replace(bias=not name.endswith(".k_proj"))
        for name, module in gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size")):
            yield name, module._replace(bias=name.endswith(".down_proj"))
        yield norm(f"{path}.self_attn_layer_norm", hidden)
        yield norm(f"{path}.final_layer_norm", hidden)
    yield norm("norm", hidden)


# The width between the two linears that scale the norms of Voxtral Realtime's text by the delay.
_DELAY_WIDTH = 32


def _realtime_text(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(path: str) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn")
        yield from gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size"))
        yield linear(f"{path}.ada_rms_norm.linear1", _DELAY_WIDTH, hidden)
        yield linear(f"{path}.ada_rms_norm.linear2", hidden, _DELAY_WIDTH)

    return decoder(s, layer)


def qwen3_convs(s: Settings) -> Named:
    """The three convolutions over a spectrogram, and the projection of what they leave of its height."""
    channels = s.size("downsample_hidden_size")
    for index, inputs in enumerate((1, channels, channels), 1):
        yield conv(f"conv2d{index}", (channels, inputs, 3, 3), bias=True)
    height = s.size("num_mel_bins")
    for _ in range(3):
        height = (height + 1) // 2
    yield linear("conv_out", s.size("hidden_size"), channels * height)


def _qwen3_asr_encoder(s: Settings) -> Named:
    yield from qwen3_convs(s)
    yield from whisper_layers(s, key_bias=True)
    yield from layer_norm("ln_post", s.size("hidden_size"))


def _realtime_part(model_type: str) -> Tower | None:
    return _REALTIME_TEXT if model_type == "voxtral_realtime_text" else text_tower(model_type)


def before_5(build: Build) -> dict[str, Build]:
    """The names where the language model had its head inside, and nothing stood below ``model``."""
    older = renamed(
        build,
        ("model.language_model.", "language_model.model."),
        ("lm_head", "language_model.lm_head"),
        ("model.", ""),
    )
    return {TRANSFORMERS_4: older}


def heard(text: Part, audio: Part, projector: Projector, defaults: Mapping[str, Any] | None = None) -> Architecture:
    """Return the definition of a language model that hears."""
    build = with_towers(text, hearing(audio, projector))
    return composite(defaults or {}, build, before_5(build))


def _with_plain_score(build: Build) -> Build:
    """The token classifier has a bias only where the config says so."""

    def checked(s: Settings, head: Head) -> Named:
        for path, module in build(s, head):
            yield path, module._replace(bias=s.flag("token_classification_bias")) if path == "score" else module

    return checked


def encoder_sizes(
    width: int, layers: int, heads: int, inner: int, mels: int = 128, *, own: bool = False, **more: Any
) -> dict[str, Any]:
    """Return the defaults of an encoder of sound; ``own``: under Whisper's own names."""
    found = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    named = {WHISPER_NAMES[name] if own else name: value for name, value in found.items()}
    return {**named, "num_mel_bins": mels, "max_source_positions": 1500, **more}


_WHISPER_TOWER = Tower(encoder_sizes(1280, 32, 20, 5120), _whisper_encoder)
_WHISPER_PART = fixed("audio_config", _WHISPER_TOWER, attribute_map=_RENAMED_NAMES)
_FLAMINGO = heard(Part("text_config", "qwen2"), _WHISPER_PART, _audioflamingo3, {"projector_bias": True})
_REALTIME_TEXT = Tower(sizes(32000, 4096, 14336, 32, 32, 8), _realtime_text)
_QWEN3_ASR = with_towers(
    Part("text_config", "qwen3", absent=sizes(151936, 2048, 6144, 28, 16, 8, head_dim=128)),
    hearing(
        fixed(
            "audio_config",
            Tower(
                encoder_sizes(1024, 24, 16, 4096, own=True, downsample_hidden_size=480, output_dim=3584),
                _qwen3_asr_encoder,
            ),
            attribute_map=WHISPER_NAMES,
        ),
        _qwen3_asr,
    ),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "whisper": seq2seq.both_sides(
        {
            "vocab_size": 51865,
            "num_mel_bins": 80,
            "d_model": 384,
            "encoder_layers": 4,
            "decoder_layers": 4,
            "encoder_ffn_dim": 1536,
            "decoder_ffn_dim": 1536,
            "max_source_positions": 1500,
            "max_target_positions": 448,
        },
        _whisper,
        input_embedding="embed_tokens",
    ),
    "voxtral": heard(
        Part("text_config", "llama", filled=sizes(131072, 3072, 8192, 30, 32, 8, head_dim=128)),
        _WHISPER_PART,
        _voxtral,
    ),
    "voxtral_realtime": heard(
        Part(
            "text_config",
            "voxtral_realtime_text",
            _realtime_part,
            filled=sizes(131072, 3072, 9216, 26, 32, 8, head_dim=128),
        ),
        fixed(
            "audio_config",
            Tower(encoder_sizes(1280, 32, 32, 5120, head_dim=64), _realtime_encoder),
            attribute_map={**_RENAMED_NAMES, "num_key_value_heads": "num_attention_heads"},
        ),
        _voxtral_realtime,
        {"downsample_factor": 4},
    ),
    "audioflamingo3": _FLAMINGO,
    "musicflamingo": _FLAMINGO,
    "glmasr": heard(
        Part("text_config", "llama", filled=sizes(59264, 2048, 6144, 28, 16, 4)),
        fixed("audio_config", Tower(encoder_sizes(1280, 32, 20, 5120), _glmasr_encoder)),
        _glmasr,
    ),
    "qwen2_audio": heard(
        Part("text_config", "qwen2"),
        fixed(
            "audio_config",
            Tower(encoder_sizes(1280, 32, 20, 5120, own=True), _whisper_encoder),
            attribute_map=WHISPER_NAMES,
        ),
        _qwen2_audio,
    ),
    "qwen3_asr": composite({"token_classification_bias": False}, _with_plain_score(_QWEN3_ASR)),
}
