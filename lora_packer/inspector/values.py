"""The tensors' values: NaN and infinity by bit pattern, zeros, read once and in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, parse_key
from lora_packer.adapter.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorInfo
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.redact import escape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Small enough to stay in a core's second-level cache between the read and the passes over it.
_CHUNK = 512 << 10

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


def scan(file: BinaryIO, header: SafetensorsHeader) -> dict[str, TensorValues]:
    """Read every floating-point tensor once. Raises OSError."""
    import numpy as np

    buffer = np.empty(_CHUNK, dtype=np.uint8)
    result = {}
    low_bits = False
    for name, info in sorted(header.tensors.items(), key=lambda item: item[1].begin):
        layout = _FLOATS.get(info.dtype)
        if layout is not None:
            file.seek(header.data_start + info.begin)
            seen = result[name] = _scan_tensor(file, info, layout, buffer, low_bits=low_bits)
            low_bits = seen.low_bits  # one such value is enough for the whole file
    return result


def _scan_tensor(
    file: BinaryIO, info: TensorInfo, layout: tuple[int, int], buffer: NDArray[np.uint8], *, low_bits: bool
) -> TensorValues:
    """Two maxima of the bit patterns say it all, with nothing written: as unsigned numbers, the negative values are the
    greatest, as signed numbers the positive ones are, and among either kind NaN and infinity are above the rest.
    """
    import numpy as np

    width, exponent = layout
    unsigned, signed = np.dtype(f"<u{width}"), np.dtype(f"<i{width}")
    sign = 1 << (8 * width - 1)
    seen = TensorValues(low_bits=low_bits)
    view = memoryview(buffer.data)
    left, position = info.end - info.begin, 0
    while left:
        wanted = min(left, len(buffer))
        count = _read_into(file, view[:wanted])
        if count != wanted:
            raise OSError(f"the file ended {left - count} bytes early")
        values = buffer[:count].view(unsigned)
        highest, highest_positive = int(values.max()), int(values.view(signed).max())
        if highest_positive >= exponent or highest >= sign | exponent:
            seen.not_finite += int(np.count_nonzero((values & unsigned.type(sign - 1)) >= unsigned.type(exponent)))
        if highest_positive > 0 or highest > sign:
            _note_nonzero(values, sign, position, seen)
        if width == 4 and not seen.low_bits:
            seen.low_bits = bool(np.bitwise_or.reduce(values) & unsigned.type(0xFFFF))
        left -= count
        position += len(values)
    return seen


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


def _read_into(file: BinaryIO, view: memoryview) -> int:
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


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
