"""Archives: those that readers take differently, and those that cost more than they weigh."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from hostile.case import FAILED, OK, TINY, TINY_BASE, UNREADABLE, UPLOAD, Arguments, Build, Case, cases

Raw = Callable[[], bytes]

_CONFIG = (TINY / "adapter_config.json").read_bytes()
_WEIGHTS = (TINY / "adapter_model.safetensors").read_bytes()
_MEMBERS = (("adapter_config.json", _CONFIG), ("adapter_model.safetensors", _WEIGHTS))
_BAD = frozenset({FAILED, UNREADABLE, UPLOAD})
_ANY = _BAD | {OK}


def plain_zip(extra: Iterable[tuple[str, bytes]] = (), *, comment: bytes = b"", fields: bytes = b"") -> bytes:
    """Return a zip of the tiny adapter with more members; ``fields``: the extra fields of each."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in (*_MEMBERS, *extra):
            info = zipfile.ZipInfo(name)
            info.extra = fields
            archive.writestr(info, data)
        archive.comment = comment
    return stream.getvalue()


def _changed(find: bytes, put: bytes, count: int = 1, *, last: bool = False) -> Callable[[], bytes]:
    def raw() -> bytes:
        whole = plain_zip()
        if last:
            head, _, tail = whole.rpartition(find)
            return head + put + tail
        return whole.replace(find, put, count)

    return raw


def _directory(change: Callable[[bytearray, int], None], member: int = 1) -> Callable[[], bytes]:
    """Change the central directory's entry of a member in place."""

    def raw() -> bytes:
        whole = bytearray(plain_zip())
        at = -1
        for _ in range(member + 1):
            at = whole.index(b"PK\x01\x02", at + 1)
        change(whole, at)
        return bytes(whole)

    return raw


def _local(change: Callable[[bytearray, int], None], member: int = 1) -> Callable[[], bytes]:
    def raw() -> bytes:
        whole = bytearray(plain_zip())
        at = -1
        for _ in range(member + 1):
            at = whole.index(b"PK\x03\x04", at + 1)
        change(whole, at)
        return bytes(whole)

    return raw


def _put(form: str, offset: int, value: int) -> Callable[[bytearray, int], None]:
    def change(whole: bytearray, at: int) -> None:
        struct.pack_into(form, whole, at + offset, value)

    return change


def _end(change: Callable[[bytearray, int], None]) -> Callable[[], bytes]:
    def raw() -> bytes:
        whole = bytearray(plain_zip())
        change(whole, whole.rindex(b"PK\x05\x06"))
        return bytes(whole)

    return raw


def _two_directories() -> bytes:
    """A zip64 locator that leads to another central directory than the end record does."""
    first = plain_zip()
    end = first.rindex(b"PK\x05\x06")
    entries, size, start = struct.unpack_from("<HII", first, end + 10)
    body, directory, record = first[:start], first[start : start + size], first[end:]
    other = directory.replace(b"adapter_config.json", b"adapter_confug.json")
    second_at = start + size
    record64_at = second_at + size
    record64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, entries, entries, size, second_at)
    locator = struct.pack("<IIQI", 0x07064B50, 0, record64_at, 1)
    return body + directory + other + record64 + locator + record


def _unicode_path(name: bytes) -> bytes:
    data = b"\x01" + struct.pack("<I", zlib.crc32(b"adapter_config.json")) + name
    return plain_zip(fields=struct.pack("<HH", 0x7075, len(data)) + data)


def _bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_config.json", _CONFIG)
        with archive.open("adapter_model.safetensors", "w", force_zip64=True) as member:
            member.write(_WEIGHTS)
            for _ in range(400):
                member.write(bytes(1 << 20))
    return stream.getvalue()


def _many_members(count: int) -> bytes:
    return plain_zip((f"x{n}", b"") for n in range(count))


