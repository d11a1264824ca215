"""Decoders in BART's line that read images: Florence-2 and PP-FormulaNet."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head
from lora_packer.base_model.blocks.composite import Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import head_modules
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.sam import sam_visual
from lora_packer.base_model.models.bart import MBART
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
        yield conv(f"convs.{stage}.conv", (width, inputs, side, side), bias=True)
        yield from layer_norm(f"convs.{stage}.norm", inputs if before[stage] else width)
        for block in range(depths[stage]):
            for kind, name in (("spatial_block", "window_attn"), ("channel_block", "channel_attn")):
                yield from _florence_visual_block(s, f"blocks.{stage}.{block}.{kind}", name, width)


def _florence_visual_block(s: Settings, path: str, name: str, width: int) -> Named:
    inner = int(width * s.ratio("mlp_ratio"))
    yield linear(f"{path}.{name}.qkv", 3 * width, width, bias=s.flag("qkv_bias"))
    yield linear(f"{path}.{name}.proj", width, width, bias=True)
    for number in (1, 2):
        yield conv(f"{path}.conv{number}", (width, 1, 3, 3), bias=True)
        yield from layer_norm(f"{path}.norm{number}", width)
    yield from two_linears_mlp(f"{path}.ffn", width, inner)


def _florence_projector(_s: Settings, vision: Settings, _text: Settings) -> Named:
    last, outputs = vision.sizes("embed_dim")[-1], vision.size("projection_dim")
    positions, path = vision.size("max_position_embeddings"), "multi_modal_projector"
    yield linear(f"{path}.image_projection", outputs, last)
    yield from layer_norm(f"{path}.image_proj_norm", outputs)
    yield embedding(f"{path}.image_position_embed.row_embeddings", positions, last // 2)
    yield embedding(f"{path}.image_position_embed.column_embeddings", positions, last - last // 2)


def _formula(s: Settings, head: Head) -> Named:
    """Segment Anything's encoder and mBART's decoder."""
    before = "" if head == "none" else "model."
    (text, both), (vision, visual) = _FORMULA_TEXT_PART.of(s), _FORMULA_VISION_PART.of(s)
    inputs, middle, outputs = (vision.size(f"post_conv_{name}_channels") for name in ("in", "mid", "out"))
    path = f"{before}encoder.multi_modal_projector"
    yield from below(f"{before}encoder", visual(vision))
    yield conv(f"{path}.conv1", (middle, inputs, 3, 3), bias=False)
    yield conv(f"{path}.conv2", (outputs, middle, 3, 3), bias=False)
    yield linear(f"{path}.linear_1", outputs, outputs, bias=True)
    yield linear(f"{path}.linear_2", vision.size("decoder_hidden_size"), outputs, bias=True)
    for name, module in both(text):
        if name.startswith("decoder."):
            yield before + name, module
    yield from head_modules(text, head, width="d_model")


def _formula_sides(s: Settings) -> Named:
    return MBART.dialects[TRANSFORMERS_5](s, "none")


_FORMULA_TEXT_PART = fixed(
    "text_config", Tower("pp_formulanet_text", _formula_sides), attribute_map={"hidden_size": "d_model"}
)
_FORMULA_VISION_PART = fixed("vision_config", Tower("pp_formulanet_vision", sam_visual))
_FLORENCE_TEXT = Part("text_config", "bart", attribute_map={"hidden_size": "d_model"})

ARCHITECTURES: Mapping[str, Architecture] = {
    "florence2": composite(
        with_towers(
            _FLORENCE_TEXT,
            seeing(fixed("vision_config", Tower("florence_vision", _florence_visual)), _florence_projector),
        ),
        input_embedding="language_model.shared",
    ),
    "pp_formulanet": composite(_formula),
}
