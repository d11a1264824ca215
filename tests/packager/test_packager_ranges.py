"""Any range of a planned archive, at any time, from any thread, is that of the written file: beyond 4 GiB, too."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import adapter, entry, unread_entry, write_sparse

from lora_packer.errors import PackError
from lora_packer.packager import Layout, PlannedArchive, pack, plan_archive
from lora_packer.packager.tar_layout import tar_gz_layout, tar_layout
from lora_packer.packager.zip_layout import zip_layout
from lora_packer.publisher.payload import fingerprint

GIB = 1 << 30
WEIGHTS = "adapter_model.safetensors"
both = pytest.mark.parametrize("kind", ["zip", "tar.gz"])


# --- beyond 4 GiB ---------------------------------------------------------------------------------------------------


def sparse_entries(folder: Path, size: int) -> list:
    """Three members, the second of which is a hole of this size."""
    return [
        entry(folder / "adapter_config.json", b"{}"),
        unread_entry(folder / WEIGHTS, size),
        entry(folder / "README.md", b"after the weights"),
    ]


@pytest.fixture(scope="module", params=[0xFFFFFFFE, 0xFFFFFFFF, 5 * GIB + 3])
def large_zip(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, io.BufferedReader]]:
    folder = tmp_path_factory.mktemp("zip64")
    layout = zip_layout(sparse_entries(folder, request.param))
    with write_sparse(layout, folder / "large.zip").open("rb") as file:
        yield layout, file


def near(size: int, *places: int) -> st.SearchStrategy[int]:
    """Offsets anywhere, but more often close to these places and the end."""
    close = [st.integers(max(0, place - 200), min(size, place + 200)) for place in (0, *places, size)]
    return st.one_of(st.integers(0, size), *close)


@settings(deadline=None)
@given(data=st.data(), length=st.integers(0, 9000))
def test_any_range_of_a_large_zip_is_that_of_the_file(
    large_zip: tuple[Layout, io.BufferedReader], data: st.DataObject, length: int
) -> None:
    layout, file = large_zip
    weights_end = layout.segments[0].size + layout.segments[1].size + layout.segments[2].size + layout.segments[3].size
    offset = data.draw(near(layout.size, 4096, weights_end))
    file.seek(offset)
    assert layout.read(offset, length) == file.read(length)
    assert layout.size == os.fstat(file.fileno()).st_size


@pytest.fixture(scope="module", params=[4 * GIB + 7, 9 * GIB])
def large_tar(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, Layout]:
    entries = sparse_entries(tmp_path_factory.mktemp("tar"), request.param)
    return tar_layout(entries), tar_gz_layout(entries)


def gzip_bytes(tar: Layout, offset: int, length: int) -> bytes:
    """A range of the gzip file, made of whole blocks as RFC 1951 and 1952 say: every block takes 5 + 65,535 bytes."""
    first, last = max(0, offset - 10) // 65_540, tar.size // 65_535
    data = b""
    for index in range(first, min(last, (offset + length) // 65_540) + 1):
        block = tar.read(index * 65_535, 65_535)
        data += struct.pack("<BHH", index == last, len(block), 0xFFFF - len(block)) + block
        if index == last:
            data += struct.pack("<II", tar.crc32(), tar.size % (1 << 32))
    start = 10 + first * 65_540
    if first == 0:
        data, start = bytes.fromhex("1f8b08000000000000ff") + data, 0
    return data[offset - start :][:length]


@settings(deadline=None)
@given(data=st.data(), length=st.integers(0, 140_000))
def test_any_range_of_a_large_tar_gz_is_what_the_formats_say(
    large_tar: tuple[Layout, Layout], data: st.DataObject, length: int
) -> None:
    tar, layout = large_tar
    block = data.draw(st.integers(0, tar.size // 65_535)) * 65_540 + 10
    offset = data.draw(near(layout.size, block))
    assert layout.read(offset, length) == gzip_bytes(tar, offset, length)
    assert layout.size == 10 + tar.size + 5 * (tar.size // 65_535 + 1) + 8


# --- a planned archive ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["zip", "tar.gz"])
def planned(request, tmp_path: Path) -> tuple[PlannedArchive, bytes]:
    """A plan, and the archive that packing the same folder writes."""
    folder = adapter(tmp_path / "a", README_md="card" * 1000)
    (folder / WEIGHTS).write_bytes(bytes(range(251)) * 1000)
    output = pack(folder, tmp_path / f"a.{request.param}", include_extras=True).path
    return plan_archive(folder, request.param, include_extras=True), output.read_bytes()


def test_a_plan_knows_the_archive_that_would_be_written(planned: tuple[PlannedArchive, bytes], tmp_path: Path) -> None:
    plan, whole = planned
    archive = pack(tmp_path / "a", tmp_path / f"b.{plan.format}", include_extras=True)
    assert (plan.size, plan.crc32()) == (len(whole), zlib.crc32(whole))
    assert (fingerprint(plan).sha256, plan.members) == (archive.sha256, archive.members)
    assert plan.left_out == archive.left_out == ()


def test_ranges_can_be_read_by_many_threads(planned: tuple[PlannedArchive, bytes]) -> None:
    plan, whole = planned
    offsets = range(0, plan.size, 1009)
    with ThreadPoolExecutor(8) as pool:
        ranges = pool.map(lambda offset: plan.read(offset, 3000), offsets)
        assert all(got == whole[offset : offset + 3000] for offset, got in zip(offsets, ranges, strict=True))


@both
@pytest.mark.parametrize(
    "change", [lambda path: os.utime(path, ns=(1, 1)), lambda path: os.truncate(path, 5), Path.unlink]
)
def test_a_file_that_changed_since_it_was_planned_is_not_read(tmp_path: Path, kind: str, change) -> None:
    folder = adapter(tmp_path / "a")
    plan = plan_archive(folder, kind)
    change(folder / WEIGHTS)
    with pytest.raises(PackError, match=f"{WEIGHTS} (changed|cannot be read)"):
        plan.read(plan.size - 3000, 100)
    with pytest.raises(PackError, match=f"{WEIGHTS} (changed|cannot be read)"):
        fingerprint(plan)


def test_planning_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tmp_path / "a")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    before = sorted(os.listdir(folder))
    fingerprint(plan_archive(folder))
    assert sorted(os.listdir(folder)) == before
