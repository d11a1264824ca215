"""What the pickles of ``torch.save`` hold: tensors as views of storages, and what is read without being made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lora_packer.frozen import frozen

# torch/storage.py: what each of the old storage classes holds.
STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_MAX_RANK = 16


class UnpickleError(ValueError):
    """The pickle is not read, and why: the end of a sentence."""


@frozen
class Storage:
    """A storage of a file: its dtype, under which key its bytes lie, and how many elements it has."""

    dtype: str
    key: str
    elements: int


@frozen
class PickledTensor:
    """A tensor as a view of a storage; ``offset`` and ``stride`` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Inert:
    """What a pickle would have made an object of: the name of its class, what it is made with, and its state."""

    of: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


def tensor_of(arguments: tuple[Any, ...]) -> PickledTensor:
    """Return the tensor that torch would make of a storage and these numbers. Raises UnpickleError."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride), *_) if len(shape) == len(stride):
            numbers = (offset, *shape, *stride)
            if len(shape) <= _MAX_RANK and all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
                reach = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
                if 0 in shape or (reach < storage.elements and math.prod(shape) <= storage.elements):
                    return PickledTensor(storage, offset, shape, stride)
    raise UnpickleError("its pickle has a tensor that reaches behind its storage, or is none")
