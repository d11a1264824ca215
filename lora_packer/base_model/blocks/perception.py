"""The Perception Encoder, a tower, as the library timm builds it.

Names and shapes: timm 1.0.31, ``models/eva.py`` (``Eva``, ``vit_pe_core_large_patch14_336`` and those beside it;
https://github.com/huggingface/pytorch-image-models/tree/v1.0.31/timm).
"""

from __future__ import annotations

from typing import NamedTuple

from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import latent_pooling
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


class Variant(NamedTuple):
    """What one of them is built with, where the config's ``model_args`` do not say it."""

    patch: int
    image: int
    depth: int
    ratio: float
    class_token: bool


VARIANTS = {
    "vit_pe_core_base_patch16_224": Variant(16, 224, 12, 4.0, True),
    "vit_pe_core_large_patch14_336": Variant(14, 336, 24, 4.0, True),
    "vit_pe_core_gigantic_patch14_448": Variant(14, 448, 50, 8960 / 1536, False),
}
# The ``model_args`` that are read here, and those that decide no shape.
READ = {"embed_dim", "depth", "img_size", "global_pool", "use_post_transformer_norm", "init_values"}
READ |= {"ref_feat_shape", "dynamic_img_size"}
_POOLING_RATIO = 4


def perception_encoder(variant: Variant, arguments: Settings) -> Named:
    """The tower without its classifier."""
    width = arguments.size("embed_dim")
    image = arguments.pair("img_size") if arguments.value("img_size") is not None else (variant.image, variant.image)
    places = (image[0] // variant.patch) * (image[1] // variant.patch)
    if variant.class_token:
        yield from parameter("cls_token", 1, 1, width)
    yield from parameter("pos_embed", 1, places + variant.class_token, width)
    yield from conv("patch_embed.proj", (width, 3, variant.patch, variant.patch), bias=False)
    yield from layer_norm("norm_pre", width)
    for index in range(arguments.optional_size("depth") or variant.depth):
        path = f"blocks.{index}"
        if arguments.value("init_values") is not None:
            yield from parameter(f"{path}.gamma_1", width)
            yield from parameter(f"{path}.gamma_2", width)
        yield from layer_norm(path, width, "norm1", "norm2")
        yield from linear(f"{path}.attn.qkv", 3 * width, width, bias=True)
        yield from linear(f"{path}.attn.proj", width, width, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", width, int(width * variant.ratio))
    if arguments.value("use_post_transformer_norm") is not False:
        yield from layer_norm("norm", width)
    if arguments.value("global_pool") in ("map", None):
        yield from latent_pooling(Settings({"hidden_size": width}, {}), _POOLING_RATIO * width)
