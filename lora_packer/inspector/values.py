"""The tensors' values: NaN and infinity by bit pattern, zeros, read once and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from lora_packer.adapter.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorInfo
from lora_packer.threads import in_order as in_threads
from lora_packer.threads import processors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Small enough to stay in a core's second-level cache between the read and the passes over it.
_CHUNK = 512 << 10
_PART = 64 << 20  # bytes that are not worth a thread

# dtype -> (bytes per element, the exponent's bits). A value is not finite where its exponent is all ones: IEEE 754, and
# bfloat16 as the upper half of a float32. E5M2 follows IEEE too; E4M3 has one NaN, 0x7F.
_FLOATS: Mapping[str, tuple[int, int]] = {
    "F64": (8, 0x7FF0_0000_0000_0000),
    "F32": (4, 0x7F80_0000),
    "BF16": (2, 0x7F80),
    "F16": (2, 0x7C00),
    "F8_E5M2": (1, 0x7C),
    "F8_E4M3": (1, 0x7F),
}
_WIDEST = 8
_ZEROS = bytes(_CHUNK)
SMALL = 16 << 20
"""Up to so many bytes of tensors numpy, which is faster, takes longer to load than to do without it."""

# dtype -> what the highest byte of a value that is not finite may be: its sign, and ones in the exponent's upper bits.
_SUSPECT: Mapping[str, bytes] = {
    **dict.fromkeys(("F64", "F32", "BF16", "F8_E4M3"), b"\x7f\xff"),
    **dict.fromkeys(("F16", "F8_E5M2"), bytes((*range(0x7C, 0x80), *range(0xFC, 0x100)))),
}
INTEGERS = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"})


@dataclass(slots=True)
class TensorValues:
    """What a pass over one tensor's values saw.

    Attributes:
        not_finite: how many values are NaN or infinite.
        first, last: the positions of the first and the last value that is not zero; -1 where all are.
        low_bits: for float32: whether any value has one of the 16 bits that bfloat16 lacks.
    """

    not_finite: int = 0
    first: int = -1
    last: int = -1
    low_bits: bool = False

    @property
    def has_nonzero(self) -> bool:
        """Whether any value is not zero."""
        return self.last >= 0


class _Piece(NamedTuple):
    """Bytes of the file that follow one another: some of a tensor's values, or (without a name) what is not looked at.

    ``position`` is how many of the tensor's bytes come before.
    """

    name: str | None
    position: int
    size: int


_Named = tuple[str, TensorInfo]


class Reader(Protocol):
    """What the values are read from: a file, or what does something else with the bytes besides."""

    def seek(self, offset: int, /) -> int:
        """Go to an offset."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the buffer, and return how many bytes were read."""


def scan(file: BinaryIO | Reader, header: SafetensorsHeader, buffers: int = 1) -> dict[str, TensorValues]:
    """Read the file once, from end to end, and look at every floating-point tensor.

    Memory: a few chunks, whatever the size. ``buffers`` is how many are read into by turns: what the reader does with
    the bytes in a thread may then last until the last but one of the next was read.

    Raises OSError.
    """
    in_order = _in_order(header)
    file.seek(0)
    return _scanned(file, header.data_start, in_order, buffers, is_small=_size(in_order) <= SMALL)


