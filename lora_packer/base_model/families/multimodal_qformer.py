"""Models that read the image through a Q-Former: BLIP-2, InstructBLIP and Granite 4 Vision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear
from lora_packer.base_model.families.common import sizes
from lora_packer.base_model.families.composite import Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.families.multimodal_ocr import granite_text
from lora_packer.base_model.families.vision import conv, patches, vision_config
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def blip_visual(s: Settings) -> Named:
    """The tower of BLIP and its successors."""
    hidden, inner, patch = s.size("hidden_size"), s.size("intermediate_size"), s.size("patch_size")
    yield "embeddings.class_embedding", Module("parameter", (1, 1, hidden))
    yield "embeddings.position_embedding", Module("parameter", (1, patches(s) + 1, hidden))
    yield conv("embeddings.patch_embedding", (hidden, 3, patch, patch), bias=True)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layers.{index}"
        yield linear(f"{path}.self_attn.qkv", 3 * hidden, hidden, bias=s.flag("qkv_bias"))
        yield linear(f"{path}.self_attn.projection", hidden, hidden, bias=True)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.layer_norm1", hidden)
        yield from layer_norm(f"{path}.layer_norm2", hidden)
    yield from layer_norm("post_layernorm", hidden)


def bert_attention(path: str, hidden: int, read: int) -> Named:
    """BERT's attention, whose keys and values come from what is ``read``."""
    yield linear(f"{path}.attention.query", hidden, hidden, bias=True)
    yield linear(f"{path}.attention.key", hidden, read, bias=True)
    yield linear(f"{path}.attention.value", hidden, read, bias=True)
    yield linear(f"{path}.output.dense", hidden, hidden, bias=True)
    yield from layer_norm(f"{path}.output.LayerNorm", hidden)


def bert_mlp(path: str, hidden: int, inner: int, suffix: str = "") -> Named:
    """BERT's feed-forward block."""
    yield linear(f"{path}.intermediate{suffix}.dense", inner, hidden, bias=True)
    yield linear(f"{path}.output{suffix}.dense", hidden, inner, bias=True)
    yield from layer_norm(f"{path}.output{suffix}.LayerNorm", hidden)


def _qformer_layers(s: Settings, *, reads_text: bool) -> Named:
    """The layers, some of which attend to the image; the text has a feed-forward block of its own."""
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        yield from bert_attention(f"{path}.attention", hidden, hidden)
        if index % s.size("cross_attention_frequency") == 0:
            yield from bert_attention(f"{path}.crossattention", hidden, s.size("encoder_hidden_size"))
        if reads_text:
            yield from bert_mlp(path, hidden, inner)
        yield from bert_mlp(path, hidden, inner, "_query")


def _blip2_qformer(s: Settings) -> Named:
    yield from layer_norm("layernorm", s.size("hidden_size"))
    yield from _qformer_layers(s, reads_text=s.flag("use_qformer_text_input"))


def _instruct_qformer(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield embedding("embeddings.word_embeddings", s.size("vocab_size"), hidden)
    yield embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), hidden)
    yield from layer_norm("embeddings.layernorm", hidden)
    yield from _qformer_layers(s, reads_text=True)


def whole_language_model(model_type: str) -> Tower | None:
    """The class of a text model type with its head."""
    from lora_packer.base_model.families import ARCHITECTURES

    architecture = ARCHITECTURES.get(model_type)
    if architecture is None or architecture.text_config is not None:
        return None
    build = architecture.dialects[TRANSFORMERS_5]
    head: Head = "seq2seq" if architecture.encoder_decoder else "causal-lm"
    return Tower(architecture.defaults, lambda s: build(s, head))


