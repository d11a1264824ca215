"""Archives that others made: read without extracting, and refused where readers disagree or unpacking is not safe."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import TINY

from lora_packer.adapter import open_source
from lora_packer.errors import InputError
from lora_packer.packager import pack

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = {name: (TINY / name).read_bytes() for name in (CONFIG, WEIGHTS)}

Zip = zipfile.ZipFile


def a_zip(change: Callable[[Zip], object] = lambda archive: None, method: int = zipfile.ZIP_STORED) -> bytes:
    """The adapter's files, and what ``change`` adds."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in FILES.items():
            archive.writestr(name, data)
        change(archive)
    return file.getvalue()


def a_tar(change: Callable[[tarfile.TarFile], object] = lambda archive: None, **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        change(archive)
    return file.getvalue()


def member(name: str, data: bytes = b"x") -> Callable[[Zip], object]:
    return lambda archive: archive.writestr(name, data)


def special(name: str, kind: int) -> Callable[[Zip], object]:
    def add(archive: Zip) -> None:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "adapter_config.json")

    return add


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[tarfile.TarFile], object]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)

    return add


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """``content`` with other bytes at an offset from the first record that begins with this signature."""
    at = content.index(signature) + offset
    return content[:at] + value + content[at + len(value) :]


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def overlapping() -> bytes:
    """A directory that names the same data twice, as bombs do."""
    whole = a_zip()
    start = whole.index(CENTRAL)
    first = whole[start : whole.index(CENTRAL, start + 1)]
    twin = first.replace(b"adapter_config.json", b"adapter_confiG.json")
    end = bytearray(whole[whole.index(END) :])
    struct.pack_into("<HHI", end, 8, 3, 3, len(whole) - len(end) - start + len(twin))
    return whole[:start] + twin + whole[start : -len(end)] + end


def hidden() -> bytes:
    """A member between two others that the directory does not name."""
    whole = a_zip(member("hidden.py"))
    cut = whole.rindex(CENTRAL)
    end = bytearray(whole[whole.index(END) :])
    struct.pack_into("<HHI", end, 8, 2, 2, cut - whole.index(CENTRAL))
    return whole[:cut] + end


ZIPS = {
    "duplicate": (a_zip(member(CONFIG, b"{}")), "stands in it 2 times"),
    "duplicate-with-dot": (a_zip(member(f"./{CONFIG}", b"{}")), "stands in it 2 times"),
    "case-twin": (a_zip(member("Adapter_Config.json")), "differ in letter case"),
    "unicode-twin": (a_zip(lambda a: (a.writestr("é", b""), a.writestr("e\u0301", b""))), "Unicode form"),
    "parent": (a_zip(member("../evil")), "leads out of the folder"),
    "parent-within": (a_zip(member("a/../../evil")), "leads out of the folder"),
    "absolute": (a_zip(member("/etc/evil")), "leads out of the folder"),
    "backslash": (a_zip(member("..\\evil")), "leads out of the folder"),
    "drive": (a_zip(member("C:evil")), "leads out of the folder"),
    "nul": (a_zip(member("evilX.json")).replace(b"evilX", b"evil\0"), "leads out of the folder"),
    "link": (a_zip(special("link", stat.S_IFLNK)), "a link or no regular file"),
    "fifo": (a_zip(special("fifo", stat.S_IFIFO)), "a link or no regular file"),
    "bomb": (a_zip(member("zeros", bytes(70 << 20)), zipfile.ZIP_DEFLATED), "a bomb"),
    "announced-size": (
        patched(patched(a_zip(), CENTRAL, 24, b"\xfe\xff\xff\xff"), LOCAL, 22, b"\xfe\xff\xff\xff"),
        "has two sizes",
    ),
    "encrypted": (patched(patched(a_zip(), CENTRAL, 8, b"\1"), LOCAL, 6, b"\1"), "is encrypted"),
    "encrypted-locally": (patched(a_zip(), LOCAL, 6, b"\1"), "two headers that differ"),
    "other-disk": (patched(a_zip(), END, 4, b"\1\0"), "one part of several"),
    "split": (patched(a_zip(), END, 8, b"\1\0"), "one part of several"),
    "member-on-other-disk": (patched(a_zip(), CENTRAL, 34, b"\1\0"), "one part of several"),
    "bzip2": (a_zip(method=zipfile.ZIP_BZIP2), "method 12"),
    "trailing": (a_zip() + b"more", "bytes after its end"),
    "leading": (b"PK more" + a_zip(), "belong to nothing"),
    "two-ends": (a_zip() + a_zip()[-22:], "cannot be read"),
    "end-in-comment": (
        a_zip(lambda a: setattr(a, "comment", END + bytes(18))),
        "more than one end record",
    ),
    "hidden-member": (hidden(), "belong to nothing"),
    "overlap": (overlapping(), "differ in letter case|overlaps"),
    "local-name": (patched(a_zip(), LOCAL, 30, b"Adapter"), "two headers that differ"),
    "local-size": (patched(a_zip(), LOCAL, 22, b"\1"), "two headers that differ"),
    "local-crc": (patched(a_zip(), LOCAL, 14, b"\1\2\3\4"), "two headers that differ"),
    "local-method": (patched(a_zip(), LOCAL, 8, b"\x08"), "two headers that differ"),
    "no-local-header": (patched(a_zip(), LOCAL, 0, b"XK"), "neither a folder|no header"),
    "cut": (a_zip()[:-30], "no end record"),
    "cut-end": (a_zip()[:-1], "no end record"),
    "many-members": (patched(a_zip(), END, 8, b"\x20\x4e\x20\x4e"), "more than 10,000 members"),
    "large-directory": (patched(a_zip(), END, 12, b"\0\0\0\x7f"), "a directory of many megabytes"),
}


