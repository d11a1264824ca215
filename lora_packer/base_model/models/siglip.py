"""SigLIP and SigLIP 2: both encoders, and that of images alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    Architecture,
    Architectures,
    Build,
    Head,
    declared,
    only_for,
)
from lora_packer.base_model.blocks.composite import Part, Tower, below, composite, fixed
from lora_packer.base_model.blocks.layers import linear, parameter
from lora_packer.base_model.blocks.towers import clip_text, siglip, siglip2
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _text(s: Settings) -> Named:
    yield from clip_text(s)
    yield from linear("head", s.optional_size("projection_size") or s.hidden, s.hidden, bias=True)


def _both(s: Settings, head: Head, *, text: Part, vision: Part) -> Named:
    (words, text_modules), (images, vision_modules) = text.of(s), vision.of(s)
    yield from below("vision_model", vision_modules(images))
    if head == "sequence-classification":
        yield from linear("classifier", s.labels(), images.hidden, bias=True)
        return
    yield from parameter("logit_scale", 1)
    yield from parameter("logit_bias", 1)
    yield from below("text_model", text_modules(words))


def _seeing(model_type: str, tower: Callable[[Settings], Named]) -> tuple[Architecture, Architecture]:
    """Return the definitions of both encoders, and of that of images alone."""
    text = fixed("text_config", Tower(f"{model_type}_text_model", _text))
    vision = fixed("vision_config", Tower(f"{model_type}_vision_model", tower))
    build: Build = partial(_both, text=text, vision=vision)
    name = model_type.capitalize()
    both = composite(
        only_for(build, f"{name}Model", f"{name}ForImageClassification"), input_embedding="token_embedding"
    )
    alone: Build = only_for(lambda s, _head: tower(s), f"{name}VisionModel")
    inside: Build = only_for(lambda s, _head: below("vision_model", tower(s)), f"{name}VisionModel")
    return both, declared(alone, {TRANSFORMERS_4: inside}, input_embedding=None)


_SIGLIP, _SIGLIP_VISION = _seeing("siglip", siglip)
_SIGLIP2, _SIGLIP2_VISION = _seeing("siglip2", siglip2)

ARCHITECTURES: Architectures = {
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP_VISION,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2_VISION,
}
