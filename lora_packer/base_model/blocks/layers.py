"""The single layers that everything else is composed of: linear, convolution, embedding, norm.

Names and shapes are those of the transformers modelling files (``models/<type>/modeling_<type>.py`` at v5.23.0,
https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.module import Module, Named


def linear(path: str, out_features: int, in_features: int, *, bias: bool = False) -> tuple[str, Module]:
    """Return one torch.nn.Linear."""
    return path, Module("linear", (out_features, in_features), bias)


def norm(path: str, size: int) -> tuple[str, Module]:
    """Return the weight of a normalisation layer."""
    return f"{path}.weight", Module("parameter", (size,))


def layer_norm(path: str, size: int) -> Named:
    """The weight and the bias of a torch.nn.LayerNorm."""
    yield f"{path}.weight", Module("parameter", (size,))
    yield f"{path}.bias", Module("parameter", (size,))


def embedding(path: str, rows: int, width: int) -> tuple[str, Module]:
    """Return one torch.nn.Embedding."""
    return path, Module("embedding", (rows, width))


def conv1d(path: str, out_features: int, in_features: int) -> tuple[str, Module]:
    """Return one transformers Conv1D: a linear layer with a bias, whose weight is stored (in, out)."""
    return path, Module("conv1d", (in_features, out_features), True)


Norm = Callable[[str, int], Named]


def scale_norm(path: str, size: int) -> Named:
    """The weight of a norm that has no bias."""
    yield norm(path, size)


def no_norm(_path: str, _size: int) -> Named:
    """Nothing: a norm without parameters."""
    yield from ()


def depthwise(path: str, channels: int, kernel: int, *, bias: bool = False) -> tuple[str, Module]:
    """Return a torch.nn.Conv1d with one filter for each channel."""
    return path, Module("conv", (channels, 1, kernel), bias)


biased_linear = partial(linear, bias=True)


def conv(path: str, shape: tuple[int, ...], *, bias: bool) -> tuple[str, Module]:
    """Return one torch.nn.ConvNd."""
    return path, Module("conv", shape, bias)
