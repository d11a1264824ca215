"""Gemma 3n: its decoder with an encoder of sound, and a tower of images that is timm's."""

from __future__ import annotations

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architectures,
)
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    text_only,
    with_towers,
)
from lora_packer.base_model.blocks.layers import conv, depthwise, embedding, linear, norm, parameter
from lora_packer.base_model.blocks.mobilenet import mobilenet_v5
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES as DEFINED
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape

# The only one of timm's models that the checkpoints have; its output is this wide.
_MOBILENET, _MOBILENET_WIDTH = "mobilenetv5_300m_enc", 2048
# By how much a block of the encoder of sound is wider inside.
_WIDER = 4


def _vision(s: Settings) -> Named:
    name = s.value("architecture")
    if name != _MOBILENET or s.value("model_args"):
        raise UnknownArchitecture(
            f"there is no proven definition for the tower '{escape(str(name), 60)}' of timm, or for its arguments.",
            hint="The check needs a definition of every part of the base model.",
        )
    return below("timm_model", mobilenet_v5(_MOBILENET_WIDTH))


def _audio(s: Settings) -> Named:
    """A conformer behind two convolutions over a spectrogram."""
    yield from _spectrogram(s)
    for index in range(s.size("conf_num_hidden_layers")):
        path = f"conformer.{index}"
        for name in ("ffw_layer_start", "ffw_layer_end"):
            yield from norm(f"{path}.{name}", s.hidden, "pre_layer_norm", "post_layer_norm")
            yield from linear(f"{path}.{name}.ffw_layer_1", _WIDER * s.hidden, s.hidden)
            yield from linear(f"{path}.{name}.ffw_layer_2", s.hidden, _WIDER * s.hidden)
        yield from _audio_attention(s, f"{path}.attention")
        yield from norm(f"{path}.lconv1d", s.hidden, "pre_layer_norm", "conv_norm")
        yield from linear(f"{path}.lconv1d.linear_start", 2 * s.hidden, s.hidden)
        yield from depthwise(f"{path}.lconv1d.depthwise_conv1d", s.hidden, s.size("conf_conv_kernel_size"))
        yield from linear(f"{path}.lconv1d.linear_end", s.hidden, s.hidden)
        yield from norm(f"{path}.norm", s.hidden)


def _audio_attention(s: Settings, path: str) -> Named:
    heads = s.size("conf_num_attention_heads")
    width = heads * (s.hidden // heads)
    yield from norm(path, s.hidden, "pre_attn_norm", "post_norm")
    yield from parameter(f"{path}.attn.per_dim_scale", s.hidden // heads)
    yield from linear(f"{path}.attn", width, s.hidden, "q_proj", "k_proj", "v_proj")
    yield from linear(f"{path}.attn.relative_position_embedding.pos_proj", width, s.hidden)
    yield from linear(f"{path}.post", s.hidden, s.hidden)


def _spectrogram(s: Settings) -> Named:
    path, inputs, bands = "subsample_conv_projection", 1, s.size("input_feat_size")
    kernels, strides = s.value("sscp_conv_kernel_size"), s.value("sscp_conv_stride_size")
    for index, channels in enumerate(s.sizes("sscp_conv_channel_size")):
        kernel = Settings({"kernel": kernels[index]}, {}).pair("kernel")
        stride = Settings({"stride": strides[index]}, {}).pair("stride")
        yield from conv(f"{path}.conv_{index}.conv", (channels, inputs, *kernel), bias=False)
        yield from norm(f"{path}.conv_{index}.norm", channels)
        inputs, bands = channels, (bands + 2 - kernel[1]) // stride[1] + 1
    yield from linear(f"{path}.input_proj_linear", s.hidden, inputs * bands)


def _embedder(path: str, s: Settings, text: Settings) -> Named:
    """What brings a tower's output, or one of its own tokens, to the language model."""
    yield from embedding(f"{path}.embedding", s.vocab, s.hidden)
    yield from norm(path, s.hidden, "hard_embedding_norm", "soft_embedding_norm")
    yield from linear(f"{path}.embedding_projection", text.hidden, s.hidden)


_VISION = fixed("vision_config", Tower("gemma3n_vision", _vision))
_AUDIO = fixed("audio_config", Tower("gemma3n_audio", _audio))


def _beside(s: Settings, text: Settings) -> Named:
    for name, part in {"vision": _VISION, "audio": _AUDIO}.items():
        settings, modules = part.of(s)
        yield from below(f"{name}_tower", modules(settings))
        yield from _embedder(f"embed_{name}", settings, text)


def _text(dialect: str) -> Part:
    """The language model under the names of a release."""

    def tower(model_type: str) -> Tower | None:
        if model_type != "gemma3n_text":
            return None
        build = DEFINED[model_type].dialects[dialect]
        return Tower(model_type, lambda s: build(s, "none"))

    return Part("text_config", "gemma3n_text", tower)


ARCHITECTURES: Architectures = {
    "gemma3n": composite(
        with_towers(_text(TRANSFORMERS_5), _beside),
        {
            TRANSFORMERS_4: with_towers(_text(TRANSFORMERS_4), _beside),
            TEXT_ONLY: text_only(_text(TRANSFORMERS_5)),
        },
    )
}
