"""The sizes of the updates, sorted for a picture: which layers there are, and what each kind of module has in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lora_packer.frozen import frozen

if TYPE_CHECKING:
    from lora_packer.inspector.norms import ModuleStats

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")


@frozen
class Kind:
    """The modules of one name in the layers of one stack.

    Attributes:
        name: the path below its layer, such as ``self_attn.q_proj``; experts are taken together.
        norms: layer -> the Frobenius norm of the update, of all experts together; NaN where it is not finite or could
            not be computed.
        ranks, scales: those that occur, in ascending order.
    """

    name: str
    norms: Mapping[int, float]
    ranks: tuple[int, ...]
    scales: tuple[float, ...]


@frozen
class Stack:
    """One stack of layers, such as a decoder's or a vision tower's.

    Attributes:
        name: the path to it, such as ``model.layers``.
        kinds: its modules, in the order of the file.
    """

    name: str
    kinds: tuple[Kind, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have an update, in ascending order."""
        return tuple(sorted({layer for kind in self.kinds for layer in kind.norms}))


@frozen
class Sizes:
    """Every update's size: ``stacks`` have layers, ``single`` are modules outside of any (``lm_head``)."""

    stacks: tuple[Stack, ...]
    single: Mapping[str, float]

    @property
    def largest(self) -> float:
        """The greatest finite norm, or 0."""
        return max(
            finite([*self.single.values(), *(n for s in self.stacks for k in s.kinds for n in k.norms.values())])
        )


def sizes_of(stats: Sequence[ModuleStats]) -> Sizes:
    """Sort the sizes of modules by stack, kind and layer."""
    found: dict[str, dict[str, dict[int, list[ModuleStats]]]] = {}
    single: dict[str, float] = {}
    for item in stats:
        match = _LAYER.search(item.module)
        if match is None:
            single[item.module] = _together([item])
            continue
        kind = _NUMBER.sub("", item.module[match.end() :])
        kinds = found.setdefault(item.module[: match.start()], {})
        kinds.setdefault(kind, {}).setdefault(int(match[1]), []).append(item)
    stacks = (
        Stack(name, tuple(_kind(kind, layers) for kind, layers in kinds.items())) for name, kinds in found.items()
    )
    return Sizes(tuple(stacks), single)


def _kind(name: str, layers: Mapping[int, Sequence[ModuleStats]]) -> Kind:
    items = [item for there in layers.values() for item in there]
    norms = {layer: _together(layers[layer]) for layer in sorted(layers)}
    return Kind(name, norms, tuple(sorted({i.rank for i in items})), tuple(sorted({i.scale for i in items})))


def _together(items: Iterable[ModuleStats]) -> float:
    """The norm of several updates as if they were one matrix; NaN where one of them is not known."""
    return math.hypot(*(math.nan if item.norm is None else item.norm for item in items))


def finite(values: Iterable[float]) -> list[float]:
    """Return the values that are numbers, after a 0."""
    return [0.0, *(value for value in values if math.isfinite(value))]


def number(norm: float) -> str:
    """Return a norm for a person, four digits."""
    return f"{norm:.4g}" if math.isfinite(norm) else "not computed"
