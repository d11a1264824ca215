"""What the tensors' values say (LP4): not finite, zero, one shard of them, more bits than they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lora_packer.adapter.keys import WEIGHTS_NAME, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.finding import Finding
from lora_packer.inspector.case import Tensor, halves
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.values import INTEGERS, TensorValues
from lora_packer.inspector.words import counted

NOT_FINITE = Rule(
    "LP401",
    "not-finite",
    "error",
    "Tensors hold NaN or infinite values.",
    "Every loader takes them, and every output of the adapter is NaN.",
    "Go back to a checkpoint from before the loss diverged.",
    needs="values",
)
ZERO_UPDATE = Rule(
    "LP402",
    "zero-update",
    "error",
    "The update of every module is zero.",
    "It loads everywhere and serves the base model: the adapter was never trained, or lora_B was not gathered.",
    "Save the adapter after training, with gathered weights.",
    needs="values",
)
DEAD_MODULES = Rule(
    "LP403",
    "dead-modules",
    "warning",
    "The update of some modules is zero.",
    "Those modules act as the base model's.",
    "Check that they were trained.",
    needs="values",
)
SHARDED_VALUES = Rule(
    "LP405",
    "sharded-values",
    "error",
    "Every lora_B has values in one part of its rows only, and zeros in the others.",
    "One FSDP shard of each tensor was saved: the adapter loads, and most of its update is gone.",
    "Gather the full state dict before saving; what is in the other shards is not in this file.",
    needs="values",
)
PADDED_FLOAT32 = Rule(
    "LP406",
    "padded-float32",
    "info",
    "The float32 values are all exactly bfloat16.",
    "The file is twice as large as it has to be: the lower half of every value is zero.",
    "Save it in bfloat16; nothing is lost.",
    needs="values",
    fixable=True,
)
INTEGER_DTYPE = Rule(
    "LP404",
    "integer-dtype",
    "error",
    "LoRA tensors have an integer dtype.",
    "PEFT casts them to floating point as they are, which gives garbage.",
    "Save the adapter again from training, in float32, bfloat16 or float16.",
)

_MOST_SHARDS = 1024

# Layers that hold several projections in one weight: a part of the rows may be all that was trained.
_FUSED = frozenset({"qkv_proj", "query_key_value", "qkv", "Wqkv", "c_attn", "in_proj", "gate_up_proj", "Wi", "kv_proj"})

Values = Mapping[str, TensorValues]


def integer_dtypes(tensors: Mapping[str, TensorInfo]) -> Iterator[Finding]:
    """LoRA tensors of an integer dtype: known from the header alone."""
    names = [name for name, info in tensors.items() if info.dtype in INTEGERS and parse_key(name).part]
    if names:
        message = f"{counted(len(names), noun='LoRA tensor')} with an integer dtype"
        details = {"expected": "a floating-point dtype", "actual": tensors[names[0]].dtype}
        yield INTEGER_DTYPE.finding(message, **_of(names), **details)


def judge(tensors: Sequence[Tensor], values: Values, file_size: int) -> Iterator[Finding]:
    """What the values say; ``file_size`` is that of the weights file."""
    broken = [name for name, seen in values.items() if seen.not_finite]
    if broken:
        actual = f"{counted(values[broken[0]].not_finite, noun='value')} NaN or infinite"
        message = f"{counted(len(broken))} with NaN or infinite values"
        yield NOT_FINITE.finding(message, expected="finite values", actual=actual, **_of(broken))
    by_name = {tensor.name: tensor for tensor in tensors}
    in_order = [by_name[name] for name in values]
    yield from _one_shard(in_order, values)
    yield from _zero_updates(in_order, values)
    yield from _padded(in_order, values, file_size)


def _of(names: Sequence[str]) -> dict[str, Any]:
    return {"file": WEIGHTS_NAME, "tensors": names}


def _padded(tensors: Sequence[Tensor], values: Values, file_size: int) -> Iterator[Finding]:
    float32 = [tensor for tensor in tensors if tensor.info.dtype == "F32"]
    padded = [tensor.name for tensor in float32 if values[tensor.name].has_nonzero]
    if padded and not any(seen.low_bits for seen in values.values()):
        saved = sum(tensor.info.end - tensor.info.begin for tensor in float32) // 2
        would_do = f"{file_size - saved:,} of {file_size:,} bytes would do"
        message = f"{counted(len(padded), noun='float32 tensor')} with bfloat16 values: {would_do}"
        yield PADDED_FLOAT32.finding(message, expected="BF16", actual="F32", **_of(padded))


def _one_shard(tensors: Sequence[Tensor], values: Values) -> Iterator[Finding]:
    """One FSDP shard: every lora_B has values in the same one of n equal blocks of rows, as torch.chunk cuts them.

    A checkpoint that was gathered wrongly looks like that (https://github.com/axolotl-ai-cloud/axolotl/issues/3772).
    Of one fused projection alone it says nothing: a third of qkv_proj is an adapter that trained q_proj only.
    """
    blocks: set[tuple[int, int]] | None = None
    names = []
    kinds = set()
    for tensor in tensors:
        seen, shape = values[tensor.name], tensor.info.shape
        if tensor.key.part != "lora_B.weight" or len(shape) != 2 or not seen.has_nonzero:
            continue
        names.append(tensor.name)
        kinds.add(tensor.key.path.rpartition(".")[2])
        rows, rank = shape
        fitting = _blocks(rows, seen.first // rank, seen.last // rank)
        blocks = fitting if blocks is None else blocks & fitting
        if not blocks:
            return
    if not blocks or (len(kinds) == 1 and kinds <= _FUSED):
        return
    count, index = min(blocks)
    message = (
        f"{counted(len(names), noun='lora_B tensor')} with values in 1/{count} of the rows only "
        f"(block {index + 1} of {count}): one of {count} FSDP shards was saved"
    )
    actual = f"values in 1/{count} of the rows"
    yield SHARDED_VALUES.finding(message, expected="values in every row", actual=actual, **_of(names))


def _blocks(rows: int, first: int, last: int) -> set[tuple[int, int]]:
    """The (n, index) for which rows first to last are exactly block ``index`` of n."""
    size = last - first + 1
    found: set[tuple[int, int]] = set()
    if size == rows:
        return found
    for count in range(max(2, rows // size), min(_MOST_SHARDS, -(-rows // size) + 1) + 1):
        block = -(-rows // count)
        index = first // block
        if first == index * block and last == min(rows, first + block) - 1:
            found.add((count, index))
    return found


def _zero_updates(tensors: Sequence[Tensor], values: Values) -> Iterator[Finding]:
    """A module's update B·A is zero where one of the two is."""
    modules = halves(tensors)
    dead = []
    for pair in modules.values():
        zero = [half for half, item in pair.items() if not values[item.name].has_nonzero and 0 not in item.info.shape]
        if zero:
            dead.append(pair["B" if "B" in zero else "A"].name)
    if not dead:
        return
    details: dict[str, Any] = {"expected": "a value other than 0", "actual": "all zeros", **_of(dead)}
    if len(dead) == len(modules):
        yield ZERO_UPDATE.finding(f"the update of all {len(modules)} modules is zero", **details)
    else:
        yield DEAD_MODULES.finding(f"the update of {len(dead)} of {len(modules)} modules is zero", **details)