def _blip2(qformer: Tower, *, bare: Part, default_targets: tuple[str, ...] = ()) -> Architecture:
    """``bare`` is the language model in the class without a head."""
    part = fixed("qformer_config", qformer)

    def build(s: Settings, head: Head) -> Named:
        vision, visual = _VISION.of(s)
        reading, query = part.of(s)
        text, language = (bare if head == "none" else _LANGUAGE).of(s)
        reading = reading.with_fields(encoder_hidden_size=vision.size("hidden_size"))
        width = reading.size("hidden_size")
        yield "query_tokens", Module("parameter", (1, s.size("num_query_tokens"), width))
        yield from below("vision_model", visual(vision))
        yield from below("qformer", query(reading))
        # T5 calls the size of its states d_model.
        outputs = text.aliased({"hidden_size": "d_model"}).size("hidden_size")
        yield linear("language_projection", outputs, width, bias=True)
        yield from below("language_model", language(text))

    return composite({"num_query_tokens": 32}, build, default_targets=default_targets)


def _granite_beside(s: Settings, text: Settings) -> Named:
    """The tower, and a downsampler for every layer of it that the config reads and for each of four offsets."""
    vision, visual = _GRANITE_VISION.of(s)
    yield "image_newline", Module("parameter", (text.size("hidden_size"),))
    yield from below("vision_tower", visual(vision))
    read = s.value("deepstack_layer_map")
    layers = len(read) if isinstance(read, list | tuple) else 0
    for name, count in (("layerwise_projectors", layers), ("spatial_projectors", 4)):
        for index in range(count):
            yield from below(f"{name}.{index}", _downsampler(s, vision, text))


def _downsampler(s: Settings, vision: Settings, text: Settings) -> Named:
    width, (query, window) = vision.size("hidden_size"), _downsample_rate(s)
    reading, qformer = _GRANITE_QFORMER.of(s)
    yield from below("qformer", qformer(reading.with_fields(hidden_size=width, encoder_hidden_size=width)))
    yield from layer_norm("norm", width)
    yield "query", Module("parameter", (1, query**2, width))
    yield "image_positions", Module("parameter", (1, window**2, width))
    yield linear("out_linear", text.size("hidden_size"), width, bias=True)


def _downsample_rate(s: Settings) -> tuple[int, int]:
    """The sides of a query and of the window that it reads, written as a fraction. Raises InputError."""
    query, _, window = str(s.value("downsample_rate")).partition("/")
    if not (query.isdecimal() and window.isdecimal()):
        raise InputError(
            "the base config's downsample_rate is not a fraction such as '4/8'.",
            hint="Use the base model's own config.json.",
        )
    return int(query), int(window)


_BLIP_VISION: dict[str, Any] = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "image_size": 224,
    "patch_size": 14,
    "qkv_bias": True,
}
_QFORMER: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "cross_attention_frequency": 2,
    "encoder_hidden_size": 1408,
}
BLIP2_QFORMER = Tower(_QFORMER, _blip2_qformer)
_VISION = fixed("vision_config", Tower(_BLIP_VISION, blip_visual))
_LANGUAGE = Part("text_config", "opt", whole_language_model)
_GRANITE_VISION = vision_config("clip_vision_model")
_GRANITE_QFORMER = fixed(
    "qformer_config",
    Tower(_QFORMER, _blip2_qformer),
    absent={"num_hidden_layers": 1, "cross_attention_frequency": 1},
)
_GRANITE_TEXT = fixed("text_config", Tower(sizes(32000, 4096, 11008, 32, 32, None), granite_text))
_BLIP2 = _blip2(BLIP2_QFORMER, bare=_LANGUAGE, default_targets=("q", "v", "q_proj", "v_proj"))
_INSTRUCT = _blip2(Tower(_QFORMER, _instruct_qformer), bare=Part("text_config", "opt"))

ARCHITECTURES: Mapping[str, Architecture] = {
    "blip-2": _BLIP2,
    "instructblip": _INSTRUCT,
    "instructblipvideo": _INSTRUCT,
    "granite4_vision": composite({}, with_towers(_GRANITE_TEXT, _granite_beside)),
}