def broken_header() -> bytes:
    whole = bytearray(a_tar(entry("last")))
    whole[whole.index(b"last\0") + 148] = ord("9")  # its checksum
    return bytes(whole)


def long_header() -> bytes:
    """An extended header that announces 200 MB of name."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 200 << 20
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(512)


def tower() -> bytes:
    """Extended headers on extended headers: tarfile reads each within the one before."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    return (info.tobuf(tarfile.GNU_FORMAT) + b"x\0" + bytes(510)) * 3000 + bytes(1024)


TARS = {
    "duplicate": (a_tar(entry(CONFIG)), "stands in it 2 times"),
    "duplicate-with-dot": (a_tar(entry(f"./{CONFIG}")), "stands in it 2 times"),
    "case-twin": (a_tar(entry("ADAPTER_CONFIG.json")), "differ in letter case"),
    "parent": (a_tar(entry("../evil")), "leads out of the folder"),
    "absolute": (a_tar(entry("/etc/evil")), "leads out of the folder"),
    "link": (a_tar(entry("link", tarfile.SYMTYPE, CONFIG)), "is a link"),
    "link-out": (a_tar(entry("link", tarfile.SYMTYPE, "/etc/passwd")), "is a link"),
    "hard-link": (a_tar(entry("link", tarfile.LNKTYPE, CONFIG)), "is a link"),
    "fifo": (a_tar(entry("fifo", tarfile.FIFOTYPE)), "is no plain file"),
    "device": (a_tar(entry("null", tarfile.CHRTYPE)), "is no plain file"),
    "trailing": (a_tar() + b"more", "bytes after its end"),
    "much-padding": (a_tar() + bytes(2 << 20), "bytes after its end"),
    "second-tar": (a_tar() + a_tar(), "bytes after its end"),
    "broken-header": (broken_header(), "bytes after its end|cannot be read"),
    "long-header": (long_header(), "longer than 65,536 bytes"),
    "tower": (tower(), "has two names"),
    "cut": (a_tar()[:3000], "cannot be read"),
    "no-tar": (b"not a tar at all" * 100, "cannot be read"),
}


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught, open_source(path):
        pytest.fail("it was opened")
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_is_refused(tmp_path: Path, case: str) -> None:
    content, words = ZIPS[case]
    (tmp_path / "a.zip").write_bytes(content)
    assert any(word in refused(tmp_path / "a.zip").message for word in words.split("|"))


@pytest.mark.parametrize("case", TARS)
def test_a_tar_gz_is_refused(tmp_path: Path, case: str) -> None:
    content, words = TARS[case]
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content, 1))
    assert any(word in refused(tmp_path / "a.tar.gz").message for word in words.split("|"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole + b"more", "cannot be read"),
        (lambda whole: whole[:-3], "cannot be read"),
        (lambda whole: whole[:100], "cannot be read"),
        (lambda whole: whole[:-6] + b"\1\2" + whole[-4:], "cannot be read"),
        (lambda whole: whole[:200] + b"\xff" * 20 + whole[220:], "cannot be read"),
    ],
)
def test_a_damaged_gzip_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(damage(gzip.compress(a_tar(), 1)))
    assert words in refused(tmp_path / "a.tar.gz").message


