"""MobileNetV5, a tower of convolutions, as the library timm builds it.

Names and shapes: timm 1.0.31, ``models/mobilenetv5.py`` (``_gen_mobilenet_v5``) and ``models/_efficientnet_blocks.py``
(https://github.com/huggingface/pytorch-image-models/tree/v1.0.31/timm).
"""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import conv, depthwise, norm, parameter
from lora_packer.base_model.module import Named

STEM = 64
# Channels of each stage.
STAGES = (128, 256, 640, 1280)
# Blocks of the second stage, and the first ones of the third and the fourth: kernels of the first and of the middle
# depthwise convolution (0: there is none), and how many times wider the block is inside.
_SECOND = ((3, 5, 6), (5, 0, 4), (3, 0, 4), (5, 0, 4), (3, 0, 4))
_THIRD = ((5, 5, 6), *((5, 0, 4),) * 7, (0, 0, 1))
_FOURTH = ((5, 5, 6),)
# What follows in the last two: pairs of an attention and of a block that is twice as wide inside. How many pairs,
# heads, the size of a head, and whether the attention reads a picture of half the size.
_PAIRS = {640: (14, 12, 64, True), 1280: (19, 16, 96, False)}


def mobilenet_v5(outputs: int) -> Named:
    """The encoder of 300 million parameters, whose last two stages are joined to ``outputs`` channels."""
    yield from conv("conv_stem.conv", (STEM, 3, 3, 3), bias=True)
    yield from norm("conv_stem.bn", STEM)
    inputs = STEM
    for index in range(3):
        yield from _fused(f"blocks.0.{index}", inputs, 4 * inputs, STAGES[0])
        inputs = STAGES[0]
    for stage, (channels, first) in enumerate(zip(STAGES[1:], (_SECOND, _THIRD, _FOURTH), strict=True), start=1):
        for index, (start, middle, wider) in enumerate(first):
            yield from _inverted(f"blocks.{stage}.{index}", inputs, wider * inputs, channels, start, middle)
            inputs = channels
        pairs, heads, size, halved = _PAIRS.get(channels, (0, 0, 0, False))
        for number in range(pairs):
            path, index = f"blocks.{stage}", len(first) + 2 * number
            yield from _attention(f"{path}.{index}", channels, heads, size, halved=halved)
            yield from _inverted(f"{path}.{index + 1}", channels, 2 * channels, channels, 0, 0)
    joined = sum(STAGES[2:])
    yield from _inverted("msfa.ffn", joined, 2 * joined, outputs, 0, 0, scaled=False)
    yield from norm("msfa.norm", outputs)


def _fused(path: str, inputs: int, inner: int, outputs: int) -> Named:
    yield from conv(f"{path}.conv_exp", (inner, inputs, 3, 3), bias=False)
    yield from norm(f"{path}.bn1", inner)
    yield from conv(f"{path}.conv_pwl", (outputs, inner, 1, 1), bias=False)
    yield from norm(f"{path}.bn2", outputs)


def _inverted(
    path: str, inputs: int, inner: int, outputs: int, start: int, middle: int, *, scaled: bool = True
) -> Named:
    if start:
        yield from depthwise(f"{path}.dw_start.conv", inputs, start, start)
        yield from norm(f"{path}.dw_start.bn", inputs)
    yield from conv(f"{path}.pw_exp.conv", (inner, inputs, 1, 1), bias=False)
    yield from norm(f"{path}.pw_exp.bn", inner)
    if middle:
        yield from depthwise(f"{path}.dw_mid.conv", inner, middle, middle)
        yield from norm(f"{path}.dw_mid.bn", inner)
    yield from conv(f"{path}.pw_proj.conv", (outputs, inner, 1, 1), bias=False)
    yield from norm(f"{path}.pw_proj.bn", outputs)
    if scaled:
        yield from parameter(f"{path}.layer_scale.gamma", outputs)


def _attention(path: str, channels: int, heads: int, size: int, *, halved: bool) -> Named:
    """Attention whose heads share one key and one value."""
    yield from norm(f"{path}.norm", channels)
    yield from conv(f"{path}.attn.query.proj", (heads * size, channels, 1, 1), bias=False)
    for name in ("key", "value"):
        if halved:
            yield from depthwise(f"{path}.attn.{name}.down_conv", channels, 3, 3)
            yield from norm(f"{path}.attn.{name}.norm", channels)
        yield from conv(f"{path}.attn.{name}.proj", (size, channels, 1, 1), bias=False)
    yield from conv(f"{path}.attn.output.proj", (channels, heads * size, 1, 1), bias=False)
    yield from parameter(f"{path}.layer_scale.gamma", channels)
