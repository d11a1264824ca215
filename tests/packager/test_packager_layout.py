"""A layout: any range, any time, equals the same range of the written file; sources that change are noticed."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import source, written

from lora_packer.errors import PackError
from lora_packer.packager import Layout, Member
from lora_packer.packager.crc32 import _combine, crc32_combine
from lora_packer.packager.gzip_layout import StoredBlocks, gzip_layout
from lora_packer.packager.layout import CHUNK, FileSlice, Generated, Segment
from lora_packer.packager.zip_layout import ZipEntry, zip_directory

CONTENT = bytes(range(251)) * 800  # 200,800 bytes: three stored blocks and a bit; no period of a power of two


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> FileSlice:
    return FileSlice(source(tmp_path_factory.mktemp("layout") / "content", CONTENT), 0, len(CONTENT))


def mixed(content: FileSlice) -> Layout:
    inner = Layout((Generated(b"head"), content, Generated(b""), Generated(b"tail")))
    part = FileSlice(content.source, 1000, 70_000)
    empty = FileSlice(content.source, 5, 0)
    return Layout((Generated(b""), Generated(b"abc"), empty, part, StoredBlocks(inner), Generated(b"xyz")))


def test_written_bytes_are_the_segments_in_order(content: FileSlice) -> None:
    layout = Layout((Generated(b"abc"), FileSlice(content.source, 1000, 70_000), Generated(b"xyz")))
    assert written(layout) == b"abc" + CONTENT[1000:71_000] + b"xyz"
    assert layout.size == 70_006


def test_an_empty_layout_is_empty() -> None:
    layout = Layout(())
    assert (layout.size, layout.read(0, 10), written(layout)) == (0, b"", b"")


@settings(deadline=None)
@given(offset=st.integers(0, 272_000), length=st.integers(0, 272_000))
def test_any_range_equals_the_written_file(content: FileSlice, offset: int, length: int) -> None:
    layout = mixed(content)
    whole = written(layout)
    assert len(whole) == layout.size
    assert layout.read(offset, length) == whole[offset : offset + length]
    buffer = bytearray(b"?" * len(whole[offset : offset + length]))
    layout.read_into(min(offset, layout.size), memoryview(buffer))
    assert buffer == whole[offset : offset + length]


@pytest.mark.parametrize("boundary", [3, 70_003, 70_003 + 65_540, 70_003 + 2 * 65_540, 270_838])
@pytest.mark.parametrize("length", [1, 2, 5, 6, 65_540])
def test_ranges_at_the_boundaries_of_segments_and_blocks(content: FileSlice, boundary: int, length: int) -> None:
    layout = mixed(content)
    whole = written(layout)
    for offset in range(max(0, boundary - 6), boundary + 7):
        assert layout.read(offset, length) == whole[offset : offset + length]


def test_one_byte_at_a_time_is_the_whole() -> None:
    layout = Layout((Generated(b"ab"), StoredBlocks(Layout((Generated(b"cd"),))), Generated(b""), Generated(b"e")))
    assert b"".join(layout.read(offset, 1) for offset in range(layout.size)) == written(layout)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
def test_a_negative_range_is_a_mistake(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="no such range"):
        Layout((Generated(b"abc"),)).read(offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 4), (3, 1), (4, 0)])
def test_no_more_is_read_into_a_buffer_than_there_is(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="no such range"):
        Layout((Generated(b"abc"),)).read_into(offset, memoryview(bytearray(length)))


@pytest.mark.parametrize("make", [lambda c: c, lambda c: StoredBlocks(Layout((c,)))])
def test_a_segment_read_past_its_end_is_empty(content: FileSlice, make) -> None:
    segment: Segment = make(content)
    assert segment.read(segment.size, 10) == segment.read(segment.size + 1_000_000, 10) == b""
    assert len(segment.read(segment.size - 1, 10)) == 1


# --- writing --------------------------------------------------------------------------------------------------------


class OneByteAtATime(io.RawIOBase):
    """A raw file that takes less than it is given, as raw files may."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.taken += bytes(data[:1000])
        return min(1000, len(data))


def test_every_kind_of_file_gets_the_same_bytes(content: FileSlice, tmp_path: Path) -> None:
    layout = mixed(content)
    for name, buffering in (("raw", 0), ("buffered", -1)):
        with (tmp_path / name).open("wb", buffering=buffering) as file:
            file.write(b"before ")
            layout.write_to(file)
            file.write(b" after")
        assert (tmp_path / name).read_bytes() == b"before " + written(layout) + b" after"
    reluctant = OneByteAtATime()
    layout.write_to(reluctant)
    assert reluctant.taken == written(layout)


def _no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)


def _refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)


def _copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_arguments, **_options: 0, raising=False)


def _gives_up_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def copy(source: int, target: int, count: int, offset_src: int) -> int:
        calls.append(count)
        if len(calls) > 2:
            raise OSError(22, "Invalid argument")
        return os.write(target, os.pread(source, min(count, 777), offset_src))

    monkeypatch.setattr(os, "copy_file_range", copy, raising=False)


@pytest.mark.parametrize("kernel", [_no_such_call, _refused, _copies_nothing, _gives_up_half_way])
def test_without_the_kernels_copy_the_bytes_are_the_same(
    content: FileSlice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel
) -> None:
    expected = written(mixed(content))
    kernel(monkeypatch)
    with (tmp_path / "raw").open("wb", buffering=0) as file:
        mixed(content).write_to(file)
    assert (tmp_path / "raw").read_bytes() == expected


