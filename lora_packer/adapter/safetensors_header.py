"""Our own bounded read of a safetensors header, from any seekable binary file.

The format: 8 bytes little-endian header length N, N bytes of JSON (one object: name -> dtype, shape, data_offsets; plus
``__metadata__``), then the data, which the tensors must cover without holes or overlaps
(https://github.com/huggingface/safetensors#format). Stricter than the library in one point that the specification
has and the library does not enforce: no name may stand twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from lora_packer.frozen import frozen
from lora_packer.redact import escape

# The library's own cap (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000
# Far above any adapter seen (384 experts x 61 layers make 140,000), far below what would take long.
MAX_TENSORS = 200_000

# More than any framework has (NumPy has 64), and few enough that their product is a number one can print.
_MOST_DIMENSIONS = 64

# Bits per element of every dtype that the format knows (safetensors/src/tensor.rs, Dtype).
DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
    }
)  # fmt: skip

_FIELDS = {"dtype", "shape", "data_offsets"}
_TOO_LARGE = 1 << 63


class TensorInfo(NamedTuple):
    """One tensor of the header: its dtype, its shape, and where its bytes lie, counted from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@frozen
class SafetensorsHeader:
    """What a safetensors file says about itself.

    Attributes:
        tensors: name -> TensorInfo, in the order of the file's JSON.
        metadata: the ``__metadata__`` strings.
        data_start: the offset of the first data byte in the file.
        size: the file's size in bytes.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    size: int


class HeaderError(ValueError):
    """The file is not a valid safetensors file.

    Attributes:
        tensor: the tensor it is about, or None.
        expected, actual: the two values that disagree, or None.
        hint: what to do, or None.
        surplus: how many bytes follow the last tensor, where that is all that is wrong.
        is_pickle: whether it is a file of ``torch.save``.
    """

    def __init__(
        self,
        message: str,
        *,
        tensor: str | None = None,
        expected: Any = None,
        actual: Any = None,
        hint: str | None = None,
        surplus: int = 0,
        is_pickle: bool = False,
    ) -> None:
        super().__init__(message)
        self.tensor = tensor
        self.expected = expected
        self.actual = actual
        self.hint = hint
        self.surplus = surplus
        self.is_pickle = is_pickle


def read_header(file: BinaryIO, size: int) -> SafetensorsHeader:
    """Read and validate the header of the safetensors file of ``size`` bytes. Raises HeaderError, OSError."""
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if size < 8 or length > size - 8:
        _refuse_other_formats(start, size)
    if length > MAX_HEADER_BYTES:
        raise HeaderError(
            f"its header claims {length} bytes; the format allows {MAX_HEADER_BYTES}",
            expected=MAX_HEADER_BYTES,
            actual=length,
        )
    if length < 2 or length > size - 8:
        message = f"its header claims {length} bytes, and {size - 8} follow"
        raise HeaderError(message, expected=length, actual=size - 8, hint="Copy or download the file again.")
    raw = file.read(length)
    if len(raw) != length:
        raise HeaderError(f"its header ends after {len(raw)} of {length} bytes", expected=length, actual=len(raw))
    # Inside a string its quotes would be escaped: it is a tensor's field, and parsing them all would take long.
    if (count := raw.count(b'"data_offsets"')) > MAX_TENSORS:
        raise HeaderError(f"it has {count} tensors; at most {MAX_TENSORS} are read", actual=count)
    entries = _parse(raw)
    metadata = _metadata(entries.pop("__metadata__", {}))
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    _check_coverage(tensors, size - 8 - length)
    return SafetensorsHeader(MappingProxyType(tensors), MappingProxyType(metadata), 8 + length, size)


def _refuse_other_formats(start: bytes, size: int) -> None:
    """Name what the file is instead; only where its first eight bytes cannot be a header's length."""
    if size == 0:
        raise HeaderError("it is empty", hint="Save the adapter again: the file was never written.")
    if start.startswith(b"version "):
        raise HeaderError("it is a Git LFS pointer, not the weights", hint="Run `git lfs pull` in the repository.")
    if start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x04"):
        raise HeaderError(
            "it is a pickle (PyTorch) file with a safetensors name",
            hint="Save the adapter with safe_serialization=True; renaming a file does not convert it.",
            is_pickle=start[:2] == b"PK",
        )
    if size < 8:
        raise HeaderError(f"it is {size} bytes long, too short for a safetensors header", expected=8, actual=size)


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise HeaderError("its header does not start with '{'", hint="The file is not safetensors, or is damaged.")
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant)
        if not _surely_unique(raw, value):
            json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise HeaderError(f"its header is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise HeaderError(f"its header is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise HeaderError("its header is nested too deeply") from None
    except HeaderError:
        raise
    except ValueError as error:
        raise HeaderError(f"its header is not JSON: {escape(str(error), 80)}") from None
    if not isinstance(value, dict):
        raise HeaderError("its header is not a JSON object")
    return value


def _surely_unique(raw: bytes, value: Any) -> bool:
    """Whether no key can stand twice: each field's name occurs once per tensor.

    Inside a string its quotes would be escaped, so that every occurrence is a key.

    Asking the parser to look at every object instead takes twice as long on a header of 140,000 tensors.
    """
    if not isinstance(value, dict) or raw.count(b"\\u") or raw.count(b'"__metadata__"') > 1:
        return False
    tensors = len(value) - ("__metadata__" in value)
    return all(raw.count(b'"%s"' % field.encode()) == tensors for field in _FIELDS)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise HeaderError(f"the name '{escape(key)}' stands twice in its header", tensor=key)
            seen.add(key)
    return result


def _no_constant(name: str) -> Any:
    raise HeaderError(f"its header contains {name}, which JSON does not have")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise HeaderError("its __metadata__ is not an object of strings")
    return value


def _are_sizes(values: list[Any]) -> bool:
    """Whether all of them are integers that a size can be; a bool is none. Two are looked at fastest one by one."""
    for value in values:  # noqa: SIM110 - asked of each tensor, and a generator would take three times as long
        if type(value) is not int or not 0 <= value < _TOO_LARGE:
            return False
    return True


def _is_range(values: list[Any]) -> bool:
    """Whether they are where a tensor's bytes begin and end."""
    if type(values) is not list or len(values) != 2:
        return False
    begin, end = values
    return type(begin) is int and type(end) is int and 0 <= begin <= end < _TOO_LARGE


def _tensor(name: str, entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        actual = sorted(escape(key, 40) for key in entry)[:8] if isinstance(entry, dict) else type(entry).__name__
        message = "its header entry does not have exactly dtype, shape and data_offsets"
        raise HeaderError(message, tensor=name, expected=sorted(_FIELDS), actual=actual)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise HeaderError(f"its dtype '{escape(str(dtype), 40)}' is unknown to the format", tensor=name)
    if type(shape) is not list or not _are_sizes(shape):
        raise HeaderError(
            "its shape is not a list of non-negative integers", tensor=name, actual=escape(str(shape), 80)
        )
    if not _is_range(offsets):
        raise HeaderError("its data_offsets are not a valid range", tensor=name, actual=escape(str(offsets), 80))
    begin, end = offsets
    if len(shape) > _MOST_DIMENSIONS:
        raise HeaderError(f"its shape has {len(shape)} dimensions; at most {_MOST_DIMENSIONS} are read", tensor=name)
    elements = math.prod(shape)
    if elements * bits != (end - begin) * 8:
        expected = elements * bits / 8
        message = f"its shape {shape} as {dtype} takes {expected:g} bytes, and its data_offsets give it {end - begin}"
        raise HeaderError(message, tensor=name, expected=expected, actual=end - begin)
    return TensorInfo(dtype, tuple(shape), begin, end)


def _check_coverage(tensors: Mapping[str, TensorInfo], data_size: int) -> None:
    """Every data byte belongs to exactly one tensor: no hole, no overlap, nothing missing, nothing behind the end."""
    position = 0
    for name, info in _by_place(tensors):
        if info.begin != position:
            what = "overlaps the tensor before it" if info.begin < position else "leaves a hole before it"
            message = f"its data {what}: it begins at {info.begin}, and the data before it ends at {position}"
            raise HeaderError(message, tensor=name, expected=position, actual=info.begin)
        position = info.end
    if position > data_size:
        message = f"the file is {position - data_size} bytes shorter than its header says: the copy was cut off"
        raise HeaderError(message, expected=position, actual=data_size, hint="Copy or download the file again.")
    if position < data_size:
        message = f"{data_size - position} bytes follow the last tensor"
        raise HeaderError(message, expected=position, actual=data_size, surplus=data_size - position)


def _by_place(tensors: Mapping[str, TensorInfo]) -> Iterable[tuple[str, TensorInfo]]:
    """In the order of their data, in which nearly every file has them from the start."""
    begins, ends = [info.begin for info in tensors.values()], [info.end for info in tensors.values()]
    if begins == sorted(begins) and ends == sorted(ends):
        return tensors.items()
    return sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end))
