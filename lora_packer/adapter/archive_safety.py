"""What makes an archive one that readers disagree about, or that is not safe to unpack: refused, never extracted.

The tricks are those that package indexes came to refuse, too
(https://blog.pypi.org/posts/2025-08-07-wheel-archive-confusion-attacks/): duplicate names, two headers that differ,
bytes that only some readers see, names that lead out of the folder, and bombs.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from lora_packer.errors import InputError
from lora_packer.redact import escape

MAX_MEMBERS = 10_000
MAX_BYTES = 64 << 30
# Weights shrink to 0.4 of their size at the very best; zeros shrink to a thousandth. Below the floor nothing is a bomb.
_MAX_RATIO = 100
_RATIO_FLOOR = 64 << 20

_HINT = "Pack the adapter again with `lora-packer pack`."


def refuse(archive: str, reason: str, hint: str = _HINT) -> InputError:
    """Return the error for an archive that is not read, and why: the end of a sentence."""
    return InputError(f"the archive '{escape(archive)}' is refused: {reason}.", hint=hint)


def bare(name: str) -> str:
    """Return a member's name without the ``./`` that ``tar czf x.tar.gz .`` puts before it."""
    return name[2:] if name.startswith("./") else name


def check_names(archive: str, names: Iterable[str]) -> None:
    """Refuse names that lead out of a folder, and names that some file system takes for the same. Raises InputError."""
    seen: dict[str, str] = {}
    listed = list(names)
    for name in listed:
        shown = escape(name, 80)
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in parts or "\0" in name:
            raise refuse(archive, f"the member '{shown}' leads out of the folder it would be unpacked into")
        plain = bare(name).rstrip("/")
        twin = seen.setdefault(unicodedata.normalize("NFC", plain.casefold()), plain)
        if twin != plain:
            raise refuse(archive, f"'{shown}' and '{escape(twin, 80)}' differ in letter case or Unicode form only")
    for plain, count in Counter(bare(name).rstrip("/") for name in listed).items():
        if count > 1 and plain:
            raise refuse(
                archive, f"'{escape(plain, 80)}' stands in it {count} times, and readers disagree which one counts"
            )


def check_sizes(archive: str, unpacked: int, packed: int) -> None:
    """Refuse what would unpack to far more than an adapter is. Raises InputError."""
    hint = "An adapter is a few gigabytes at most: is this another file?"
    if unpacked > MAX_BYTES:
        raise refuse(archive, f"it unpacks to {unpacked:,} bytes, more than {MAX_BYTES:,}", hint)
    if unpacked > _RATIO_FLOOR and unpacked > _MAX_RATIO * packed:
        raise refuse(archive, f"it is a bomb: its {packed:,} bytes unpack to {unpacked:,}", hint)


_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_MAX_DIRECTORY = 16 << 20
_MAX_COMMENT = 0xFFFF
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
# How hard deflate tried says nothing to a reader; every other flag asks for one that can more.
_KNOWN_FLAGS = 0x6 | _DESCRIPTOR | _UTF8
_UNICODE_PATH = 0x7075  # Info-ZIP's field with another name for the member (APPNOTE.TXT 4.6.9)


