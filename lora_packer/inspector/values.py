"""The tensors' values: NaN and infinity by bit pattern, zeros, read once and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, parse_key
from lora_packer.adapter.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorInfo
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.redact import escape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lora_packer.packager.digest import Digests

# Small enough to stay in a core's second-level cache between the read and the passes over it.
_CHUNK = 512 << 10
# How many chunks the checksums may be behind.
_HASHED_BEHIND = 4

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
_INTEGERS = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"})


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


def scan(file: BinaryIO, header: SafetensorsHeader, digests: Digests | None = None) -> dict[str, TensorValues]:
    """Read the file once, from end to end; look at every floating-point tensor, and make checksums where asked to.

    Memory: a few chunks, whatever the size. SHA-256 takes longer than all else, so it is made of one chunk in a thread
    while the next ones are looked at; both let go of Python's lock.

    Raises OSError.
    """
    import numpy as np

    in_order = sorted(header.tensors.items(), key=lambda item: item[1].begin)
    result = {name: TensorValues() for name, info in in_order if info.dtype in _FLOATS}
    buffers = [np.empty(_CHUNK, dtype=np.uint8) for _ in range(_HASHED_BEHIND if digests else 1)]
    low_bits = False
    file.seek(0)
    with digests.aside(len(buffers)) if digests else nullcontext() as take:
        for number, pieces in enumerate(_chunks(header.data_start, in_order)):
            buffer = buffers[number % len(buffers)]
            view = memoryview(buffer.data)[: sum(piece.size for piece in pieces)]
            _read_into(file, view)
            if take is not None:
                take(view)
            offset = 0
            for piece in pieces:
                if piece.name is not None and piece.size:
                    seen, data = result[piece.name], buffer[offset : offset + piece.size]
                    seen.low_bits = low_bits  # one such value is enough for the whole file
                    _look_at(data, header.tensors[piece.name].dtype, piece.position, seen)
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


def _look_at(data: NDArray[np.uint8], dtype: str, position: int, seen: TensorValues) -> None:
    """Two maxima of the bit patterns say it all, with nothing written: as unsigned numbers, the negative values are the
    greatest, as signed numbers the positive ones are, and among either kind NaN and infinity are above the rest.
    """
    import numpy as np

    width, exponent = _FLOATS[dtype]
    unsigned, signed = np.dtype(f"<u{width}"), np.dtype(f"<i{width}")
    sign = 1 << (8 * width - 1)
    values = data.view(unsigned)
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


def _read_into(file: BinaryIO, view: memoryview) -> None:
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the file ended early: it is being changed")
        view = view[count:]


def judge(header: SafetensorsHeader, values: Mapping[str, TensorValues]) -> list[Finding]:
    """Return what the values say: not finite, and updates that are zero."""
    findings = []
    broken = [name for name, seen in values.items() if seen.not_finite]
    if broken:
        count = values[broken[0]].not_finite
        message = f"{_plural(len(broken), 'tensor')} with NaN or infinite values"
        actual = f"{_plural(count, 'value')} NaN or infinite"
        findings.append(
            rules.NOT_FINITE.finding(
                message,
                file=WEIGHTS_NAME,
                tensor=escape(broken[0]),
                count=len(broken),
                expected="finite values",
                actual=actual,
            )
        )
    shards = _shards(header, values)
    if shards:
        findings.append(shards)
    findings += _zero_updates(header, values)
    padded = [name for name, seen in values.items() if header.tensors[name].dtype == "F32" and seen.has_nonzero]
    if padded and not any(seen.low_bits for seen in values.values()):
        message = f"{_plural(len(padded), 'float32 tensor')} with bfloat16 values: {_smaller(header)} bytes would do"
        findings.append(
            rules.PADDED_FLOAT32.finding(
                message, file=WEIGHTS_NAME, tensor=escape(padded[0]), count=len(padded), expected="BF16", actual="F32"
            )
        )
    return findings


def _smaller(header: SafetensorsHeader) -> str:
    saved = sum(info.end - info.begin for info in header.tensors.values() if info.dtype == "F32") // 2
    return f"{header.size - saved:,} of {header.size:,}"


_MOST_SHARDS = 1024


def _shards(header: SafetensorsHeader, values: Mapping[str, TensorValues]) -> Finding | None:
    """One FSDP shard: every lora_B has values in the same one of n equal blocks of rows, as torch.chunk cuts them.

    A checkpoint that was gathered wrongly looks like that (https://github.com/axolotl-ai-cloud/axolotl/issues/3772).
    """
    blocks: set[tuple[int, int]] | None = None
    names = []
    for name, seen in values.items():
        shape = header.tensors[name].shape
        if parse_key(name).part != "lora_B.weight" or len(shape) != 2 or not seen.has_nonzero:
            continue
        names.append(name)
        rows, rank = shape
        fitting = _blocks(rows, seen.first // rank, seen.last // rank)
        blocks = fitting if blocks is None else blocks & fitting
        if not blocks:
            return None
    if not blocks:
        return None
    count, index = min(blocks)
    message = (
        f"{_plural(len(names), 'lora_B tensor')} with values in 1/{count} of the rows only "
        f"(block {index + 1} of {count}): one of {count} FSDP shards was saved"
    )
    return rules.SHARDED_VALUES.finding(
        message,
        file=WEIGHTS_NAME,
        tensor=escape(names[0]),
        count=len(names),
        expected="values in every row",
        actual=f"values in 1/{count} of the rows",
    )


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


def _zero_updates(header: SafetensorsHeader, values: Mapping[str, TensorValues]) -> list[Finding]:
    """A module's update B·A is zero where one of the two is."""
    pairs: dict[str, dict[str, str]] = {}
    for name in values:
        key = parse_key(name)
        if key.part in PAIRED:
            pairs.setdefault(key.path, {})[key.part[:-7] if key.part.endswith(".weight") else key.part] = name
    dead = []
    for parts in pairs.values():
        zero = [name for name in parts.values() if not values[name].has_nonzero and 0 not in header.tensors[name].shape]
        if zero:
            dead.append(next((name for name in zero if "lora_B" in name), zero[0]))
    if not dead:
        return []
    details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(dead[0]), "count": len(dead)}
    details |= {"expected": "a value other than 0", "actual": "all zeros"}
    if len(dead) == len(pairs):
        return [rules.ZERO_UPDATE.finding(f"the update of all {len(pairs)} modules is zero", **details)]
    message = f"the update of {len(dead)} of {len(pairs)} modules is zero"
    return [rules.DEAD_MODULES.finding(message, **details)]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def integer_tensors(header: SafetensorsHeader) -> list[Finding]:
    """LoRA tensors of an integer dtype: known from the header alone."""
    names = [name for name, info in header.tensors.items() if info.dtype in _INTEGERS and parse_key(name).part]
    if not names:
        return []
    first = header.tensors[names[0]]
    return [
        rules.INTEGER_DTYPE.finding(
            f"{_plural(len(names), 'LoRA tensor')} with an integer dtype",
            file=WEIGHTS_NAME,
            tensor=escape(names[0]),
            count=len(names),
            expected="a floating-point dtype",
            actual=first.dtype,
        )
    ]


assert set(_FLOATS) | _INTEGERS <= set(DTYPE_BITS)
