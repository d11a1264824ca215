"""A module of a base model, as far as an adapter can touch it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Kind = Literal["linear", "conv1d", "conv", "embedding", "parameter"]


class Module(NamedTuple):
    """One module, or one parameter that no such module owns.

    Attributes:
        kind: ``linear`` (torch.nn.Linear), ``conv1d`` (transformers' Conv1D, weight transposed), ``conv``
            (torch.nn.ConvNd), ``embedding`` (torch.nn.Embedding), or ``parameter``: a parameter held directly by a
            module of another class, such as a norm's weight or fused experts; its path then ends in its own name.
        weight_shape: as the base model's own weight has it: (out, in) for linear, (in, out) for conv1d, (vocabulary,
            width) for embedding.
        bias: whether the module has a bias of ``out`` elements.
        transposed: for fused 3-D expert parameters: whether they are stored (experts, in, out) by a module that says so
            (``is_transposed``), rather than (experts, out, in).
        groups: of a convolution: into how many its channels are divided, each with kernels of its own; 0 where nobody
            says (a checkpoint's headers do not).
    """

    kind: Kind
    weight_shape: tuple[int, ...]
    bias: bool = False
    transposed: bool = False
    groups: int = 1

    @property
    def out_features(self) -> int:
        """The size of the module's output."""
        return self.weight_shape[1] if self.kind in ("conv1d", "embedding") else self.weight_shape[0]

    @property
    def in_features(self) -> int:
        """The size of the module's input (for an embedding: the vocabulary)."""
        if self.kind == "conv":
            return self.weight_shape[1] * (self.groups or 1)
        return self.weight_shape[1] if self.kind == "linear" else self.weight_shape[0]


Modules = Mapping[str, Module]

# What a block yields: paths and modules, below a prefix.
Named = Iterable[tuple[str, Module]]