def check_zip_end(archive: str, file: BinaryIO) -> None:
    """Read the end record before anything else does: one, at the very end, of one disk. Raises InputError."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _MAX_COMMENT))
    tail = file.read()
    start = size - len(tail)
    found = [
        match.start() for match in re.finditer(re.escape(b"PK\5\6"), tail) if match.start() + _END.size <= len(tail)
    ]
    if not found:
        raise InputError(
            f"the archive '{escape(archive)}' cannot be read: it has no end record.",
            hint="Is it cut short? Get it again.",
        )
    # The weights may hold the signature by chance; a record's comment has to reach the end of the file.
    fitting = [p for p in found if p + _END.size + _END.unpack_from(tail, p)[-1] == len(tail)]
    if not fitting or (fitting[-1] != found[-1]):
        raise refuse(archive, "there are bytes after its end")
    if len(fitting) > 1:
        raise refuse(archive, "it has more than one end record, and readers disagree which one counts")
    _, disk, first_disk, on_disk, members, directory_size, _offset, _comment = _END.unpack_from(tail, fitting[0])
    file.seek(max(0, start + fitting[0] - _LOCATOR.size))
    locator = file.read(_LOCATOR.size)
    if locator[:4] == b"PK\6\7":
        file.seek(_LOCATOR.unpack(locator)[2])
        record = file.read(_END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\6\6":
            raise refuse(archive, "its zip64 end record is not where it should be")
        *_, disk, first_disk, on_disk, members, directory_size, _offset = _END64.unpack(record)
    if disk or first_disk or on_disk != members:
        raise refuse(archive, "it is one part of several", "Pack the adapter into one file.")
    if members > MAX_MEMBERS or directory_size > _MAX_DIRECTORY:
        raise refuse(archive, f"it has more than {MAX_MEMBERS:,} members, or a directory of many megabytes")


def check_zip(archive: str, file: BinaryIO, opened: zipfile.ZipFile) -> None:
    """Compare the directory with the headers before the data, and both with what is safe. Raises InputError."""
    infos = opened.infolist()
    if len(infos) > MAX_MEMBERS:
        raise refuse(archive, f"it has more than {MAX_MEMBERS:,} members")
    check_names(archive, [info.orig_filename for info in infos])
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        _check_zip_member(archive, info)
        _check_gap(archive, info.header_offset - end, f"'{escape(info.filename, 80)}'")
        end = _check_local_header(archive, file, info)
        if info.flag_bits & _DESCRIPTOR:
            end += _descriptor(archive, file, info, end)
    _check_gap(archive, opened.start_dir - end, "its directory")
    check_sizes(archive, sum(i.file_size for i in infos), max(1, sum(i.compress_size for i in infos)))


def _check_gap(archive: str, gap: int, before: str) -> None:
    if gap < 0:
        raise refuse(archive, f"{before} overlaps a member")
    if gap:
        raise refuse(archive, f"there are {gap:,} bytes before {before} that belong to nothing")


def _check_zip_member(archive: str, info: zipfile.ZipInfo) -> None:
    name = escape(info.filename, 80)
    if info.flag_bits & _ENCRYPTED:
        raise refuse(archive, f"'{name}' is encrypted", "Pack the adapter without a password.")
    if info.flag_bits & ~_KNOWN_FLAGS:
        raise refuse(archive, f"'{name}' has flags (0x{info.flag_bits:04x}) that not every reader heeds")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise refuse(archive, f"'{name}' is stored, and has two sizes")
    _check_extra(archive, name, info.extra, info.orig_filename)
    if info.volume:
        raise refuse(archive, "it is one part of several", "Pack the adapter into one file.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refuse(archive, f"'{name}' is compressed by method {info.compress_type}; expected stored or deflate")
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refuse(archive, f"'{name}' is a link or no regular file", "Pack the files themselves.")


def _check_local_header(archive: str, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Compare a member's header with the directory's entry; return where its data ends."""
    name = escape(info.filename, 80)
    file.seek(info.header_offset)
    raw = file.read(_LOCAL.size)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\3\4":
        raise refuse(archive, f"there is no header where '{name}' should be")
    _, _version, flags, method, _time, _date, crc, packed, size, name_size, extra_size = _LOCAL.unpack(raw)
    local_name = file.read(name_size)
    extra = file.read(extra_size)
    _check_extra(archive, name, extra, info.orig_filename)
    size, packed = _zip64_sizes(extra, size, packed)
    if flags & _DESCRIPTOR:  # the values may stand after the data instead
        crc, size, packed = crc or info.CRC, size or info.file_size, packed or info.compress_size
    encoded = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    stated = (local_name, method, crc, size, packed, flags)
    if stated != (encoded, info.compress_type, info.CRC, info.file_size, info.compress_size, info.flag_bits):
        raise refuse(archive, f"'{name}' has two headers that differ, and readers disagree which one counts")
    return file.tell() + info.compress_size


def data_start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where a member's data begin, behind its own header."""
    file.seek(info.header_offset)
    *_, name_size, extra_size = _LOCAL.unpack(file.read(_LOCAL.size))
    return int(info.header_offset + _LOCAL.size + name_size + extra_size)


def _check_extra(archive: str, name: str, extra: bytes, path: str) -> None:
    """Refuse fields that give a member another name, which only some readers take. Raises InputError."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _UNICODE_PATH and extra[9 : 4 + length] != path.encode("utf-8", "surrogateescape"):
            raise refuse(archive, f"'{name}' has another name for some readers")
        extra = extra[4 + length :]


def _descriptor(archive: str, file: BinaryIO, info: zipfile.ZipInfo, position: int) -> int:
    """Return how long the descriptor behind a member's data is: with or without a signature, sizes of 4 or 8 bytes."""
    file.seek(position)
    raw = file.read(24)
    for signature in (b"PK\x07\x08", b""):
        for form in ("<I2I", "<I2Q"):
            record = (
                signature + struct.pack(form, info.CRC, info.compress_size, info.file_size)
                if _fits(form, info)
                else None
            )
            if record is not None and raw.startswith(record):
                return len(record)
    raise refuse(archive, f"the record behind '{escape(info.filename, 80)}' does not say what its directory says")


def _fits(form: str, info: zipfile.ZipInfo) -> bool:
    return form.endswith("Q") or max(info.compress_size, info.file_size) < 1 << 32


def _zip64_sizes(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """Return the sizes that a local header states: those of 32 bits, or its zip64 field's."""
    while len(extra) >= 4 and 0xFFFFFFFF in (size, packed):
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1 and length >= 16:
            size, packed = struct.unpack_from("<2Q", extra, 4)
            break
        extra = extra[4 + length :]
    return size, packed
