"""More models in the frame of LLaVA: a tower, a projector, and a language model that is defined elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import Architecture, Build, Head
from lora_packer.base_model.blocks import Named, layer_norm, linear, norm
from lora_packer.base_model.families.common import layer_kinds, qk_norms, sizes
from lora_packer.base_model.families.composite import Beside, Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.families.multimodal import ARCHITECTURES as LLAVA
from lora_packer.base_model.families.multimodal import internvl_projector, llava_projector, seeing, two_linears
from lora_packer.base_model.families.multimodal_qwen import QWEN2_5_VISION, qwen2_5_visual
from lora_packer.base_model.families.vision import (
    TOWERS,
    clip_layers,
    conv,
    patch_conv,
    siglip_body,
    tower_sizes,
    vision_config,
)
from lora_packer.base_model.settings import Settings


def _qianfan_visual(s: Settings) -> Named:
    """InternVL's tower with its layers one level higher."""
    for path, module in TOWERS["internvl_vision"].modules(s):
        yield path.replace("encoder.layer.", "layers."), module


def _lighton_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden = vision.size("hidden_size")
    yield norm("vision_projection.norm", hidden)
    yield linear("vision_projection.patch_merger.merging_layer", hidden, hidden * s.size("spatial_merge_size") ** 2)
    yield from two_linears("vision_projection", hidden, text.size("hidden_size"), bias=False)


def _video_llama_visual(s: Settings) -> Named:
    """SigLIP without positions."""
    yield patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", s.size("hidden_size"))


def _readout(_s: Settings, vision: Settings, text: Settings) -> Named:
    hidden = text.size("hidden_size")
    yield linear("projector.readout.0", hidden, vision.size("hidden_size"), bias=True)
    yield linear("projector.readout.2", hidden, hidden, bias=True)


def _one_linear(_s: Settings, vision: Settings, text: Settings) -> Named:
    yield linear("projector", text.size("hidden_size"), vision.size("out_hidden_size"), bias=True)


def _minicpm_visual(s: Settings) -> Named:
    """SigLIP, which merges windows of patches halfway."""
    yield from siglip_body(s)
    hidden, (height, width) = s.size("hidden_size"), s.pair("window_kernel_size")
    window, inner = hidden * height * width, s.size("intermediate_size") * height * width
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield linear(f"vit_merger.self_attn.{name}", hidden, hidden, bias=True)
    yield from layer_norm("vit_merger.layer_norm1", hidden)
    yield from layer_norm("vit_merger.pre_norm", window)
    yield linear("vit_merger.linear_1", inner, window, bias=True)
    yield linear("vit_merger.linear_2", hidden, inner, bias=True)


def _minicpm_merger(s: Settings, vision: Settings, text: Settings) -> Named:
    """The tower's output, merged four to one as often as the config says; the last time to the text's width."""
    hidden, last = vision.size("hidden_size"), max(s.count("merger_times"), 1) - 1
    for index in range(last + 1):
        path = f"merger.mlp.{index}"
        yield from layer_norm(f"{path}.pre_norm", 4 * hidden)
        yield linear(f"{path}.linear_1", 4 * hidden, 4 * hidden, bias=True)
        outputs = text.size("hidden_size") if index == last else hidden
        yield linear(f"{path}.linear_2", outputs, 4 * hidden, bias=True)


def _video_llava(s: Settings, text: Settings) -> Named:
    """A tower for images and one for videos, of one config."""
    vision, visual = _VIDEO_LLAVA_VISION.of(s)
    for name in ("image_tower", "video_tower"):
        yield from below(name, visual(vision))
    yield from llava_projector(s, vision, text)


def _fuyu(s: Settings, text: Settings) -> Named:
    """No tower: patches are projected as they are."""
    pixels = s.size("patch_size") ** 2 * s.size("num_channels")
    yield linear("vision_embed_tokens", text.size("hidden_size"), pixels, bias=True)


