"""NVIDIA's Cosmos 3: models that see."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, like
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import (
    Tower,
    composite,
    fixed,
    with_towers,
)
from lora_packer.base_model.blocks.frames import stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip2
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _edge_text(s: Settings) -> Named:
    mlp_bias = s.flag("mlp_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from linear(f"{prefix}.mlp.fc1", s.inner, s.hidden, bias=mlp_bias)
        yield from linear(f"{prefix}.mlp.fc2", s.hidden, s.inner, bias=mlp_bias)

    return stacked(s, layer)


def _edge_visual(s: Settings) -> Named:
    """SigLIP 2 without its pooling head."""
    return siglip2(s.with_fields(vision_use_head=False))


def _edge_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    inner = s.size("projector_hidden_size")
    yield from layer_norm("projector.norm", vision.hidden)
    yield from linear("projector.linear_fc1", inner, vision.hidden * vision.size("spatial_merge_size") ** 2, bias=True)
    yield from linear("projector.linear_fc2", text.hidden, inner, bias=True)


_EDGE_TEXT = fixed("text_config", Tower("cosmos3_edge_text", _edge_text))

ARCHITECTURES: Architectures = {
    "cosmos3_omni": like("qwen3_vl"),
    "cosmos3_edge": composite(
        with_towers(
            _EDGE_TEXT,
            seeing(fixed("vision_config", Tower("cosmos3_edge_vision", _edge_visual)), _edge_projector, "visual"),
        )
    ),
}
