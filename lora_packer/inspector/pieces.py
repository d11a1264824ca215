"""A tensor's values in float64, a piece at a time: memory stays the same, however large the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter.safetensors_header import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT_BYTES: Mapping[str, int] = MappingProxyType({"F64": 8, "F32": 4, "F16": 2, "BF16": 2})


def rows_of(file: BinaryIO, start: int, info: TensorInfo, step: int) -> Iterator[NDArray[Any]]:
    """The tensor as (rows, columns), ``step`` rows at a time; ``start`` is where the file's data begin."""
    rows, columns = info.shape[0], math.prod(info.shape[1:])
    width = FLOAT_BYTES[info.dtype]
    for first in range(0, rows, step):
        count = min(step, rows - first)
        file.seek(start + info.begin + first * columns * width)
        yield floats(file.read(count * columns * width), info.dtype).reshape(count, columns)


def columns_of(file: BinaryIO, start: int, info: TensorInfo, step: int) -> Iterator[NDArray[Any]]:
    """The tensor as (rows, columns), ``step`` columns at a time."""
    import numpy as np

    rows, columns = info.shape[0], math.prod(info.shape[1:])
    width = FLOAT_BYTES[info.dtype]
    if step >= columns:
        yield from rows_of(file, start, info, max(1, rows))
        return
    for first in range(0, columns, step):
        count = min(step, columns - first)
        piece = np.empty((rows, count))
        for row in range(rows):
            file.seek(start + info.begin + (row * columns + first) * width)
            piece[row] = floats(file.read(count * width), info.dtype)
        yield piece


def floats(data: bytes, dtype: str) -> NDArray[Any]:
    """The values in float64. Raises OSError where the file has become shorter."""
    import numpy as np

    if len(data) % FLOAT_BYTES[dtype]:
        raise OSError("the file ended early")
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << np.uint32(16)).view("<f4").astype(np.float64)
    return np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)
