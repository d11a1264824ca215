"""What shapes say without a base model: halves of two ranks, tensors without elements (LP302, LP305)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.finding import Finding
from lora_packer.inspector.case import Tensor, halves
from lora_packer.inspector.rules.rule import Effect, Rule
from lora_packer.inspector.words import counted

RANK_MISMATCH = Rule(
    "LP302",
    "rank-mismatch",
    "error",
    "The rank in adapter_config.json is not that of the tensors.",
    "PEFT raises a size mismatch at load.",
    "Set r and rank_pattern to the ranks that the tensors have.",
    needs="base",
    explains=(Effect("LP208", field="r"), Effect("LP210"), Effect("LP310")),
)
EMPTY_TENSOR = Rule(
    "LP305",
    "empty-tensor",
    "error",
    "Tensors have no elements.",
    "DeepSpeed ZeRO-3 leaves such placeholders when the weights are saved without gathering them; PEFT raises at load.",
    "Gather the parameters (stage3_gather_16bit_weights_on_model_save) and save again.",
    needs="base",
)


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