ZIPS: list[tuple[str, Callable[[], bytes], frozenset[int]]] = [
    ("two central directories", _two_directories, _BAD),
    ("a Unicode path with another name", lambda: _unicode_path(b"evil.json"), _BAD),
    ("a Unicode path that leaves the folder", lambda: _unicode_path(b"../../evil"), _BAD),
    ("two end records", lambda: plain_zip() + plain_zip()[-22:], _BAD),
    ("a zip behind a zip", lambda: plain_zip() + plain_zip(), _BAD),
    ("text before the zip", lambda: b"#!/bin/sh\n" + plain_zip(), _BAD),
    ("bytes behind the end", lambda: plain_zip() + b"x" * 100, _BAD),
    ("a comment with an end record", lambda: plain_zip(comment=b"PK\x05\x06" + bytes(18)), _BAD),
    ("a comment with ANSI", lambda: plain_zip(comment=b"\x1b[31m"), _ANY),
    ("names that differ: local and central", _changed(b"adapter_config.json", b"adapter_confug.json"), _BAD),
    ("names that differ in case", _changed(b"adapter_config.json", b"Adapter_config.json"), _BAD),
    ("central size too small", _directory(_put("<I", 24, 100)), _BAD),
    ("central compressed size too small", _directory(_put("<I", 20, 100)), _BAD),
    ("local size too small", _local(_put("<I", 22, 100)), _BAD),
    ("local compressed size too large", _local(_put("<I", 18, 1 << 30)), _BAD),
    ("central offset into the data", _directory(_put("<I", 42, 20)), _BAD),
    ("central method unknown", _directory(_put("<H", 10, 97)), _BAD),
    ("methods that differ", _local(_put("<H", 8, 8)), _BAD),
    ("flag: encrypted", _directory(_put("<H", 8, 1)), _BAD),
    ("flag: a descriptor that is not there", _local(_put("<H", 6, 8)), _BAD),
    ("flag: masked headers", _directory(_put("<H", 8, 1 << 13)), _BAD),
    ("wrong checksum", _directory(_put("<I", 16, 0)), _BAD),
    ("end record: fewer entries", _end(_put("<H", 10, 1)), _BAD),
    ("end record: more entries", _end(_put("<H", 10, 3)), _BAD),
    ("end record: 65,535 entries", _end(_put("<H", 10, 0xFFFF)), _BAD),
    ("end record: another disk", _end(_put("<H", 4, 1)), _BAD),
    ("end record: directory behind the end", _end(_put("<I", 16, 1 << 31)), _BAD),
    ("end record: directory of 2 GB", _end(_put("<I", 12, 1 << 31)), _BAD),
    ("a member twice", lambda: plain_zip([("adapter_config.json", b"{}")]), _BAD),
    ("a member that leaves the folder", lambda: plain_zip([("../x", b"")]), _BAD),
    ("an absolute member", lambda: plain_zip([("/etc/x", b"")]), _BAD),
    ("a member with a backslash", lambda: plain_zip([("..\\x", b"")]), _BAD),
    ("a member with ANSI", lambda: plain_zip([("\x1b[31mx", b"")]), _ANY),
    ("a member with newline ::error::", lambda: plain_zip([("x\n::error::y", b"")]), _ANY),
    ("a member with a name of 60,000", lambda: plain_zip([("x" * 60_000, b"")]), _ANY),
    ("a member with a drive", lambda: plain_zip([("C:x", b"")]), _BAD),
    ("a member for Windows' device", lambda: plain_zip([("aux.txt", b"")]), _ANY),
    ("100,000 members", lambda: _many_members(100_000), _BAD),
    ("400 MB of zeros", _bomb, _BAD),
    ("cut in half", lambda: plain_zip()[: len(plain_zip()) // 2], _BAD),
    ("only an end record", lambda: plain_zip()[-22:], _BAD),
    ("empty", lambda: b"", _BAD),
]


def plain_tar(extra: Iterable[tarfile.TarInfo] = (), form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an uncompressed tar of the tiny adapter, with more members before it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info in extra:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
        for name, data in _MEMBERS:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def packed(raw: bytes) -> bytes:
    """Return it as gzip packs it."""
    return gzip.compress(raw, 1, mtime=0)


def _header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def _block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _repeated(kind: bytes, data: bytes, count: int) -> Callable[[], bytes]:
    """Return an archive with the same header block and data many times before the adapter."""

    def raw() -> bytes:
        stream = io.BytesIO()
        with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1, mtime=0) as out:
            for number in range(count):
                out.write(_header("x", len(data), kind) + _block(data))
                if kind in (b"L", b"x"):
                    out.write(_header(f"m{number}", 0, b"0"))
            out.write(plain_tar())
        return stream.getvalue()

    return raw


def _pax(key: str, value: str) -> Callable[[], bytes]:
    def raw() -> bytes:
        body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
        size = len(body) + len(str(len(body)))
        size = len(body) + len(str(size))
        record = str(size).encode() + body
        return packed(_header("x", len(record), b"x") + _block(record) + plain_tar())

    return raw


def _sparse() -> bytes:
    numbers = b"20000000\n" + b"0\n" * 20_000_000
    record = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    head = _header("x", len(record), b"x") + _block(record) + _header("s", len(numbers), b"0")
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1, mtime=0) as out:
        out.write(head)
        out.write(_block(numbers))
        out.write(plain_tar())
    return stream.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def _with_size(field: bytes) -> Callable[[], bytes]:
    """A tar whose weights have this size field, with a checksum that holds."""

    def raw() -> bytes:
        whole = bytearray(plain_tar())
        at = whole.index(b"adapter_model.safetensors")
        whole[at + 124 : at + 136] = field
        block = whole[at : at + 148] + b" " * 8 + whole[at + 156 : at + 512]
        whole[at + 148 : at + 156] = f"{sum(block):06o}\0 ".encode()
        return packed(bytes(whole))

    return raw


def _gzip_header(flags: int, more: bytes) -> Callable[[], bytes]:
    return lambda: b"\x1f\x8b\x08" + bytes([flags]) + packed(plain_tar())[4:10] + more + packed(plain_tar())[10:]


def _with(*members: tarfile.TarInfo) -> Callable[[], bytes]:
    return lambda: packed(plain_tar(members))


TARS: list[tuple[str, Callable[[], bytes], frozenset[int]]] = [
    ("150 pax headers of 4 MB", _repeated(b"x", b"4194304 comment=" + b"a" * (4_194_304 - 17) + b"\n", 150), _BAD),
    ("20 GNU long names of 4 MB", _repeated(b"L", b"n" * 4_194_304, 20), _BAD),
    ("global pax headers of 4 MB", _repeated(b"g", b"4194304 comment=" + b"a" * (4_194_304 - 17) + b"\n", 100), _BAD),
    ("a sparse map of 20,000,000 numbers", _sparse, _BAD),
    ("pax size of 5,000 digits", _pax("size", "9" * 5000), _BAD),
    ("pax length of 5,000 digits", lambda: packed(_header("x", 6000, b"x") + _block(b"9" * 6000) + plain_tar()), _BAD),
    ("pax path that leaves the folder", _pax("path", "../../x"), _BAD),
    ("pax path with another member's name", _pax("path", "adapter_config.json.bak"), _BAD),
    ("pax size that differs", _pax("size", "1"), _BAD),
    ("pax mtime of text", _pax("mtime", "nan"), _ANY),
    ("pax hdrcharset BINARY", _pax("hdrcharset", "BINARY"), _ANY),
    ("a comment in gzip of 20 MB", _gzip_header(16, b"c" * 20_000_000 + b"\0"), _BAD),
    ("a name in gzip of 20 MB", _gzip_header(8, b"c" * 20_000_000 + b"\0"), _BAD),
    ("a gzip name with ANSI", _gzip_header(8, b"\x1b[31m\0"), _ANY),
    ("300,000 empty gzip members", lambda: gzip.compress(b"", 1, mtime=0) * 300_000 + packed(plain_tar()), _BAD),
    ("bytes behind gzip's end", lambda: packed(plain_tar()) + b"x" * 1000, _BAD),
    ("two gzip members", lambda: packed(plain_tar()[:1024]) + packed(plain_tar()[1024:]), _ANY),
    ("two tars", lambda: packed(plain_tar() + plain_tar()), _BAD),
    ("a link", _with(_member("l", tarfile.SYMTYPE, "/etc/passwd")), _BAD),
    ("a hard link", _with(_member("l", tarfile.LNKTYPE, "adapter_config.json")), _BAD),
    ("a device", _with(_member("d", tarfile.CHRTYPE)), _BAD),
    ("a FIFO", _with(_member("f", tarfile.FIFOTYPE)), _BAD),
    ("a member twice", _with(_member("adapter_config.json", size=2)), _BAD),
    ("a member that leaves the folder", _with(_member("../x")), _BAD),
    ("an absolute member", _with(_member("/etc/x")), _BAD),
    ("a member with ANSI", _with(_member("\x1b[31mx")), _ANY),
    ("100,000 members", lambda: packed(plain_tar(_member(f"x{n}") for n in range(100_000))), _BAD),
    (
        "a member of 8 EB",
        lambda: packed(
            _member("x", size=0).tobuf(tarfile.GNU_FORMAT).replace(b"00000000000", b"77777777777", 1) + plain_tar()
        ),
        _BAD,
    ),
    ("a size with a NUL before it", _with_size(b"\x000000016000\0"), _BAD),
    ("a size with a NUL in it", _with_size(b"000000\x0016000"), _BAD),
    ("a size with a sign", _with_size(b"-0000016000\0"), _BAD),
    ("a size in binary, negative", _with_size(b"\xff" * 12), _BAD),
    ("a GNU sparse member", lambda: packed(_header("s", 0, b"S") + plain_tar()), _BAD),
    ("a checksum that does not hold", lambda: packed(b"x" + plain_tar()[1:]), _BAD),
    ("cut in half", lambda: packed(plain_tar())[:600], _BAD),
    ("no end", lambda: packed(plain_tar()[:-10240]), _ANY),
    ("gzip's checksum wrong", lambda: packed(plain_tar())[:-8] + bytes(8), _BAD),
    ("not gzip", plain_tar, _BAD),
    ("empty", lambda: b"", _BAD),
]


def _archive(name: str, raw: Callable[[], bytes], *command: str) -> Build:
    def build(folder: Path) -> Arguments:
        (folder / name).write_bytes(raw())
        return [*(command or ("check",)), name, "--base-config", str(TINY_BASE)]

    return build


def all_cases() -> list[Case]:
    """Return the cases."""
    swapped = [
        ("a tar.gz called .zip", _archive("a.zip", lambda: packed(plain_tar())), _BAD),
        ("a zip called .tar.gz", _archive("a.tar.gz", plain_zip), _BAD),
    ]
    return [
        *cases("zip", [(name, _archive("a.zip", raw), exits) for name, raw, exits in ZIPS]),
        *cases("tar.gz", [(name, _archive("a.tar.gz", raw), exits) for name, raw, exits in TARS]),
        *cases("archive", swapped),
    ]
