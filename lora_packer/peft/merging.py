"""The shape of what PEFT merges at load: the LoRA of single experts becomes that of one parameter.

``PeftConcatenate``, ``FlattenDims`` and ``PermuteDims`` in ``peft/utils/transformers_weight_conversion.py`` of PEFT
0.21.2, and ``MergeModulelist``, ``Concatenate`` and ``Transpose`` in ``transformers/core_model_loading.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_packer.peft.conversions import Change
from lora_packer.peft.expectation import Shape


class MergeError(Exception):
    """PEFT raises while it merges the file's tensors."""


def merged(converter: Change, collected: Mapping[str, list[Shape]]) -> Shape:
    """The shape of what a converter makes of the tensors of each of its patterns. Raises MergeError."""
    if any(pattern not in converter.sources for pattern in collected):
        raise MergeError("a tensor stands where others are merged")
    several = len(collected) > 1
    found: list[Shape] = []
    for pattern in converter.sources:
        shapes = collected.get(pattern)
        if shapes is None:
            continue
        if "MergeModulelist" in converter.operations:
            if len(set(shapes)) > 1:
                raise MergeError("the experts' tensors have different shapes")
            found.append((len(shapes), *shapes[0]))
        else:
            found += shapes
    for operation in converter.operations:
        step = _STEPS.get(operation)
        if step is not None:
            found = [step(found, several)]
    return found[0]


def _concatenated(shapes: list[Shape], _several: bool) -> Shape:
    first = shapes[0]
    if len(first) < 2 or any((shape[0], *shape[2:]) != (first[0], *first[2:]) for shape in shapes):
        raise MergeError("tensors that are merged have different shapes")
    return (first[0], sum(shape[1] for shape in shapes), *first[2:])


def _block_diagonal(shapes: list[Shape], several: bool) -> Shape:
    if not several:
        raise MergeError("one half of what is merged is missing")
    if {len(shape) for shape in shapes} == {2}:
        return (sum(shape[0] for shape in shapes), sum(shape[1] for shape in shapes))
    if {len(shape) for shape in shapes} != {3} or len({shape[0] for shape in shapes}) > 1:
        raise MergeError("tensors that are merged have different shapes")
    experts = shapes[0][0]
    return (sum(shape[1] for shape in shapes), experts * sum(shape[2] for shape in shapes))


def _flattened(shapes: list[Shape], _several: bool) -> Shape:
    first, second, *rest = shapes[0]
    return (first * second, *rest)


def _permuted(shapes: list[Shape], _several: bool) -> Shape:
    experts, out_features, rank = shapes[0]
    return (rank, experts, out_features)


def _transposed(shapes: list[Shape], _several: bool) -> Shape:
    return shapes[0][::-1]


_STEPS: Mapping[str, Callable[[list[Shape], bool], Shape]] = {
    "Concatenate": _concatenated,
    "PeftConcatenate": _block_diagonal,
    "FlattenDims": _flattened,
    "PermuteDims": _permuted,
    "Transpose": _transposed,
}
