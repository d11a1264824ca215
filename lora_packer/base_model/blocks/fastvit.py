"""FastViT, a tower of convolutions with attention in its last stages, as the library timm builds it.

Names and shapes: timm 1.0.31, ``models/fastvit.py`` (``fastvit_mci3``), the branches of each convolution joined to one
(``inference_mode``; https://github.com/huggingface/pytorch-image-models/tree/v1.0.31/timm).
"""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import conv, depthwise, layer_norm, linear, parameter
from lora_packer.base_model.module import Named

# Channels and blocks of each stage; those from the fourth on have attention.
STAGES = ((96, 2), (192, 12), (384, 24), (768, 4), (1536, 2))
_ATTENDING = 3
# How much wider a block is inside, and how much narrower what weighs the last channels.
_INNER, _WEIGHING = 4, 16


def fastvit_mci3() -> Named:
    """The tower without its classifier."""
    width = STAGES[0][0]
    yield from conv("stem.0.reparam_conv", (width, 3, 3, 3), bias=True)
    yield from depthwise("stem.1.reparam_conv", width, 3, 3, bias=True)
    yield from conv("stem.2.reparam_conv", (width, width, 1, 1), bias=True)
    for stage, (channels, blocks) in enumerate(STAGES):
        path = f"stages.{stage}"
        if stage:
            yield from conv(f"{path}.downsample.proj.0.reparam_conv", (channels, 1, 7, 7), bias=True, groups=width)
            yield from conv(f"{path}.downsample.proj.1.reparam_conv", (channels, channels, 1, 1), bias=True)
        if stage >= _ATTENDING:
            yield from depthwise(f"{path}.pos_emb.reparam_conv", channels, 7, 7, bias=True)
        for index in range(blocks):
            yield from (_attending if stage >= _ATTENDING else _mixing)(f"{path}.blocks.{index}", channels)
        width = channels
    last = 2 * width
    yield from conv("final_conv.reparam_conv", (last, 1, 3, 3), bias=True, groups=width)
    yield from conv("final_conv.se.fc1", (last // _WEIGHING, last, 1, 1), bias=True)
    yield from conv("final_conv.se.fc2", (last, last // _WEIGHING, 1, 1), bias=True)


def _mixing(path: str, width: int) -> Named:
    yield from depthwise(f"{path}.token_mixer.reparam_conv", width, 3, 3, bias=True)
    yield from _wider(f"{path}.mlp", width)
    yield from parameter(f"{path}.layer_scale.gamma", width, 1, 1)


def _attending(path: str, width: int) -> Named:
    yield from layer_norm(f"{path}.norm", width)
    yield from linear(f"{path}.token_mixer.qkv", 3 * width, width)
    yield from linear(f"{path}.token_mixer.proj", width, width, bias=True)
    yield from parameter(f"{path}.layer_scale_1.gamma", width, 1, 1)
    yield from _wider(f"{path}.mlp", width)
    yield from parameter(f"{path}.layer_scale_2.gamma", width, 1, 1)


def _wider(path: str, width: int) -> Named:
    yield from depthwise(f"{path}.conv.conv", width, 7, 7)
    yield from layer_norm(f"{path}.conv.bn", width)
    yield from conv(f"{path}.fc1", (_INNER * width, width, 1, 1), bias=True)
    yield from conv(f"{path}.fc2", (width, _INNER * width, 1, 1), bias=True)