def test_a_tar_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 100 << 30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(1 << 20)))
    assert "unpacks to 107,374,182,400 bytes" in refused(tmp_path / "a.tar.gz").message
    info.size = 80 << 20
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(1 << 20)))
    assert "a bomb" in refused(tmp_path / "a.tar.gz").message


# --- what is read ---------------------------------------------------------------------------------------------------


def with_folder(archive: Zip) -> None:
    archive.writestr("logs/", b"")
    archive.writestr("logs/run.txt", b"x")


def streamed() -> bytes:
    """As writers to a pipe do it: sizes and CRC-32 after the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.taken = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[arg-type]
        for name, data in FILES.items():
            archive.writestr(name, data)
    return bytes(pipe.taken)


def with_zip64() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=True) as target:
                target.write(data)
    return file.getvalue()


FINE = {
    "stored.zip": a_zip(),
    "deflated.zip": a_zip(method=zipfile.ZIP_DEFLATED),
    "folder.zip": a_zip(with_folder),
    "comment.zip": a_zip(lambda archive: setattr(archive, "comment", b"made by hand")),
    "streamed.zip": streamed(),
    "zip64.zip": with_zip64(),
    "signature-in-data.zip": a_zip(member("x.bin", END + bytes(30))),
    "gnu.tar.gz": gzip.compress(a_tar(format=tarfile.GNU_FORMAT)),
    "pax.tar.gz": gzip.compress(a_tar(entry("n" * 150), format=tarfile.PAX_FORMAT)),
    "folder.tar.gz": gzip.compress(a_tar(entry("logs", tarfile.DIRTYPE))),
    "two-gzip-members.tar.gz": gzip.compress(a_tar()[:1000]) + gzip.compress(a_tar()[1000:]),
}


@pytest.mark.parametrize("name", FINE)
def test_what_others_write_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FINE[name])
    with open_source(tmp_path / name) as source:
        assert set(FILES) <= set(source.files())
        for file_name, data in FILES.items():
            assert source.size(file_name) == len(data)
            with source.open(file_name) as file:
                assert file.read() == data
                file.seek(10)
                assert file.read(5) == data[10:15]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_packed_passes_its_own_check(
    cli: Callable[..., Any], tmp_path: Path, suffix: str, compress: bool
) -> None:
    pack(TINY, tmp_path / f"a{suffix}", compress=compress)
    result = cli("check", tmp_path / f"a{suffix}", "--base-config", BASE)
    assert result.code == 0, result.text


def test_a_nested_folder_is_a_finding(cli: Callable[..., Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in FILES.items():
            archive.writestr(f"my-adapter/{name}", data)
    result = cli("check", tmp_path / "a.zip", "--base-config", BASE)
    assert result.code == 1
    assert "LP101" in result.out


@pytest.mark.parametrize(
    ("suffix", "content"), [(".zip", ZIPS["parent"][0]), (".tar.gz", gzip.compress(TARS["link"][0]))]
)
def test_the_command_exits_with_2(cli: Callable[..., Any], tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    result = cli("check", tmp_path / f"a{suffix}", "--base-config", BASE)
    assert result.code == 2
    assert "is refused" in result.err
    assert "Traceback" not in result.text


def test_nothing_is_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (tmp_path / "a.zip").write_bytes(FINE["deflated.zip"])
    before = sorted(os.listdir(tmp_path))
    with open_source(tmp_path / "a.zip") as source, source.open(WEIGHTS) as file:
        file.read()
        assert os.listdir(temporary) == []
    assert sorted(os.listdir(tmp_path)) == before


def test_an_error_of_the_caller_is_not_taken_for_the_archives(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(FINE["stored.zip"])
    with pytest.raises(ValueError, match="a bug"), open_source(tmp_path / "a.zip"):
        raise ValueError("a bug")


def test_a_member_that_cannot_be_unpacked_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tempfile.SpooledTemporaryFile[bytes]] = []
    real = tempfile.SpooledTemporaryFile

    def temporary(**options: int) -> tempfile.SpooledTemporaryFile[bytes]:
        made.append(real(**options))
        return made[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", temporary)
    content = bytearray(FINE["deflated.zip"])
    content[100] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with open_source(tmp_path / "a.zip") as source:
        for name in source.files():
            with suppress(InputError):
                source.open(name).close()
    assert made
    assert all(file.closed for file in made)


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(["stored.zip", "deflated.zip", "gnu.tar.gz"]))
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    content = bytearray(FINE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        with open_source(path) as source:
            for found in source.files():
                with source.open(found) as file:
                    file.read()
    except InputError:
        pass
