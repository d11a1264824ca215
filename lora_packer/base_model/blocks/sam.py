"""The tower of Segment Anything, and the neck behind it."""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import chain, conv, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import patch_conv
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def sam_visual(s: Settings) -> Named:
    """The encoder of Segment Anything."""
    outputs, grid = s.size("output_channels"), s.size("image_size") // s.size("patch_size")
    head_dim = s.hidden // s.heads
    inner = s.optional_size("mlp_dim") or int(s.hidden * s.ratio("mlp_ratio"))
    everywhere = s.indices("global_attn_indexes")
    if s.flag("use_abs_pos"):
        yield from parameter("pos_embed", 1, grid, grid, s.hidden)
    yield from patch_conv(s, "patch_embed.projection", bias=True)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=s.flag("qkv_bias"))
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=True)
        if s.flag("use_rel_pos"):
            side = grid if index in everywhere else s.count("window_size") or grid
            yield from parameter(f"{path}.attn.rel_pos_h", 2 * side - 1, head_dim)
            yield from parameter(f"{path}.attn.rel_pos_w", 2 * side - 1, head_dim)
        yield from chain(f"{path}.mlp", (s.hidden, inner, s.hidden), "lin1", "lin2", bias=True)
        yield from layer_norm(path, s.hidden, "layer_norm1", "layer_norm2")
    yield from sam_neck("neck", s.hidden, outputs)


def sam_neck(path: str, hidden: int, outputs: int) -> Named:
    """What narrows the output of Segment Anything's encoder."""
    yield from conv(f"{path}.conv1", (outputs, hidden, 1, 1), bias=False)
    yield from layer_norm(f"{path}.layer_norm1", outputs)
    yield from conv(f"{path}.conv2", (outputs, outputs, 3, 3), bias=False)
    yield from layer_norm(f"{path}.layer_norm2", outputs)
