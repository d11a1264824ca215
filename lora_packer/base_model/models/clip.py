"""CLIP: both encoders, and each alone."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    Architecture,
    Architectures,
    Head,
    declared,
    named_class,
    only_for,
)
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed
from lora_packer.base_model.blocks.layers import linear, parameter
from lora_packer.base_model.blocks.towers import clip, clip_text
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_TEXT = fixed("text_config", Tower("clip_text_model", clip_text))
_VISION = fixed("vision_config", Tower("clip_vision_model", clip))


def _both(raw: Settings, head: Head) -> Named:
    s = _of_older(raw)
    (text, words), (vision, images) = _TEXT.of(s), _VISION.of(s)
    yield from below("vision_model", images(vision))
    if head == "sequence-classification":
        yield from linear("classifier", s.labels(), vision.hidden, bias=True)
        return
    yield from parameter("logit_scale")
    yield from below("text_model", words(text))
    yield from linear("visual_projection", s.size("projection_dim"), vision.hidden)
    yield from linear("text_projection", s.size("projection_dim"), text.hidden)


def _of_older(s: Settings) -> Settings:
    """The first configs have the fields of each encoder twice, and those of the other name count."""
    older = {name: s.raw.get(f"{name}_dict") for name in ("text_config", "vision_config")}
    return s.with_fields(**{name: fields for name, fields in older.items() if isinstance(fields, Mapping)})


def _alone(cls: str, tower: Tower, name: str, projection: str, input_embedding: str | None) -> Architecture:
    """One encoder, in a class of its own and in one with a projection."""

    def build(s: Settings, _head: Head) -> Named:
        if not _projects(s):
            yield from tower.modules(s)
            return
        yield from below(name, tower.modules(s))
        yield from linear(projection, s.size("projection_dim"), s.hidden)

    def before_5(s: Settings, head: Head) -> Named:
        """The class without the projection held the encoder inside, too."""
        return build(s, head) if _projects(s) else below(name, build(s, head))

    classes = (cls, f"{cls}WithProjection")
    return declared(
        only_for(build, *classes), {TRANSFORMERS_4: only_for(before_5, *classes)}, input_embedding=input_embedding
    )


def _projects(s: Settings) -> bool:
    return (named_class(s) or "").endswith("WithProjection")


ARCHITECTURES: Architectures = {
    "clip": composite(only_for(_both, "CLIPModel", "CLIPForImageClassification"), input_embedding="token_embedding"),
    "clip_text_model": _alone(
        "CLIPTextModel", Tower("clip_text_model", clip_text), "text_model", "text_projection", "token_embedding"
    ),
    "clip_vision_model": _alone(
        "CLIPVisionModel", Tower("clip_vision_model", clip), "vision_model", "visual_projection", None
    ),
}
