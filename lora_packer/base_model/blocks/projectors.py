"""A tower and a projector before any language model, the frame that LLaVA made common."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4, TRANSFORMERS_4_51, Architecture, Build
from lora_packer.base_model.blocks.composite import (
    Beside,
    Part,
    Tower,
    below,
    composite,
    renamed,
    text_only,
    with_towers,
)
from lora_packer.base_model.blocks.layers import chain
from lora_packer.base_model.blocks.qwen_visual import visual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# Yields what joins the tower to the language model, from the whole config, the tower's and the language model's.
Projector = Callable[[Settings, Settings, Settings], Named]


def seeing(vision: Part, projector: Projector, tower: str = "vision_tower") -> Beside:
    """A vision tower and a projector."""

    def beside(s: Settings, text: Settings) -> Named:
        settings, modules = vision.of(s)
        yield from below(tower, modules(settings))
        yield from projector(s, settings, text)

    return beside


def two_linears(path: str, inputs: int, outputs: int, *, bias: bool = True) -> Named:
    """The projector of most: linear_1, linear_2."""
    yield from chain(path, (inputs, outputs, outputs), "linear_1", "linear_2", bias=bias)


def feature_width(s: Settings, vision: Settings) -> int:
    """The width of the features: the tower's, for each layer that is read."""
    layers = s.value("vision_feature_layer")
    return vision.hidden * (len(layers) if isinstance(layers, list | tuple) else 1)


def llava_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """LLaVA's projector."""
    bias = s.flag("multimodal_projector_bias")
    yield from two_linears("multi_modal_projector", feature_width(s, vision), text.hidden, bias=bias)


def older_names(build: Build, *, wrapped: bool) -> dict[str, Build]:
    """The names before transformers 5, where CLIP's and SigLIP's towers were ``wrapped``, and before 4.52."""
    tower = "vision_tower.vision_model." if wrapped else "vision_tower."
    before_4_52 = renamed(
        build,
        ("model.language_model.", "language_model.model."),
        ("lm_head", "language_model.lm_head"),
        ("model.vision_tower.", tower),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.image_newline", "image_newline"),
    )
    if not wrapped:
        return {TRANSFORMERS_4_51: before_4_52}
    return {
        TRANSFORMERS_4: renamed(build, ("model.vision_tower.", f"model.{tower}"), ("vision_tower.", tower)),
        TRANSFORMERS_4_51: before_4_52,
    }


def llava_like(
    text: Part, vision: Part, projector: Projector, *, wrapped: bool = True, text_class: bool = False
) -> Architecture:
    """Return the definition of a model in the frame of LLaVA, which may have a class without the tower."""
    build = with_towers(text, seeing(vision, projector))
    others = {TEXT_ONLY: text_only(text)} if text_class else {}
    return composite(build, {**others, **older_names(build, wrapped=wrapped)})


def seeing_inside(text: str, tower: Tower) -> Architecture:
    """Return the definition of a language model beside a tower that has the projector inside."""
    part = Part("text_config", text)
    return composite(with_towers(part, visual(tower)), {TEXT_ONLY: text_only(part)})