def _lfm3_visual(s: Settings) -> Named:
    """Layers of attention between layers of a short convolution over the plane."""
    hidden, heads, kv_heads = s.size("hidden_size"), s.size("num_attention_heads"), s.size("num_key_value_heads")
    head_dim, inner, side = hidden // heads, s.size("intermediate_size"), s.size("conv_kernel_size")
    kind = layer_kinds(s.names("layer_types"), lambda index: "conv" if index < 2 or index % 2 else "full_attention")
    pixels = s.size("in_channels") * s.size("temporal_patch_size") * s.size("patch_size") ** 2
    yield linear("patch_embed", hidden, pixels)
    yield norm("embedding_norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        if kind(index) == "conv":
            yield linear(f"{path}.conv.in_proj", 3 * hidden, hidden)
            yield conv(f"{path}.conv.spatial_conv", (hidden, 1, side, side), bias=False)
            yield linear(f"{path}.conv.out_proj", hidden, hidden)
        else:
            for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
                yield linear(f"{path}.self_attn.{name}", count * head_dim, hidden)
            yield linear(f"{path}.self_attn.out_proj", hidden, heads * head_dim)
            yield from qk_norms(f"{path}.self_attn", head_dim, head_dim)
        yield linear(f"{path}.feed_forward.w1", inner, hidden)
        yield linear(f"{path}.feed_forward.w3", inner, hidden)
        yield linear(f"{path}.feed_forward.w2", hidden, inner)
        yield norm(f"{path}.operator_norm", hidden)
        yield norm(f"{path}.ffn_norm", hidden)


def _lfm3_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden, inner, bias = vision.size("hidden_size"), s.size("projector_hidden_size"), s.flag("projector_bias")
    folded = hidden * vision.size("spatial_merge_size") ** 2
    yield from layer_norm("multi_modal_projector.layer_norm", hidden)
    yield linear("multi_modal_projector.linear_1", inner, folded, bias=bias)
    yield linear("multi_modal_projector.linear_2", text.size("hidden_size"), inner, bias=bias)


def _classifier(build: Build) -> Build:
    """ShieldGemma 2's own class, which has the whole of Gemma 3 with its head inside."""

    def modules(s: Settings, _head: Head) -> Named:
        for path, module in build(s, "causal-lm"):
            yield f"model.{path}", module

    return modules


def _text(model_type: str, absent: Mapping[str, Any] | None = None) -> Part:
    return Part("text_config", model_type, absent=absent or {})


def _model(text: Part, beside: Beside, defaults: Mapping[str, Any] | None = None) -> Architecture:
    return composite(defaults or {}, with_towers(text, beside))


_QIANFAN = {**TOWERS["internvl_vision"].defaults, "attention_bias": True}
_LIGHTON_TEXT = sizes(151936, 1024, 3072, 28, 16, 8, head_dim=128)
_LIGHTON_VISION = vision_config("pixtral", tower_sizes(1024, 4096, 24, 16, 14, 1540))
_QWEN2_5 = Tower(QWEN2_5_VISION, qwen2_5_visual)
_HYPERCLOVAX_VISION = Part(
    "vision_config",
    "qwen2_5_vl_vision",
    {"qwen2_5_vl_vision": _QWEN2_5}.get,
    aliases={"qwen2_5_vl": "qwen2_5_vl_vision"},
)
_MINICPM_VISION = tower_sizes(768, 3072, 12, 12, 16, 224, window_kernel_size=[2, 2])
_MINICPM = _model(
    _text("qwen3_5_text"),
    seeing(fixed("vision_config", Tower(_MINICPM_VISION, _minicpm_visual)), _minicpm_merger),
    {"merger_times": 1},
)
_VIDEO_LLAVA_VISION = vision_config("clip_vision_model", tower_sizes(1024, 4096, 24, 16, 14, 224))
_LFM3_VISION = tower_sizes(
    1024,
    2560,
    14,
    16,
    16,
    0,
    in_channels=3,
    num_key_value_heads=8,
    spatial_merge_size=2,
    temporal_patch_size=2,
    conv_kernel_size=3,
)
_GEMMA3 = LLAVA["gemma3"]

ARCHITECTURES: Mapping[str, Architecture] = {
    "shieldgemma2": composite(
        {},
        _GEMMA3.dialects["transformers-5"],
        {
            **{name: build for name, build in _GEMMA3.dialects.items() if name != "transformers-5"},
            "image-classification": _classifier(_GEMMA3.dialects["transformers-5"]),
        },
    ),
    "llava_next_video": LLAVA["llava_next"],
    "qianfan_ocr": _model(
        _text("qwen3"),
        seeing(fixed("vision_config", Tower(_QIANFAN, _qianfan_visual)), internvl_projector),
        {"downsample_ratio": 0.5},
    ),
    "lighton_ocr": _model(
        _text("qwen3", _LIGHTON_TEXT),
        seeing(_LIGHTON_VISION, _lighton_projector, "vision_encoder"),
        {"spatial_merge_size": 2},
    ),
    "video_llama_3": _model(
        _text("qwen2"),
        seeing(
            fixed("vision_config", Tower(tower_sizes(768, 3072, 12, 12, 16, 0), _video_llama_visual)),
            _readout,
            "vision_model",
        ),
    ),
    "hyperclovax_vision_v2": _model(_text("hyperclovax"), seeing(_HYPERCLOVAX_VISION, _one_linear, "vision_model")),
    "video_llava": _model(
        _text("llama"), _video_llava, {"vision_feature_layer": -2, "multimodal_projector_bias": True}
    ),
    "fuyu": composite(
        {"patch_size": 30, "num_channels": 3},
        with_towers(Part("text_config", "persimmon", flat=True), _fuyu),
        flat_text=True,
    ),
    "lfm3_vl": _model(
        _text("lfm3"),
        seeing(fixed("vision_config", Tower(_LFM3_VISION, _lfm3_visual)), _lfm3_projector),
        {"projector_hidden_size": 4096, "projector_bias": True},
    ),
    "minicpm_ocr": _MINICPM,
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": _MINICPM,
}
