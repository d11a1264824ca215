"""NVIDIA's Cosmos 3: models that see."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, declared, like
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import (
    Tower,
    composite,
    fixed,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import ungated_mlp
from lora_packer.base_model.blocks.frames import decoder, framed
from lora_packer.base_model.blocks.layers import chain, flagged, layer_norm
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip2
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_edge_text = decoder(
    {"self_attn": plain_attention, "mlp": flagged(partial(ungated_mlp, names=("fc1", "fc2")), bias="mlp_bias")}
)


def _edge_visual(s: Settings) -> Named:
    """SigLIP 2 without its pooling head."""
    return siglip2(s.with_fields(vision_use_head=False))


def _edge_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    inner = s.size("projector_hidden_size")
    yield from layer_norm("projector.norm", vision.hidden)
    yield from chain(
        "projector",
        (vision.hidden * vision.size("spatial_merge_size") ** 2, inner, text.hidden),
        "linear_fc1",
        "linear_fc2",
        bias=True,
    )


_EDGE_TEXT = fixed("text_config", Tower("cosmos3_edge_text", _edge_text))

ARCHITECTURES: Architectures = {
    "cosmos3_omni": like("qwen3_vl"),
    "cosmos3_edge_text": declared(framed(_edge_text)),
    "cosmos3_edge": composite(
        with_towers(
            _EDGE_TEXT,
            seeing(fixed("vision_config", Tower("cosmos3_edge_vision", _edge_visual)), _edge_projector, "visual"),
        )
    ),
}