class Nowhere(io.RawIOBase):
    """A file that counts what it is given and keeps nothing."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.count += len(data)
        return len(data)


@pytest.mark.parametrize("make", [lambda c: c, lambda c: StoredBlocks(Layout((c,)))])
def test_memory_is_bounded_whatever_the_size(tmp_path: Path, make) -> None:
    size = 64 * CHUNK
    layout = Layout((make(FileSlice(source(tmp_path / "hole", size=size), 0, size)),))
    sink = Nowhere()
    tracemalloc.start()
    try:
        layout.write_to(sink)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.count == layout.size
    assert peak < 6 * CHUNK


# --- a source that is no longer what it was -------------------------------------------------------------------------


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _shrink(path: Path) -> None:
    os.truncate(path, 10)


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _swap(path: Path) -> None:
    kept = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    other.replace(path)


def _remove(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_grow, _shrink, _touch, _swap, _remove, _link, _pipe])
def test_a_changed_source_is_neither_read_nor_written(tmp_path: Path, change) -> None:
    content = FileSlice(source(tmp_path / "weights", CONTENT), 0, len(CONTENT))
    layout = Layout((Generated(b"abc"), content))
    change(tmp_path / "weights")
    with pytest.raises(PackError, match=r"weights (changed while|cannot be read)"):
        layout.read(0, 10)
    with pytest.raises(PackError):
        layout.read_into(0, memoryview(bytearray(10)))
    with pytest.raises(PackError, match=r"weights (changed while|cannot be read)"):
        written(layout)
    assert layout.read(0, 3) == b"abc"


def test_a_source_that_changes_during_the_write_is_noticed(tmp_path: Path) -> None:
    content = FileSlice(source(tmp_path / "weights", CONTENT), 0, len(CONTENT))

    class Meddler(Nowhere):
        def write(self, data) -> int:
            _grow(tmp_path / "weights")
            return super().write(data)

    with pytest.raises(PackError, match="weights changed while"):
        Layout((content,)).write_to(Meddler())


# --- CRC-32 and gzip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", [crc32_combine, _combine])
@settings(deadline=None)
@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_crc32_of_parts_is_the_crc32_of_the_whole(
    combine: Callable[[int, int, int], int], first: bytes, second: bytes
) -> None:
    combined = combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**32 - 1, 2**32 + 1, 2**40])
def test_both_ways_to_combine_agree_at_any_size(size: int) -> None:
    assert crc32_combine(0x12345678, 0x9ABCDEF0, size) == _combine(0x12345678, 0x9ABCDEF0, size)


@pytest.mark.parametrize("combine", [crc32_combine, _combine])
def test_crc32_of_parts_at_large_sizes(combine: Callable[[int, int, int], int]) -> None:
    megabyte = bytes(1 << 20)
    crc, size = zlib.crc32(megabyte), len(megabyte)
    for _ in range(4):  # 16 MiB by doubling
        crc, size = combine(crc, crc, size), 2 * size
    by_zlib = 0
    for _ in range(16):
        by_zlib = zlib.crc32(megabyte, by_zlib)
    assert crc == by_zlib


@pytest.mark.parametrize("size", [0, 1, 65_534, 65_535, 65_536, 131_069, 131_070, 131_071, 200_000])
def test_gzip_of_stored_blocks_is_read_by_zlib(size: int) -> None:
    content = CONTENT[:size]
    layout = gzip_layout(Layout((Generated(content),)))
    inflate = zlib.decompressobj(wbits=31)
    assert inflate.decompress(written(layout)) == content
    assert inflate.eof
    assert inflate.unused_data == b""
    assert layout.size == 10 + size + 5 * max(1, -(-size // 65_535)) + 8


def test_gzip_says_nothing_of_name_time_or_system() -> None:
    assert written(gzip_layout(Layout((Generated(b"x"),))))[:10].hex() == "1f8b08000000000000ff"


@pytest.mark.parametrize(
    ("size", "offset", "large"),
    [
        (0xFFFFFFFE, 0xFFFFFFFE, []),
        (0xFFFFFFFF, 0, [0xFFFFFFFF, 0xFFFFFFFF]),
        (0, 0xFFFFFFFF, [0xFFFFFFFF]),
        (0xFFFFFFFF, 0xFFFFFFFF, [0xFFFFFFFF] * 3),
    ],
)
def test_the_largest_value_of_a_32_bit_field_stands_in_the_zip64_field(
    size: int, offset: int, large: list[int]
) -> None:
    """It says: see there (APPNOTE.TXT, 4.4.8, 4.4.9 and 4.4.16)."""
    header = ZipEntry(Member("a", size, "", 0), size).central_header(offset)
    assert struct.unpack_from("<2I", header, 20) == (size, size)
    assert struct.unpack_from("<I", header, 42) == (offset,)
    field = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    assert header[47:] == field
    assert struct.unpack_from("<H", header, 6)[0] == (45 if large else 10)


@pytest.mark.parametrize(("offset", "is_zip64"), [(0xFFFFFFFE, False), (0xFFFFFFFF, True), (0x100000000, True)])
def test_a_directory_at_the_largest_32_bit_offset_has_a_zip64_end(offset: int, is_zip64: bool) -> None:
    """APPNOTE.TXT, 4.4.24."""
    end = zip_directory([b"header"], offset)
    assert end.startswith(b"header")
    assert struct.unpack_from("<I", end, len(end) - 6)[0] == min(offset, 0xFFFFFFFF)
    assert (end[6:10] == b"PK\6\6") is is_zip64
    if is_zip64:
        assert struct.unpack_from("<Q", end, 6 + 48)[0] == offset
