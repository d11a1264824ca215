"""The single layers that everything else is composed of: linear, convolution, embedding, norm, parameter.

Names and shapes are those of the transformers modelling files (``models/<type>/modeling_<type>.py`` at v5.24.0,
https://github.com/huggingface/transformers/tree/v5.24.0/src/transformers/models). Where names follow, there are several
alike, by these names below the path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings

# A norm of a size: path, size, names.
Norm = Callable[..., Named]
# A part of a layer: it yields its modules below a path.
Block = Callable[[Settings, str], Named]


def linear(path: str, out_features: int, in_features: int, *names: str, bias: bool = False) -> Named:
    """A torch.nn.Linear."""
    module = Module("linear", (out_features, in_features), bias)
    return [(f"{path}.{name}", module) for name in names] if names else [(path, module)]


def chain(path: str, sizes: Sequence[int], *names: str, bias: bool = False) -> Named:
    """Linears one after the other, from the first size through those between to the last."""
    for name, (inwards, outwards) in zip(names, pairwise(sizes), strict=True):
        yield from linear(f"{path}.{name}", outwards, inwards, bias=bias)


def conv1d(path: str, out_features: int, in_features: int) -> Named:
    """A transformers Conv1D: a linear layer with a bias, whose weight is stored (in, out)."""
    return [(path, Module("conv1d", (in_features, out_features), True))]


def conv(path: str, shape: tuple[int, ...], *, bias: bool, groups: int = 1) -> Named:
    """A torch.nn.ConvNd."""
    return [(path, Module("conv", shape, bias, groups=groups))]


def depthwise(path: str, channels: int, *kernel: int, bias: bool = False) -> Named:
    """A torch.nn.ConvNd with one filter for each channel."""
    return conv(path, (channels, 1, *kernel), bias=bias, groups=channels)


def embedding(path: str, rows: int, width: int) -> Named:
    """A torch.nn.Embedding."""
    return [(path, Module("embedding", (rows, width)))]


def parameter(path: str, *shape: int) -> Named:
    """A parameter that a module holds itself."""
    return [(path, Module("parameter", shape))]


def norm(path: str, size: int, *names: str) -> Named:
    """The weight of a norm that has no bias."""
    module = Module("parameter", (size,))
    return [(f"{path}.{name}.weight", module) for name in names] if names else [(f"{path}.weight", module)]


def layer_norm(path: str, size: int, *names: str) -> Named:
    """The weight and the bias of a torch.nn.LayerNorm."""
    module = Module("parameter", (size,))
    below = [f"{path}.{name}" for name in names] if names else [path]
    return [(f"{name}.{part}", module) for name in below for part in ("weight", "bias")]


def no_norm(_path: str, _size: int, *_names: str) -> Named:
    """Nothing: a norm without parameters."""
    return ()


def of_size(kind: Callable[[str, int], Named], field: str) -> Block:
    """Return a norm or a parameter whose size is a field of the config."""
    return lambda s, path: kind(path, s.size(field))


def flagged(block: Callable[..., Named], **flags: str) -> Block:
    """Return a block whose options are flags of the config: option -> field."""
    return lambda s, path: block(s, path, **{option: s.flag(field) for option, field in flags.items()})
