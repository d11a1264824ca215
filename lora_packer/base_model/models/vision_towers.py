"""The vision towers that a ``vision_config`` names by a model type of their own."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.blocks.composite import Part, Tower
from lora_packer.base_model.blocks.qformer import blip2_qformer
from lora_packer.base_model.blocks.towers import clip, internvl, pixtral, siglip, siglip2

TOWERS: Mapping[str, Tower] = {
    "clip_vision_model": Tower("clip_vision_model", clip),
    "siglip_vision_model": Tower("siglip_vision_model", siglip),
    "siglip2_vision_model": Tower("siglip2_vision_model", siglip2),
    "pixtral": Tower("pixtral", pixtral),
    "internvl_vision": Tower("internvl_vision", internvl),
}

# What reads an image for a language model, in BLIP-2 and in those that took it over.
BLIP2_QFORMER = Tower("blip_2_qformer", blip2_qformer)


def vision_config(model_type: str) -> Part:
    """Return the nested config of a vision tower, of this type unless it says another."""
    return Part("vision_config", model_type, TOWERS.get)
