"""Florence-2: BART behind a tower that attends within windows and across channels."""

from __future__ import annotations

from itertools import pairwise

from lora_packer.base_model.architecture import Architectures
from lora_packer.base_model.blocks.composite import Part, Tower, composite, fixed, with_towers
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.layers import conv, depthwise, embedding, layer_norm, linear
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _florence_visual(s: Settings) -> Named:
    """Stages of blocks that attend within windows, then across channels."""
    widths, sides, depths = (s.sizes(name) for name in ("embed_dim", "patch_size", "depths"))
    before = s.value("patch_prenorm")
    if not len(widths) == len(sides) == len(depths) or not isinstance(before, list | tuple) or len(before) < len(sides):
        raise InputError(
            "the base config's lists for the stages of its vision tower differ in length.",
            hint="Use the base model's own config.json.",
        )
    for stage, (inputs, width) in enumerate(pairwise((s.size("in_channels"), *widths))):
        side = sides[stage]
        yield from conv(f"convs.{stage}.conv", (width, inputs, side, side), bias=True)
        yield from layer_norm(f"convs.{stage}.norm", inputs if before[stage] else width)
        for block in range(depths[stage]):
            for kind, name in (("spatial_block", "window_attn"), ("channel_block", "channel_attn")):
                yield from _florence_visual_block(s, f"blocks.{stage}.{block}.{kind}", name, width)


def _florence_visual_block(s: Settings, path: str, name: str, width: int) -> Named:
    inner = int(width * s.ratio("mlp_ratio"))
    yield from linear(f"{path}.{name}.qkv", 3 * width, width, bias=s.flag("qkv_bias"))
    yield from linear(f"{path}.{name}.proj", width, width, bias=True)
    for number in (1, 2):
        yield from depthwise(f"{path}.conv{number}", width, 3, 3, bias=True)
        yield from layer_norm(f"{path}.norm{number}", width)
    yield from two_linears_mlp(f"{path}.ffn", width, inner)


def _florence_projector(_s: Settings, vision: Settings, _text: Settings) -> Named:
    last, outputs = vision.sizes("embed_dim")[-1], vision.size("projection_dim")
    positions, path = vision.size("max_position_embeddings"), "multi_modal_projector"
    yield from linear(f"{path}.image_projection", outputs, last)
    yield from layer_norm(f"{path}.image_proj_norm", outputs)
    yield from embedding(f"{path}.image_position_embed.row_embeddings", positions, last // 2)
    yield from embedding(f"{path}.image_position_embed.column_embeddings", positions, last - last // 2)


_FLORENCE_TEXT = Part("text_config", "bart", attribute_map={"hidden_size": "d_model"})

ARCHITECTURES: Architectures = {
    "florence2": composite(
        with_towers(
            _FLORENCE_TEXT,
            seeing(fixed("vision_config", Tower("florence_vision", _florence_visual)), _florence_projector),
        ),
        input_embedding="language_model.shared",
    ),
}
