"""What stands in for what an operating system lacks gives the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_packer import portable


@pytest.mark.parametrize("lacking", [(), ("preadv",), ("preadv", "pread")])
def test_reading_at_a_place(tmp_path: Path, lacking: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    for name in lacking:
        monkeypatch.delattr(os, name)
    descriptor = os.open(path, portable.READ_REGULAR)
    try:
        assert portable.read_at(descriptor, 3, 4) == b"456"
        assert portable.read_at(descriptor, 9, 8) == b"89"
        buffer = bytearray(4)
        assert portable.read_into(descriptor, memoryview(buffer), 2) == 4
        assert buffer == b"2345"
        assert portable.read_into(descriptor, memoryview(buffer), 8) == 2
        assert buffer == b"8945"
        assert os.read(descriptor, 2) == b"01"  # its position is another matter
    finally:
        os.close(descriptor)


def test_without_a_way_to_set_the_mode_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchmod")
    with (tmp_path / "f").open("wb") as file:
        portable.set_mode(file.fileno(), 0o600)
