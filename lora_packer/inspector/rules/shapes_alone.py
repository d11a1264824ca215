"""What the shapes of a file say without a base model: tensors without elements, halves of two ranks (LP302, LP305)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.finding import Finding
from lora_packer.inspector.case import Tensor, halves
from lora_packer.inspector.rules.shapes import EMPTY_TENSOR, RANK_MISMATCH
from lora_packer.inspector.words import counted


def without_a_base(tensors: Sequence[Tensor]) -> Iterator[Finding]:
    """What shapes alone say: tensors without elements, and ranks that disagree within a pair."""
    empty = [tensor for tensor in tensors if tensor.key.part and 0 in tensor.info.shape]
    if empty:
        first = empty[0]
        message = f"{counted(len(empty))} without elements: the weights were saved ungathered"
        details = {"tensors": [tensor.name for tensor in empty], "actual": list(first.info.shape)}
        yield EMPTY_TENSOR.finding(message, file=WEIGHTS_NAME, **details)
    modules = halves(tensor for tensor in tensors if 0 not in tensor.info.shape).values()
    pairs = [pair for pair in modules if len(pair) == 2]
    off = [(pair, ranks) for pair in pairs if (ranks := _ranks(pair)) is not None and ranks[0] != ranks[1]]
    if off:
        rank_a, rank_b = off[0][1]
        message = f"lora_A and lora_B of {counted(len(off), noun='module')} have different ranks"
        details = {"tensors": [next(iter(pair.values())).name for pair, _ in off]}
        yield RANK_MISMATCH.finding(message, file=WEIGHTS_NAME, expected=rank_a, actual=rank_b, **details)


def _ranks(pair: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """The rank of A and that of B, or None where their shapes have none."""
    shape_a, shape_b = pair["A"].info.shape, pair["B"].info.shape
    return (shape_a[0], shape_b[1]) if shape_a and len(shape_b) > 1 else None
