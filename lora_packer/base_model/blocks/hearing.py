"""Encoders of sound: Whisper's and what stands around it."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Build
from lora_packer.base_model.blocks.composite import Beside, Part, below, composite, head_inside, with_towers
from lora_packer.base_model.blocks.encoder_decoder import side_attention, side_layer
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# Yields what joins the encoder to the language model, from the whole config, the encoder's and the language model's.
Listening = Callable[[Settings, Settings, Settings], Named]
# transformers' ``attribute_map`` of Whisper's relatives, and of those whose fields are named as Whisper's.
WHISPER_NAMES = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
RENAMED_NAMES = {name: alias for alias, name in WHISPER_NAMES.items()}


def whisper_convs(s: Settings, width: int, path: str = "") -> Named:
    """The two convolutions over a spectrogram."""
    yield from conv(f"{path}conv1", (width, s.size("num_mel_bins"), 3), bias=True)
    yield from conv(f"{path}conv2", (width, width, 3), bias=True)


def whisper_layers(s: Settings, *, key_bias: bool = False) -> Named:
    """The layers of Whisper's encoder."""
    for index in range(s.layers):
        path = f"layers.{index}"
        attentions = {"self_attn": side_attention(f"{path}.self_attn", s.hidden, key_bias=key_bias)}
        yield from side_layer(path, s.hidden, s.inner, attentions)


def whisper_encoder(s: Settings) -> Named:
    """Whisper's encoder."""
    yield from whisper_convs(s, s.hidden)
    yield from embedding("embed_positions", s.size("max_source_positions"), s.hidden)
    yield from whisper_layers(s)
    yield from layer_norm("layer_norm", s.hidden)


def hearing(audio: Part, projector: Listening) -> Beside:
    """An encoder of sound and a projector."""

    def beside(s: Settings, text: Settings) -> Named:
        settings, modules = audio.of(s)
        yield from below("audio_tower", modules(settings))
        yield from projector(s, settings, text)

    return beside


def before_5(build: Build) -> dict[str, Build]:
    """The names where the language model had its head inside, and nothing stood below ``model``."""
    return {TRANSFORMERS_4: head_inside(build)}


def heard(text: Part, audio: Part, projector: Listening) -> Architecture:
    """Return the definition of a language model that hears."""
    build = with_towers(text, hearing(audio, projector))
    return composite(build, before_5(build))
