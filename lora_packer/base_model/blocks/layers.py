"""The single layers that everything else is composed of: linear, convolution, embedding, norm, parameter.

Names and shapes are those of the transformers modelling files (``models/<type>/modeling_<type>.py`` at v5.23.0,
https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models). Where names follow, there are several
alike, by these names below the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lora_packer.base_model.module import Module, Named

# A norm of a size: path, size, names.
Norm = Callable[..., Named]


def _alike(path: str, names: Iterable[str], module: Module) -> Named:
    return [(f"{path}.{name}", module) for name in names] or [(path, module)]


def linear(path: str, out_features: int, in_features: int, *names: str, bias: bool = False) -> Named:
    """A torch.nn.Linear."""
    return _alike(path, names, Module("linear", (out_features, in_features), bias))


def conv1d(path: str, out_features: int, in_features: int) -> Named:
    """A transformers Conv1D: a linear layer with a bias, whose weight is stored (in, out)."""
    return [(path, Module("conv1d", (in_features, out_features), True))]


def conv(path: str, shape: tuple[int, ...], *, bias: bool) -> Named:
    """A torch.nn.ConvNd."""
    return [(path, Module("conv", shape, bias))]


def depthwise(path: str, channels: int, kernel: int, *, bias: bool = False) -> Named:
    """A torch.nn.Conv1d with one filter for each channel."""
    return conv(path, (channels, 1, kernel), bias=bias)


def embedding(path: str, rows: int, width: int) -> Named:
    """A torch.nn.Embedding."""
    return [(path, Module("embedding", (rows, width)))]


def parameter(path: str, *shape: int) -> Named:
    """A parameter that a module holds itself."""
    return [(path, Module("parameter", shape))]


def norm(path: str, size: int, *names: str) -> Named:
    """The weight of a norm that has no bias."""
    return _alike(path, [f"{name}.weight" for name in names] or ["weight"], Module("parameter", (size,)))


def layer_norm(path: str, size: int, *names: str) -> Named:
    """The weight and the bias of a torch.nn.LayerNorm."""
    below = [f"{name}.{part}" for name in names for part in ("weight", "bias")] or ["weight", "bias"]
    return _alike(path, below, Module("parameter", (size,)))


def no_norm(_path: str, _size: int, *_names: str) -> Named:
    """Nothing: a norm without parameters."""
    return ()
