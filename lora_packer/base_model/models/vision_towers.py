"""The vision towers that a ``vision_config`` names by a model type of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.blocks.composite import Part, Tower
from lora_packer.base_model.blocks.towers import clip, internvl, pixtral, siglip, siglip2, tower_sizes

TOWERS: Mapping[str, Tower] = {
    "clip_vision_model": Tower(tower_sizes(768, 3072, 12, 12, 32, 224), clip),
    "siglip_vision_model": Tower(tower_sizes(768, 3072, 12, 12, 16, 224, vision_use_head=True), siglip),
    "siglip2_vision_model": Tower(
        tower_sizes(768, 3072, 12, 12, 16, 224, num_patches=256, vision_use_head=True), siglip2
    ),
    "pixtral": Tower(tower_sizes(1024, 4096, 24, 16, 16, 1024), pixtral),
    "internvl_vision": Tower(
        tower_sizes(
            1024,
            4096,
            24,
            16,
            14,
            448,
            attention_bias=False,
            use_qk_norm=False,
            norm_type="layer_norm",
            use_mask_token=False,
            use_absolute_position_embeddings=True,
            use_mean_pooling=True,
        ),
        internvl,
    ),
}


def vision_config(model_type: str, absent: Mapping[str, Any] | None = None) -> Part:
    """Return the nested config of a vision tower, of this type unless it says another."""
    return Part("vision_config", model_type, TOWERS.get, absent=absent or {})
