"""The tensors' values: NaN and infinity by bit pattern, zeros, read once and in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter.keys import WEIGHTS_NAME, parse_key
from lora_packer.adapter.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorInfo
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.diagnose import PAIRED
from lora_packer.redact import escape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 4 << 20

# dtype -> (bytes per element, all bits but the sign, the exponent's bits). A value is not finite where its exponent is
# all ones: IEEE 754, and bfloat16 as the upper half of a float32. E5M2 follows IEEE too; E4M3 has one NaN, 0x7F.
_FLOATS: Mapping[str, tuple[int, int, int]] = {
    "F64": (8, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    "F32": (4, 0x7FFF_FFFF, 0x7F80_0000),
    "BF16": (2, 0x7FFF, 0x7F80),
    "F16": (2, 0x7FFF, 0x7C00),
    "F8_E5M2": (1, 0x7F, 0x7C),
    "F8_E4M3": (1, 0x7F, 0x7F),
}
_INTEGERS = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"})


@dataclass(frozen=True, slots=True)
class TensorValues:
    """What a pass over one tensor's values saw: how many are not finite, and whether any is not zero."""

    not_finite: int
    has_nonzero: bool


def scan(file: BinaryIO, header: SafetensorsHeader) -> dict[str, TensorValues]:
    """Read every floating-point tensor once. Raises OSError."""
    import numpy as np

    buffer = np.empty(_CHUNK, dtype=np.uint8)
    result = {}
    for name, info in sorted(header.tensors.items(), key=lambda item: item[1].begin):
        layout = _FLOATS.get(info.dtype)
        if layout is not None:
            result[name] = _scan_tensor(file, header.data_start, info, layout, buffer)
    return result


def _scan_tensor(
    file: BinaryIO, start: int, info: TensorInfo, layout: tuple[int, int, int], buffer: NDArray[np.uint8]
) -> TensorValues:
    import numpy as np

    width, magnitude, exponent = layout
    dtype = np.dtype(f"<u{width}")
    magnitude_bits, exponent_bits = dtype.type(magnitude), dtype.type(exponent)
    file.seek(start + info.begin)
    left, not_finite, has_nonzero = info.end - info.begin, 0, False
    view = memoryview(buffer.data)
    while left:
        wanted = min(left, len(buffer))
        count = _read_into(file, view[:wanted])
        if count != wanted:
            raise OSError(f"the file ended {left - count} bytes early")
        values = buffer[:count].view(dtype)
        values &= magnitude_bits
        if int(values.max(initial=0)) >= exponent:
            not_finite += int(np.count_nonzero(values >= exponent_bits))
            has_nonzero = True
        elif not has_nonzero:
            has_nonzero = bool(values.any())
        left -= count
    return TensorValues(not_finite, has_nonzero)


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
    findings += _zero_updates(header, values)
    return findings


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
