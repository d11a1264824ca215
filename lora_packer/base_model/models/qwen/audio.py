"""Qwen's models that hear."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Build, Head
from lora_packer.base_model.blocks.composite import Part, Tower, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.hearing import WHISPER_NAMES, heard, hearing, whisper_encoder, whisper_layers
from lora_packer.base_model.blocks.layers import chain, conv, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _qwen2_audio(_s: Settings, audio: Settings, text: Settings) -> Named:
    yield from linear("multi_modal_projector.linear", text.hidden, audio.hidden, bias=True)


def _qwen3_asr(_s: Settings, audio: Settings, _text: Settings) -> Named:
    yield from chain(
        "multi_modal_projector",
        (audio.hidden, audio.hidden, audio.size("output_dim")),
        "linear_1",
        "linear_2",
        bias=True,
    )


def qwen3_convs(s: Settings) -> Named:
    """The three convolutions over a spectrogram, and the projection of what they leave of its height."""
    channels = s.size("downsample_hidden_size")
    for index, inputs in enumerate((1, channels, channels), 1):
        yield from conv(f"conv2d{index}", (channels, inputs, 3, 3), bias=True)
    height = s.size("num_mel_bins")
    for _ in range(3):
        height = (height + 1) // 2
    yield from linear("conv_out", s.hidden, channels * height)


def _qwen3_asr_encoder(s: Settings) -> Named:
    yield from qwen3_convs(s)
    yield from whisper_layers(s, key_bias=True)
    yield from layer_norm("ln_post", s.hidden)


def _with_plain_score(build: Build) -> Build:
    """The token classifier has a bias only where the config says so."""

    def checked(s: Settings, head: Head) -> Named:
        for path, module in build(s, head):
            yield path, module._replace(bias=s.flag("token_classification_bias")) if path == "score" else module

    return checked


_QWEN3_ASR = with_towers(
    Part("text_config", "qwen3"),
    hearing(
        fixed("audio_config", Tower("qwen3_asr_encoder", _qwen3_asr_encoder), attribute_map=WHISPER_NAMES), _qwen3_asr
    ),
)

ARCHITECTURES: Architectures = {
    "qwen2_audio": heard(
        text_part("qwen2"),
        fixed("audio_config", Tower("qwen2_audio_encoder", whisper_encoder), attribute_map=WHISPER_NAMES),
        _qwen2_audio,
    ),
    "qwen3_asr": composite(_with_plain_score(_QWEN3_ASR)),
}
