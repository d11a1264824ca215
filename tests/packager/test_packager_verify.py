"""Reading back: what was planned is recognised, and every other archive is refused with a sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import entry, written

from lora_packer.errors import PackError
from lora_packer.packager import Member, verify
from lora_packer.packager.tar_layout import tar_gz_layout
from lora_packer.packager.zip_layout import zip_layout

FILES = {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.safetensors": bytes(range(256)) * 20}
MEMBERS = [Member(name, len(data), hashlib.sha256(data).hexdigest(), zlib.crc32(data)) for name, data in FILES.items()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("verify")
    entries = [entry(folder / name, data) for name, data in FILES.items()]
    return {"zip": written(zip_layout(entries)), "tar.gz": written(tar_gz_layout(entries))}


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(PackError) as caught:
        verify(path, MEMBERS)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_was_planned_gives_its_sha256(archives: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    (tmp_path / "archive").write_bytes(archives[kind])
    assert verify(tmp_path / "archive", MEMBERS) == hashlib.sha256(archives[kind]).hexdigest()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "plan",
    [
        MEMBERS[:1],
        MEMBERS[::-1],
        [*MEMBERS, MEMBERS[0]],
        [],
        [MEMBERS[0], replace(MEMBERS[1], sha256="0" * 64)],
        [MEMBERS[0], replace(MEMBERS[1], size=MEMBERS[1].size + 1)],
        [MEMBERS[0], replace(MEMBERS[1], name="README.md")],
    ],
    ids=["fewer", "other-order", "more", "none", "other-digest", "other-size", "other-name"],
)
def test_another_plan_is_refused(archives: dict[str, bytes], tmp_path: Path, kind: str, plan: list[Member]) -> None:
    (tmp_path / "archive").write_bytes(archives[kind])
    with pytest.raises(PackError):
        verify(tmp_path / "archive", plan)


def test_the_crc32_of_the_plan_counts_in_a_zip(archives: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(archives["zip"])
    with pytest.raises(PackError, match=r"adapter_config\.json has another CRC-32"):
        verify(tmp_path / "archive", [replace(MEMBERS[0], crc32=1), MEMBERS[1]])


# --- damage ---------------------------------------------------------------------------------------------------------


def test_no_bit_of_a_zip_can_change_unnoticed(archives: dict[str, bytes], tmp_path: Path) -> None:
    # All of the headers, the directory and the end; of the padding and the content, every 61st byte.
    whole = archives["zip"]
    second, content, directory = whole.index(b"PK\3\4", 1), 4096, whole.index(b"PK\1\2")
    headers = (
        range(100),
        range(second, second + 70),
        range(content - 10, content + 10),
        range(directory - 10, len(whole)),
    )
    for position in sorted({*(p for part in headers for p in part), *range(0, len(whole), 61)}):
        for bit in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            refused(tmp_path / "archive", bytes(damaged))


def test_no_bit_of_a_tar_gz_can_change_unnoticed(archives: dict[str, bytes], tmp_path: Path) -> None:
    whole = archives["tar.gz"]
    for position in (p for p in range(len(whole)) if p < 1100 or p > len(whole) - 50 or p % 61 == 0):
        # The high bits of a stored block's first byte (the one after gzip's header) are padding: they say nothing.
        for bit in (0x01,) if position == 10 else (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            refused(tmp_path / "archive", bytes(damaged))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_cut_short_anywhere_is_refused(archives: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    whole = archives[kind]
    for length in (*range(60), *range(60, len(whole), 97), len(whole) - 1):
        refused(tmp_path / "archive", whole[:length])


@settings(deadline=None)
@given(content=st.binary(max_size=200), magic=st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08"]))
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    refused(tmp_path_factory.mktemp("noise") / "archive", magic + content)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("extra", [b"\0", b"x", b"PK\5\6", bytes(512)])
def test_bytes_before_or_after_are_refused(archives: dict[str, bytes], tmp_path: Path, kind: str, extra: bytes) -> None:
    refused(tmp_path / "archive", archives[kind] + extra)
    refused(tmp_path / "archive", extra + archives[kind])


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(PackError, match="no regular file"):
            verify(path, MEMBERS)


# --- the same members, packed by others -----------------------------------------------------------------------------


def a_zip(
    change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None] = zipfile.ZipFile.writestr, comment: bytes = b""
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, data in FILES.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            info.create_version = info.extract_version = 10
            change(archive, info, data)
    return file.getvalue()


def deflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def dated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.date_time = (2024, 1, 1, 0, 0, 0)
    archive.writestr(info, data)


def executable(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.external_attr = 0o100755 << 16
    archive.writestr(info, data)


def link(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.external_attr = 0o120777 << 16
    archive.writestr(info, data)


def nested(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.filename = f"my-adapter/{info.filename}"
    archive.writestr(info, data)


def commented(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.comment = b"made by hand"
    archive.writestr(info, data)


def with_extra(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.extra = b"\x99\x99\x02\x00hi"
    archive.writestr(info, data)


def test_a_plain_stored_zip_of_another_writer_is_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(a_zip())
    assert verify(tmp_path / "archive", MEMBERS) == hashlib.sha256(a_zip()).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (a_zip(deflated), "is compressed"),
        (a_zip(dated), "has a date"),
        (a_zip(executable), "mode 0644"),
        (a_zip(link), "no regular file"),
        (a_zip(nested), "other members"),
        (a_zip(commented), "odd directory entry"),
        (a_zip(with_extra), "odd extra field"),
        (a_zip(comment=b"hello"), "has a comment"),
    ],
)
def test_a_zip_with_anything_besides_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refused(tmp_path / "archive", content)


def test_a_zip_with_a_duplicate_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO(a_zip())
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("adapter_config.json", b"{}")
    assert "other members" in refused(tmp_path / "archive", file.getvalue())


def a_tar(change: Callable[[tarfile.TarInfo], object] = lambda info: None, **options: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT, **options) as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def a_gzip(content: bytes, level: int = 0) -> bytes:
    """A gzip file of Python's own making, but for the header's last two bytes: the level and the system."""
    compressed = gzip.compress(content, level, mtime=0)
    return compressed[:8] + b"\0\xff" + compressed[10:]


UNPADDED = a_tar()[: 2 * 512 + 512 + 20 * 256 + 1024]


def test_a_plain_tar_of_another_writer_is_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(a_gzip(UNPADDED))
    assert verify(tmp_path / "archive", MEMBERS) == hashlib.sha256(a_gzip(UNPADDED)).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (a_gzip(a_tar(lambda info: setattr(info, "mode", 0o755))), "mode 0644"),
        (a_gzip(a_tar(lambda info: setattr(info, "uid", 1000))), "who packed it"),
        (a_gzip(a_tar(lambda info: setattr(info, "uname", "someone"))), "who packed it"),
        (a_gzip(a_tar(lambda info: setattr(info, "mtime", 1))), "who packed it"),
        (a_gzip(a_tar(lambda info: setattr(info, "type", tarfile.AREGTYPE))), "no regular file"),
        (a_gzip(a_tar(lambda info: setattr(info, "name", f"./{info.name}"))), "not where it should be"),
        (a_gzip(a_tar(lambda info: setattr(info, "name", f"my-adapter/{info.name}"))), "not where it should be"),
        (a_gzip(a_tar()), "stray bytes after its end"),  # padded with zeros to a record of 10,240
        (a_gzip(UNPADDED[:-512]), "stray bytes after its end"),
        (a_gzip(UNPADDED[:-1] + b"x"), "stray bytes after its end"),
        (a_gzip(UNPADDED) + a_gzip(b""), "stray bytes after its deflated data"),
        (gzip.compress(UNPADDED, 0, mtime=1), "gzip header"),
        (gzip.compress(UNPADDED, 0, mtime=0), "gzip header"),
    ],
)
def test_a_tar_gz_with_anything_besides_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refused(tmp_path / "archive", content)


def test_a_tar_with_extended_headers_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), {"comment": "hello"}
            archive.addfile(info, io.BytesIO(data))
    assert "has two headers" in refused(tmp_path / "archive", a_gzip(file.getvalue()))


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    bomb = a_gzip(UNPADDED[:-1024] + bytes(50_000_000), level=9)
    tracemalloc.start()
    try:
        assert "stray bytes" in refused(tmp_path / "archive", bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