def scan_by_parts(opened: Callable[[], BinaryIO], header: SafetensorsHeader) -> dict[str, TensorValues]:
    """The same for a file that can be opened several times: parts of it at once, one for each processor.

    Raises OSError, InputError.
    """
    in_order = _in_order(header)
    end = max((info.end for _, info in in_order), default=0)
    most = max(_PART, -(-end // processors()))
    parts = [list(part) for _, part in groupby(in_order, lambda item: item[1].begin // most)]

    def work(part: list[_Named]) -> dict[str, TensorValues]:
        with opened() as file:
            file.seek(header.data_start + part[0][1].begin)
            return _scanned(file, 0, part, 1, is_small=_size(in_order) <= SMALL)

    if len(parts) == 1:
        return work(parts[0])
    result: dict[str, TensorValues] = {}
    with in_threads(work, parts) as seen:
        for values in seen:
            result |= values
    return result


def _in_order(header: SafetensorsHeader) -> list[_Named]:
    return sorted(header.tensors.items(), key=lambda item: item[1].begin)


def _size(tensors: Iterable[_Named]) -> int:
    return sum(info.end - info.begin for _, info in tensors)


def _scanned(
    file: BinaryIO | Reader, skipped: int, in_order: list[_Named], buffers: int, *, is_small: bool
) -> dict[str, TensorValues]:
    """Look at tensors that follow one another, behind ``skipped`` bytes from where the file stands."""
    tensors = dict(in_order)
    result = {name: TensorValues() for name, info in in_order if info.dtype in _FLOATS}
    turns = [bytearray(_CHUNK) for _ in range(buffers)]
    low_bits = False
    for number, pieces in enumerate(_chunks(skipped, in_order)):
        buffer = turns[number % buffers]
        _read_into(file, memoryview(buffer)[: sum(piece.size for piece in pieces)])
        offset = 0
        for piece in pieces:
            if piece.name is not None and piece.size:
                seen, data = result[piece.name], memoryview(buffer)[offset : offset + piece.size]
                seen.low_bits = low_bits  # one such value is enough for the whole file
                dtype = tensors[piece.name].dtype
                if not (is_small and _is_plain(data, dtype, piece.position, seen)):
                    _look_at(data, dtype, piece.position, seen)
                low_bits = seen.low_bits
            offset += piece.size
    return result


def _chunks(data_start: int, tensors: Iterable[tuple[str, TensorInfo]]) -> Iterator[list[_Piece]]:
    """Cut the file into chunks that fit into a buffer; a tensor is cut between its values only."""
    chunk: list[_Piece] = []
    room = _CHUNK
    runs = ((name if info.dtype in _FLOATS else None, info.end - info.begin) for name, info in tensors)
    for name, size in chain([(None, data_start)], runs):
        position = 0
        while position < size:
            count = min(size - position, room - room % _WIDEST)
            if not count:
                yield chunk
                chunk, room = [], _CHUNK
                continue
            chunk.append(_Piece(name, position, count))
            position += count
            room -= count
    yield chunk


def _is_plain(read: memoryview, dtype: str, position: int, seen: TensorValues) -> bool:
    """Note what is seen of values as nearly all are; return False, with nothing noted, where that takes a closer look.

    Without numpy: the highest bytes of all values are looked through for those that only NaN and infinity have.
    """
    data = bytearray(read)  # a slice of it in steps is made thirty times as fast as a view's
    width, _ = _FLOATS[dtype]
    highest = data if width == 1 else data[width - 1 :: width]
    if any(byte in highest for byte in _SUSPECT[dtype]):
        return False
    if data == _ZEROS[: len(data)]:
        return True
    end = (len(data) - 1 if highest[-1] & 0x7F else len(data.rstrip(b"\0")) - 1) // width
    ends = {end}
    if seen.first < 0:
        begin = 0 if data[0] else (len(data) - len(data.lstrip(b"\0"))) // width
        ends.add(begin)
    if not all(_has_magnitude(data[at * width : (at + 1) * width]) for at in ends):
        return False  # a negative zero
    if seen.first < 0:
        seen.first = position // width + begin
    seen.last = position // width + end
    if width == 4 and not seen.low_bits:
        seen.low_bits = any(low != _ZEROS[: len(low)] for low in (data[0::4], data[1::4]))
    return True


def _has_magnitude(value: bytearray) -> bool:
    """Whether a value is neither zero nor negative zero."""
    return any(value[:-1]) or bool(value[-1] & 0x7F)


def _look_at(read: memoryview, dtype: str, position: int, seen: TensorValues) -> None:
    """Two maxima of the bit patterns say it all, with nothing written: as unsigned numbers, the negative values are the
    greatest, as signed numbers the positive ones are, and among either kind NaN and infinity are above the rest.
    """
    import numpy as np

    width, exponent = _FLOATS[dtype]
    unsigned, signed = np.dtype(f"<u{width}"), np.dtype(f"<i{width}")
    sign = 1 << (8 * width - 1)
    values = np.frombuffer(read, unsigned)
    highest, highest_positive = int(values.max()), int(values.view(signed).max())
    if highest_positive >= exponent or highest >= sign | exponent:
        seen.not_finite += int(np.count_nonzero((values & unsigned.type(sign - 1)) >= unsigned.type(exponent)))
    if highest_positive > 0 or highest > sign:
        _note_nonzero(values, sign, position // width, seen)
    if width == 4 and not seen.low_bits:
        seen.low_bits = bool(np.bitwise_or.reduce(values) & unsigned.type(0xFFFF))


def _note_nonzero(values: NDArray[Any], sign: int, position: int, seen: TensorValues) -> None:
    """Note where the values that are not zero begin and end; both ends of a chunk are nearly always such values."""
    without_sign = values.dtype.type(sign - 1)
    begin, end = 0, len(values) - 1
    if (seen.first < 0 and not values[0] & without_sign) or not values[-1] & without_sign:
        nonzero = (values & without_sign) != 0
        begin, end = int(nonzero.argmax()), len(values) - 1 - int(nonzero[::-1].argmax())
    if seen.first < 0:
        seen.first = position + begin
    seen.last = position + end


def _read_into(file: BinaryIO | Reader, view: memoryview) -> None:
    while view:
        count = file.readinto(view)  # type: ignore[union-attr]
        if not count:
            raise OSError("the file ended early: it is being changed")
        view = view[count:]


assert set(_FLOATS) | INTEGERS <= set(DTYPE_BITS)
