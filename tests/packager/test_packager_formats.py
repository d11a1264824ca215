"""The two formats: what Python's readers and the system's tools see, and every header at the sizes where it changes."""

from __future__ import annotations

import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import LayoutFile, entry, tools, unread_entry, write_sparse, written

from lora_packer.packager import Layout, Member
from lora_packer.packager.gzip_layout import StoredBlocks
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_gz_layout, tar_layout
from lora_packer.packager.zip_layout import zip_layout

GIB = 1 << 30
CONFIG, WEIGHTS = b'{"peft_type": "LORA"}', bytes(range(256)) * 1000
NAMES = ["adapter_config.json", "adapter_model.safetensors", "README.md"]


@pytest.fixture
def entries(tmp_path: Path) -> list[tuple[Member, Source]]:
    contents = (CONFIG, WEIGHTS, b"")
    return [entry(tmp_path / name, content) for name, content in zip(NAMES, contents, strict=True)]


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


# --- zip ------------------------------------------------------------------------------------------------------------


def test_zip_holds_plain_stored_members(entries, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(written(zip_layout(entries)))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.comment == b""
        assert archive.namelist() == NAMES
        assert [archive.read(name) for name in NAMES] == [CONFIG, WEIGHTS, b""]
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr == 0o100644 << 16
            assert (info.compress_type, info.flag_bits) == (zipfile.ZIP_STORED, 0)
            assert (info.extra, info.comment, info.create_system, info.extract_version) == (b"", b"", 3, 10)


def zip_data_starts(archive: zipfile.ZipFile, file) -> dict[str, int]:
    starts = {}
    for info in archive.infolist():
        file.seek(info.header_offset + 26)
        starts[info.filename] = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return starts


@settings(deadline=None)
@given(config_size=st.integers(0, 9000))
def test_weights_start_at_a_multiple_of_4096(tmp_path_factory: pytest.TempPathFactory, config_size: int) -> None:
    folder = tmp_path_factory.mktemp("aligned")
    layout = zip_layout(
        [
            unread_entry(folder / "adapter_config.json", config_size),
            unread_entry(folder / "adapter_model.safetensors", 5000),
        ]
    )
    view = LayoutFile(layout)
    with zipfile.ZipFile(view) as archive:
        starts = zip_data_starts(archive, view)
    assert starts["adapter_model.safetensors"] % 4096 == 0
    assert starts["adapter_config.json"] == 30 + len("adapter_config.json")


def test_weights_that_are_aligned_by_themselves_get_no_padding(tmp_path: Path) -> None:
    config_size = 4096 - (30 + len("adapter_config.json")) - (30 + len("adapter_model.safetensors"))
    first, second = (
        unread_entry(tmp_path / name, size)
        for name, size in (("adapter_config.json", config_size), ("adapter_model.safetensors", 10))
    )
    layout = zip_layout([first, second])
    assert layout.segments[2].read(28, 2) == b"\0\0"  # no extra field
    assert sum(segment.size for segment in layout.segments[:3]) == 4096


def test_only_a_name_that_needs_it_is_flagged_as_utf8(tmp_path: Path) -> None:
    layout = zip_layout([entry(tmp_path / "plain.txt", b"a"), entry(tmp_path / "naïve.txt", b"b")])
    with zipfile.ZipFile(LayoutFile(layout)) as archive:
        assert [(info.filename, info.flag_bits) for info in archive.infolist()] == [
            ("plain.txt", 0),
            ("naïve.txt", 0x800),
        ]


@pytest.mark.parametrize("tool", tools("unzip", "zipinfo", "jar", "bsdtar", "7z", "7zz"))
def test_zip_is_read_by_the_tool(entries, tmp_path: Path, tool: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(written(zip_layout(entries)))
    if tool == "unzip":
        assert "No errors detected" in run("unzip", "-t", path)
        assert run("unzip", "-p", path, NAMES[0]).encode() == CONFIG
    elif tool.startswith("7z"):
        assert "Everything is Ok" in run(tool, "t", path)
    else:
        options = {"zipinfo": "-1", "jar": "tf", "bsdtar": "tf"}
        assert run(tool, options[tool], path).split() == NAMES


def zip_with_weights_of(folder: Path, size: int) -> Layout:
    return zip_layout(
        [
            entry(folder / "adapter_config.json", CONFIG),
            unread_entry(folder / "adapter_model.safetensors", size),
            entry(folder / "README.md", b"after the weights"),
        ]
    )


@pytest.mark.parametrize(
    ("size", "is_zip64"),
    [(0xFFFFFFFE, False), (0xFFFFFFFF, True), (0x100000000, True), (5 * GIB, True)],
)
def test_zip64_fields_appear_only_where_the_size_needs_them(tmp_path: Path, size: int, is_zip64: bool) -> None:
    layout = zip_with_weights_of(tmp_path, size)
    header = layout.segments[2].read(0, 200)
    assert struct.unpack_from("<HH", header, 4)[0] == (45 if is_zip64 else 10)
    assert struct.unpack_from("<II", header, 18) == ((0xFFFFFFFF,) * 2 if is_zip64 else (size,) * 2)
    assert (b"\x01\x00\x10\x00" + struct.pack("<QQ", size, size) in header) == is_zip64
    with zipfile.ZipFile(LayoutFile(layout)) as archive:
        assert [info.file_size for info in archive.infolist()] == [len(CONFIG), size, 17]
        assert archive.infolist()[2].header_offset == 4096 + size
        assert archive.read("README.md") == b"after the weights"
        with archive.open("adapter_model.safetensors") as weights:
            assert weights.read(1000) == bytes(1000)
        starts = zip_data_starts(archive, LayoutFile(layout))
    assert starts["adapter_model.safetensors"] == 4096
    assert starts["README.md"] == 4096 + size + 30 + len("README.md")


def test_small_zip_has_no_zip64_record(tmp_path: Path) -> None:
    archive = written(zip_with_weights_of(tmp_path, 100))
    assert b"PK\6\6" not in archive
    assert b"PK\6\7" not in archive


@pytest.mark.parametrize("tool", tools("unzip", "jar", "bsdtar", "7z", "7zz"))
def test_large_zip_is_read_by_the_tool(tmp_path: Path, tool: str) -> None:
    path = write_sparse(zip_with_weights_of(tmp_path, 5 * GIB), tmp_path / "large.zip")
    listing = {"unzip": "-l", "jar": "tvf", "bsdtar": "tvf", "7z": "l", "7zz": "l"}
    assert str(5 * GIB) in run(tool, listing[tool], path)
    if tool == "unzip":
        assert run("unzip", "-p", path, "README.md") == "after the weights"


def test_any_range_of_a_large_zip_is_where_the_headers_say(tmp_path: Path) -> None:
    layout = zip_with_weights_of(tmp_path, 5 * GIB)
    after = 4096 + 5 * GIB
    assert layout.read(after - 10, 14) == bytes(10) + b"PK\3\4"
    assert layout.read(after + 30 + 9, 17) == b"after the weights"
    assert layout.read(layout.size - 22, 100)[:4] == b"PK\5\6"


# --- tar.gz ---------------------------------------------------------------------------------------------------------


def test_tar_gz_holds_plain_members(entries, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(written(tar_gz_layout(entries)))
    with tarfile.open(path) as archive:
        assert archive.getnames() == NAMES
        assert [archive.extractfile(name).read() for name in NAMES] == [CONFIG, WEIGHTS, b""]
        for info in archive.getmembers():
            assert (info.type, info.mode, info.uid, info.gid, info.mtime) == (tarfile.REGTYPE, 0o644, 0, 0, 0)
            assert (info.uname, info.gname, info.linkname, info.pax_headers) == ("", "", "", {})


@pytest.mark.parametrize("tool", tools("tar", "bsdtar", "gzip", "pigz", "7z", "7zz", "node"))
def test_tar_gz_is_read_by_the_tool(entries, tmp_path: Path, tool: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(written(tar_gz_layout(entries)))
    tests = {"gzip": ["-t"], "pigz": ["-t"], "7z": ["t"], "7zz": ["t"]}
    if tool in tests:
        run(tool, *tests[tool], path)
    elif tool == "node":
        script = "const {readFileSync} = require('fs'), {gunzipSync} = require('zlib');"
        script += "console.log(gunzipSync(readFileSync(process.argv[1])).toString('latin1', 0, 19))"
        assert run(tool, "-e", script, path) == f"{NAMES[0]}\n"
    else:
        assert run(tool, "tzf", path).split() == NAMES
        assert run(tool, "xzOf", path, NAMES[0]).encode() == CONFIG


def tar_with_weights_of(folder: Path, size: int) -> Layout:
    return tar_layout(
        [
            entry(folder / "adapter_config.json", CONFIG),
            unread_entry(folder / "adapter_model.safetensors", size),
            entry(folder / "README.md", b"after the weights"),
        ]
    )


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 * GIB + 7])
def test_tar_members_of_8_gib_and_more(tmp_path: Path, size: int) -> None:
    layout = tar_with_weights_of(tmp_path, size)
    assert (layout.segments[3].read(124, 1) == b"\x80") == (size >= 8**11)
    with tarfile.open(fileobj=LayoutFile(layout), mode="r:") as archive:
        assert [info.size for info in archive] == [len(CONFIG), size, 17]
        assert archive.extractfile("README.md").read() == b"after the weights"


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 * GIB + 7])
@pytest.mark.parametrize("tool", tools("tar", "bsdtar"))
def test_large_tar_is_read_by_the_tool(tmp_path: Path, tool: str, size: int) -> None:
    path = write_sparse(tar_with_weights_of(tmp_path, size), tmp_path / "large.tar")
    assert str(size) in run(tool, "tvf", path)


def test_any_range_of_a_large_gzip_stream_is_a_stored_block_of_the_tar(tmp_path: Path) -> None:
    tar = tar_with_weights_of(tmp_path, 9 * GIB)
    blocks = StoredBlocks(tar)
    last = tar.size // 65_535
    for index in (0, 1, 70_000, 140_000, last - 1, last):
        block = tar.read(index * 65_535, 65_535)
        expected = struct.pack("<BHH", index == last, len(block), len(block) ^ 0xFFFF) + block
        assert blocks.read(index * 65_540, 65_540) == expected
        assert blocks.read(index * 65_540 + 3, 1000) == expected[3:1003]
    assert blocks.size == last * 65_540 + 5 + tar.size % 65_535


def test_the_layout_of_a_large_tar_gz_is_a_handful_of_segments(tmp_path: Path) -> None:
    layout = tar_gz_layout([unread_entry(tmp_path / "adapter_model.safetensors", 9 * GIB)])
    assert len(layout.segments) == 3


def test_a_name_too_long_for_tar_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 100 bytes"):
        tar_layout([entry(tmp_path / ("n" * 101), b"")])
