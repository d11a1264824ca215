"""Aria: a language model of experts, and the tower beside it."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    Architecture,
    Architectures,
    declared,
)
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    composite,
    fixed,
    head_inside,
    text_only,
    text_part,
    with_towers,
)
from lora_packer.base_model.blocks.experts import Experts, both_names
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.layers import chain, layer_norm, linear, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _aria_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Aria's router and experts, whose weights are stored as (experts, in, out)."""
    yield from parameter(f"{prefix}.router.weight", count, hidden)
    yield f"{prefix}.experts.gate_up_proj", Module("parameter", (count, hidden, 2 * intermediate), transposed=True)
    yield f"{prefix}.experts.down_proj", Module("parameter", (count, intermediate, hidden), transposed=True)


def _aria_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from linear(f"{prefix}.router", count, hidden)
    yield from parameter(f"{prefix}.experts.fc1.weight", count, hidden, 2 * intermediate)
    yield from parameter(f"{prefix}.experts.fc2.weight", count, intermediate, hidden)


def _aria(s: Settings, *, experts: Experts = _aria_experts) -> Named:
    count = s.size("moe_num_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from experts(f"{prefix}.mlp", s.hidden, s.inner, count)
        shared, bias = s.inner * s.count("moe_num_shared_experts"), s.flag("mlp_bias")
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, shared, bias=bias)

    return stacked(s, layer)


def _aria_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Queries that attend to the patches: as many as the largest image needs."""
    path = "multi_modal_projector"
    yield from parameter(f"{path}.query", _aria_queries(s), vision.hidden)
    yield from linear(f"{path}.cross_attn", vision.hidden, vision.hidden, "q_proj", "k_proj", "v_proj")
    yield from parameter(f"{path}.cross_attn.multihead_attn.in_proj_weight", 3 * vision.hidden, vision.hidden)
    yield from parameter(f"{path}.cross_attn.multihead_attn.in_proj_bias", 3 * vision.hidden)
    yield from linear(f"{path}.cross_attn.multihead_attn.out_proj", vision.hidden, vision.hidden, bias=True)
    yield from linear(f"{path}.cross_attn.linear", vision.hidden, vision.hidden, bias=True)
    yield from layer_norm(path, vision.hidden, "cross_attn.layer_norm", "cross_attn.layer_norm_kv", "layer_norm")
    yield from chain(f"{path}.feed_forward", (vision.hidden, text.hidden, text.hidden), "linear_in", "linear_out")


def _aria_queries(s: Settings) -> int:
    named = s.optional_size("max_value_projector_patch_to_query_dict")
    if named is not None:
        return named
    counts = s.filled("projector_patch_to_query_dict").value("projector_patch_to_query_dict")
    listed = list(counts.values()) if isinstance(counts, Mapping) else counts
    return max(s.with_fields(projector_patch_to_query_dict=listed).sizes("projector_patch_to_query_dict"))


def _aria_architecture() -> Architecture:
    tower = Tower("idefics3_vision", siglip_body)
    beside = seeing(Part("vision_config", "idefics3_vision", {"idefics3_vision": tower}.get), _aria_projector)
    text, before_5 = text_part("aria_text"), ARIA_TEXT.dialects[TRANSFORMERS_4]
    older = fixed("text_config", Tower("aria_text", lambda s: before_5(s, "none")))
    before = with_towers(older, beside)
    dialects = {TEXT_ONLY: text_only(text), TRANSFORMERS_4: before, TRANSFORMERS_4_51: head_inside(before)}
    return composite(with_towers(text, beside), dialects)


ARIA_TEXT = declared(*both_names(_aria, _aria_experts_before_5, framed))

ARCHITECTURES: Architectures = {"aria_text": ARIA_TEXT, "aria": _aria_architecture()}
