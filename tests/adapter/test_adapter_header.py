"""Our own reader of safetensors headers: what it takes, what it refuses and why, and that the library agrees."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from builders import TINY, raw_safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from lora_packer.adapter import safetensors_header
from lora_packer.adapter.safetensors_header import HeaderError, read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def read(data: bytes) -> Any:
    return read_header(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": F32}, 8),
        ({"__metadata__": {"format": "pt"}, "a": F32}, 8),
        ({}, 0),
        ({"a": entry(0, 4, []), "b": entry(4, 4, [0, 3])}, 4),  # a scalar, and no elements
        ({"b": entry(4, 8), "a": entry(0, 4)}, 8),  # any order in the header
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   ', 4),  # padded with spaces
        ({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, 1),
        ({'quoted "dtype" in a name': F32}, 8),
        ({"ünïcode \\ name": F32}, 8),
    ],
)
def test_takes_what_the_format_allows(header: Any, size: int) -> None:
    data = raw_safetensors(header, bytes(size))
    ours = read(data)
    theirs = dict(deserialize(data))
    assert {name: (info.dtype, info.shape) for name, info in ours.tensors.items()} == {
        name: (info["dtype"], tuple(info["shape"])) for name, info in theirs.items()
    }
    assert ours.size == len(data)


@pytest.mark.parametrize(
    ("data", "says", "tensor"),
    [
        (b"", "it is empty", None),
        (b"\x02\0\0", "too short", None),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer", None),
        (b"PK\x03\x04" + bytes(60), "pickle", None),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "pickle", None),
        (raw_safetensors(b"", length=0), "claims 0 bytes", None),
        (raw_safetensors(b"{}", length=100_000_001), "the format allows 100000000", None),
        (raw_safetensors(b"{}", length=50), "claims 50 bytes, and 2 follow", None),
        (raw_safetensors(b" {}"), "does not start with '{'", None),
        (raw_safetensors(b"[1]"), "does not start with '{'", None),
        (raw_safetensors(b'{"\xff": 1}'), "not UTF-8", None),
        (raw_safetensors(b"{nope}"), "not JSON", None),
        (raw_safetensors(b'{"a": NaN}'), "NaN", None),
        (raw_safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested too deeply", None),
        (raw_safetensors(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON", None),
        (raw_safetensors({"__metadata__": {"a": 1}}), "__metadata__", None),
        (raw_safetensors({"a": [1]}), "exactly dtype, shape and data_offsets", "a"),
        (raw_safetensors({"a": {**F32, "more": 1}}, bytes(8)), "exactly dtype, shape and data_offsets", "a"),
        (raw_safetensors({"a": {**F32, "dtype": "F33"}}, bytes(8)), "'F33' is unknown", "a"),
        (raw_safetensors({"a": {**F32, "shape": [2.0]}}, bytes(8)), "shape is not", "a"),
        (raw_safetensors({"a": {**F32, "shape": [-2]}}, bytes(8)), "shape is not", "a"),
        (raw_safetensors({"a": {**F32, "shape": [True, 2]}}, bytes(8)), "shape is not", "a"),
        (raw_safetensors({"a": {**F32, "data_offsets": [8, 0]}}, bytes(8)), "not a valid range", "a"),
        (raw_safetensors({"a": {**F32, "data_offsets": [0, 8, 9]}}, bytes(8)), "not a valid range", "a"),
        (raw_safetensors({"a": {**F32, "shape": [3]}}, bytes(8)), "takes 12 bytes", "a"),
        (raw_safetensors({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "leaves a hole", "b"),
        (raw_safetensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "overlaps", "b"),
        (raw_safetensors({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)), "overlaps", "b"),
        (raw_safetensors({"a": F32}, bytes(4)), "4 bytes shorter", None),
        (raw_safetensors({"a": F32}, bytes(9)), "1 bytes follow", None),
        (
            raw_safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                bytes(4),
            ),
            "stands twice",
            "a",
        ),
        (
            raw_safetensors(b'{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
            "stands twice",
            "dtype",
        ),
        (
            # the same name, once written with an escape
            raw_safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                b'"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                bytes(4),
            ),
            "stands twice",
            "a",
        ),
    ],
)
def test_refuses_with_a_reason(data: bytes, says: str, tensor: str | None) -> None:
    with pytest.raises(HeaderError) as caught:
        read(data)
    assert says in str(caught.value)
    assert caught.value.tensor == tensor


def test_as_many_tensors_as_are_read_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert safetensors_header.MAX_TENSORS == 200_000
    monkeypatch.setattr(safetensors_header, "MAX_TENSORS", 2)
    tensors = {name: entry(4 * index, 4 * index + 4) for index, name in enumerate("abc")}
    two = {"__metadata__": {"format": "pt"}, "a": tensors["a"], "b": tensors["b"]}
    assert set(read(raw_safetensors(two, bytes(8))).tensors) == {"a", "b"}
    with pytest.raises(HeaderError, match="it has 3 tensors; at most 2 are read"):
        read(raw_safetensors(tensors, bytes(12)))


def test_a_header_length_that_looks_like_a_pickle_is_still_a_length() -> None:
    name = "n" * (0x0480 - len(json.dumps({"": F32})))
    data = raw_safetensors({name: F32}, bytes(8))
    assert data[:2] == b"\x80\x04"
    assert list(read(data).tensors) == [name]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_damaged_file_passes_that_the_library_refuses(data: st.DataObject) -> None:
    original = (TINY / "adapter_model.safetensors").read_bytes()
    end = int.from_bytes(original[:8], "little") + 8
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 16))
    blob = bytes(damaged[: len(damaged) - cut])
    try:
        theirs = {name: (info["dtype"], tuple(info["shape"])) for name, info in deserialize(blob)}
    except SafetensorError:
        theirs = None
    try:
        ours = {name: (info.dtype, info.shape) for name, info in read(blob).tensors.items()}
    except HeaderError:
        return  # stricter is allowed
    assert ours == theirs
