"""What is seen of values, against what numpy says of each of them; and that numpy is not loaded for what is ordinary."""

from __future__ import annotations

import random
import subprocess
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from builders import raw_safetensors

from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector import values
from lora_packer.inspector.values import TensorValues, scan

# dtype -> the bits of a value, and of its exponent.
FORMATS: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}


def patterns(dtype: str) -> list[int]:
    """Values at every edge: zeros of both signs, the least, the largest, infinity, NaN; each with either sign."""
    bits, exponent = FORMATS[dtype]
    sign = 1 << (8 * np.dtype(bits).itemsize - 1)
    positive = [0, 0, 0, 1, exponent - 1, exponent, exponent | 1, sign - 1, exponent >> 1, 0x3F << 8 & (sign - 1)]
    return [*positive, *(value | sign for value in positive)]


def expected(array: Any, dtype: str) -> TensorValues:
    bits, exponent = FORMATS[dtype]
    sign = 1 << (8 * np.dtype(bits).itemsize - 1)
    magnitudes = [int(value) & (sign - 1) for value in array]
    places = [at for at, magnitude in enumerate(magnitudes) if magnitude]
    return TensorValues(
        not_finite=sum(magnitude >= exponent for magnitude in magnitudes),
        first=places[0] if places else -1,
        last=places[-1] if places else -1,
        low_bits=dtype == "F32" and any(int(value) & 0xFFFF for value in array),
    )


def seen(dtype: str, array: Any) -> TensorValues:
    header = {"t": {"dtype": dtype, "shape": [len(array)], "data_offsets": [0, array.nbytes]}}
    data = raw_safetensors(header, array.tobytes())
    return scan(BytesIO(data), read_header(BytesIO(data), len(data)))["t"]


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_value_is_seen_as_numpy_sees_it(dtype: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the edges of chunks, too, which are small here; in a large file, and in a small one."""
    monkeypatch.setattr(values, "_CHUNK", 64)
    monkeypatch.setattr(values, "SMALL", small)
    chance, kinds = random.Random(dtype), patterns(dtype)
    for _ in range(300):
        some = [chance.choice(kinds) for _ in range(chance.choice([1, 1, 2, 3]))]
        array = np.array([chance.choice(some) for _ in range(chance.randint(1, 60))], FORMATS[dtype][0])
        assert seen(dtype, array) == expected(array, dtype), (dtype, array)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("place", [0, 5, 6, 11])
def test_one_value_among_zeros_has_its_place(dtype: str, place: int) -> None:
    for value in set(patterns(dtype)):
        array = np.zeros(12, FORMATS[dtype][0])
        array[place] = value
        assert seen(dtype, array) == expected(array, dtype), hex(value)


ORDINARY = """
import sys, io
from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector.values import scan
data = bytes.fromhex(sys.argv[1])
found = scan(io.BytesIO(data), read_header(io.BytesIO(data), len(data)))["t"]
print(found.first, found.last, "numpy" in sys.modules)
"""


@pytest.mark.parametrize(("value", "loaded"), [(0x3F80, False), (0x7F80, True)])
def test_numpy_is_loaded_for_what_is_not_ordinary(value: int, loaded: bool) -> None:
    array = np.array([0, 0, value, value, 0], "<u2")
    header = {"t": {"dtype": "BF16", "shape": [5], "data_offsets": [0, array.nbytes]}}
    command = [sys.executable, "-c", ORDINARY, raw_safetensors(header, array.tobytes()).hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "3", str(loaded)]
