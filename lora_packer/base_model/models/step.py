"""StepFun's Step3 models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import Architectures
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, with_towers
from lora_packer.base_model.blocks.experts import fused_experts
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import fields_by_layer, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import patch_conv, patches, scaled_layers
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _step_text(s: Settings) -> Named:
    """Gated attention, with other numbers of heads in sliding layers, and experts from the fourth layer on."""
    head_dim, bias = s.size("head_dim"), s.flag("attention_bias")
    attends = layer_kinds(s.names("layer_types"), lambda _: "full_attention")
    kind, mlp_bias = _step_kinds(s), s.flag("mlp_bias")
    by_layer = {} if "per_layer_config" in s.raw and s.value("per_layer_config") is None else fields_by_layer(s)

    def layer(prefix: str, index: int) -> Named:
        saved = None if by_layer is None else by_layer.get(index, {})
        heads = _step_heads(s, saved, sliding=attends(index) == "sliding_attention")
        own = s.with_fields(num_attention_heads=heads)
        yield from grouped_attention(own, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
        yield from linear(f"{prefix}.self_attn.g_proj", heads, s.hidden)
        if kind(index) == "sparse":
            yield from fused_experts(
                f"{prefix}.mlp", s.hidden, s.size("moe_intermediate_size"), s.size("n_routed_experts")
            )
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, s.size("share_expert_dim"), bias=mlp_bias)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp", bias=mlp_bias)

    return stacked(s, layer)


def _step_kinds(s: Settings) -> Callable[[int], str]:
    """Which layers have experts: listed by kind, by number, or as numbers between commas."""
    listed, named = s.names("mlp_layer_types"), s.value("moe_layers_enum")
    if listed is not None or named is None:
        return layer_kinds(listed, lambda index: "sparse" if index >= 3 else "dense")
    if isinstance(named, str):
        numbers = frozenset(number.strip() for number in named.split(","))
    else:
        numbers = frozenset(str(number) for number in s.indices("moe_layers_enum"))
    return lambda index: "sparse" if str(index) in numbers else "dense"


def _step_heads(s: Settings, saved: Mapping[str, Any] | None, *, sliding: bool) -> int:
    """The number of heads: as saved for the layer, or that of sliding layers."""
    if saved is not None:
        return Settings(saved, {}).optional_size("num_attention_heads") or s.heads
    if not sliding:
        return s.heads
    other = s.nested("attention_other_setting").optional_size("num_attention_heads")
    return s.optional_size("num_sliding_attention_heads") or other or s.heads


def _step_visual(s: Settings) -> Named:
    s = s.aliased({"width": "hidden_size", "layers": "num_hidden_layers"})
    hidden, inner = s.hidden, int(s.hidden * s.ratio("mlp_ratio"))
    yield from patch_conv(s, "embeddings.patch_embedding", bias=False)
    yield from embedding("embeddings.position_embedding", patches(s), hidden)
    yield from layer_norm("pre_layernorm", hidden)
    yield from scaled_layers(s, inner)
    yield from conv("downsampler1", (2 * hidden, hidden, 3, 3), bias=True)
    yield from conv("downsampler2", (4 * hidden, 2 * hidden, 3, 3), bias=True)


def _step_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden = vision.aliased({"width": "hidden_size"}).hidden
    yield from linear("multi_modal_projector", text.hidden, 4 * hidden, bias=s.flag("projector_bias"))


_STEP_TEXT = fixed(
    "text_config",
    Tower("step3p5", _step_text),
    attribute_map={
        "moe_num_experts": "n_routed_experts",
        "num_attention_groups": "num_key_value_heads",
        "share_expert_dims": "share_expert_dim",
    },
)

ARCHITECTURES: Architectures = {
    "step3p7": composite(
        with_towers(
            _STEP_TEXT,
            seeing(fixed("vision_config", Tower("step3p5_vision", _step_visual)), _step_projector, "vision_model"),
        )
    )
}
