"""Models of a vision tower, a projector and any language model: LLaVA and its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4, Architecture, Build
from lora_packer.base_model.blocks import Named, layer_norm, linear, norm
from lora_packer.base_model.families.composite import (
    TRANSFORMERS_4_51,
    Beside,
    Part,
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_only,
    with_towers,
)
from lora_packer.base_model.families.vision import siglip_body, tower_sizes, vision_config
from lora_packer.base_model.module import Module
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
    yield linear(f"{path}.linear_1", outputs, inputs, bias=bias)
    yield linear(f"{path}.linear_2", outputs, outputs, bias=bias)


def _features(s: Settings, vision: Settings) -> int:
    """The width of the features: the tower's, for each layer that is read."""
    layers = s.value("vision_feature_layer")
    return vision.size("hidden_size") * (len(layers) if isinstance(layers, list | tuple) else 1)


def llava_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """LLaVA's projector."""
    bias = s.flag("multimodal_projector_bias")
    yield from two_linears("multi_modal_projector", _features(s, vision), text.size("hidden_size"), bias=bias)


def _llava_next(s: Settings, vision: Settings, text: Settings) -> Named:
    yield "image_newline", Module("parameter", (text.size("hidden_size"),))
    yield from llava_projector(s, vision, text)


def _vipllava(s: Settings, vision: Settings, text: Settings) -> Named:
    features = _features(s.aliased({"vision_feature_layers": "vision_feature_layer"}), vision)
    yield from layer_norm("multi_modal_projector.projector_layernorm", features)
    yield from two_linears("multi_modal_projector", features, text.size("hidden_size"))


def mistral3_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Mistral 3's projector, which merges neighbouring patches first."""
    hidden = vision.size("hidden_size")
    merged = hidden * s.size("spatial_merge_size") ** 2
    yield norm("multi_modal_projector.norm", hidden)
    yield linear("multi_modal_projector.patch_merger.merging_layer", hidden, merged)
    yield from llava_projector(s, vision, text)


def _paligemma(s: Settings, vision: Settings, _text: Settings) -> Named:
    yield linear("multi_modal_projector.linear", s.size("projection_dim"), vision.size("hidden_size"), bias=True)


def internvl_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """InternVL's projector, which folds neighbouring patches into one."""
    folded = vision.size("hidden_size") * int(1 / s.ratio("downsample_ratio")) ** 2
    yield from layer_norm("multi_modal_projector.layer_norm", folded)
    yield from two_linears("multi_modal_projector", folded, text.size("hidden_size"))


def _aya(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.size("hidden_size") * s.size("downsample_factor") ** 2
    width = s.optional_size("alignment_intermediate_size") or text.size("hidden_size")
    yield from layer_norm("multi_modal_projector.layernorm", folded)
    yield linear("multi_modal_projector.linear_1", width, folded, bias=True)
    yield linear("multi_modal_projector.linear_2", text.size("hidden_size"), width // 2, bias=True)


def _idefics3(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.size("hidden_size") * s.size("scale_factor") ** 2
    yield linear("connector.modality_projection.proj", text.size("hidden_size"), folded)


def gemma3_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    """Gemma 3's projector."""
    hidden = vision.size("hidden_size")
    weight = Module("parameter", (hidden, text.size("hidden_size")))
    yield "multi_modal_projector.mm_input_projection_weight", weight
    yield norm("multi_modal_projector.mm_soft_emb_norm", hidden)


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
    text: Part,
    vision: Part,
    projector: Projector,
    defaults: Mapping[str, Any],
    *,
    wrapped: bool = True,
    text_class: bool = False,
) -> Architecture:
    """Return the definition of a model in the frame of LLaVA, which may have a class without the tower."""
    build = with_towers(text, seeing(vision, projector))
    others = {TEXT_ONLY: text_only(text)} if text_class else {}
    return composite(defaults, build, {**others, **older_names(build, wrapped=wrapped)})


def _text(model_type: str, **absent: Any) -> Part:
    return Part("text_config", model_type, absent=absent)


def _idefics(prefix_type: str) -> Architecture:
    tower = Tower(tower_sizes(1152, 3072, 12, 16, 32, 224), siglip_body)
    beside = seeing(fixed("vision_config", tower), _idefics3, "vision_model")
    return composite({"scale_factor": 2}, with_towers(_text(prefix_type), beside, language="text_model"))


_CLIP = vision_config("clip_vision_model", tower_sizes(1024, 4096, 24, 16, 14, 336))
_PIXTRAL = vision_config("pixtral", tower_sizes(1024, 4096, 24, 16, 14, 1540))
_LLAVA = {"vision_feature_layer": -2, "multimodal_projector_bias": True}
_GEMMA3_TEXT = _text("gemma3_text")
_PALIGEMMA_TEXT = {
    "hidden_size": 2048,
    "num_hidden_layers": 18,
    "intermediate_size": 16384,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "vocab_size": 257152,
}
_MISTRAL3_TEXT = {
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "vocab_size": 131072,
}


ARCHITECTURES: Mapping[str, Architecture] = {
    "llava": llava_like(_text("llama"), _CLIP, llava_projector, _LLAVA),
    "llava_next": llava_like(_text("llama"), _CLIP, _llava_next, _LLAVA),
    "llava_onevision": llava_like(
        _text("qwen2"),
        vision_config("siglip_vision_model", tower_sizes(1152, 4304, 26, 16, 14, 384, vision_use_head=False)),
        _llava_next,
        {"vision_feature_layer": -1, "multimodal_projector_bias": True},
    ),
    "vipllava": llava_like(_text("llama"), _CLIP, _vipllava, {"vision_feature_layer": [-2, -5, -8, -11, 6]}),
    "mistral3": llava_like(
        _text("mistral", **_MISTRAL3_TEXT),
        _PIXTRAL,
        mistral3_projector,
        {"vision_feature_layer": -1, "multimodal_projector_bias": False, "spatial_merge_size": 2},
        wrapped=False,
    ),
    "internvl": llava_like(
        _text("qwen2"), vision_config("internvl_vision"), internvl_projector, {"downsample_ratio": 0.5}, wrapped=False
    ),
    "idefics3": _idefics("llama"),
    "smolvlm": _idefics("llama"),
    "gemma3": llava_like(_GEMMA3_TEXT, vision_config("siglip_vision_model"), gemma3_projector, {}, text_class=True),
    "paligemma": llava_like(
        _text("gemma", **_PALIGEMMA_TEXT),
        vision_config("siglip_vision_model", tower_sizes(1152, 4096, 27, 16, 14, 224, vision_use_head=False)),
        _paligemma,
        {"projection_dim": 2048},
    ),
    "aya_vision": llava_like(
        _text("cohere2"),
        vision_config("siglip_vision_model", tower_sizes(1152, 4304, 26, 14, 14, 384, vision_use_head=False)),
        _aya,
        {"downsample_factor": 2},
    ),
}
