"""Read a finished archive back with Python's own readers, which share no code with the writer."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from lora_packer.errors import PackError
from lora_packer.packager.archive import Member
from lora_packer.redact import escape

# 256 KiB: what zlib has not taken yet of a piece is copied at each call, so larger pieces of a gzip file cost time.
_CHUNK = 1 << 18

# What the readers raise over a file that is not what it should be.
_READER_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_HINT = "Pack the adapter again; if its files are being changed, wait until that is done."


def verify(path: Path, members: Sequence[Member]) -> str:
    """Compare an archive with what it should hold: these members, in this order, and not a byte besides.

    Names, sizes, CRC-32 and SHA-256 of the members are compared; comments, duplicates, links, descriptors, owners,
    times, compression and bytes before, between or after the members are refused. Memory is bounded.

    Args:
        path: a ``.zip`` or ``.tar.gz`` as :func:`lora_packer.packager.pack` writes them.
        members: what it should hold.

    Returns:
        The SHA-256 of the archive, in hex.

    Raises:
        PackError: the archive is anything else.
    """
    try:
        _require(path.is_file(), "it is no regular file")
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            if magic == b"PK":
                _verify_zip(file, members)
                file.seek(0)
                return hashlib.file_digest(file, "sha256").hexdigest()
            if magic == b"\x1f\x8b":
                return _verify_tar_gz(file, members)
            raise _Mismatch("it is neither a zip nor a gzip file")
    except _Mismatch as error:
        raise PackError(f"The archive does not read back as planned: {error}.", hint=_HINT) from error
    except _READER_ERRORS as error:
        raise PackError(f"The archive cannot be read back: {escape(str(error))}.", hint=_HINT) from error


class _Mismatch(Exception):  # noqa: N818 - never leaves this module
    """What is not as planned, as the end of a sentence."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _Mismatch(otherwise)


# --- zip ------------------------------------------------------------------------------------------------------------

_LOCAL_HEADER = struct.Struct("<IHHHHHIIIHH")
_END_RECORD = struct.Struct("<IHHHHIIH")


def _verify_zip(file: BinaryIO, members: Sequence[Member]) -> None:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _require([info.filename for info in infos] == [member.name for member in members], "it holds other members")
        _require(not archive.comment, "it has a comment")
        position = 0
        for info, member in zip(infos, members, strict=True):
            _require(info.header_offset == position, f"there are stray bytes before {member.name}")
            _verify_directory_entry(info, member)
            position = _verify_local_header(file, info, member) + member.size
            with archive.open(info) as content:
                _verify_content(content, member)
        _require(archive.start_dir == position, "there are stray bytes before the directory")
        _verify_directory_lengths(file, archive)
        _verify_end(file, len(members))


def _verify_directory_entry(info: zipfile.ZipInfo, member: Member) -> None:
    plain = (info.create_system, info.create_version, info.reserved, info.volume, info.internal_attr, info.comment)
    _require(plain in ((3, 10, 0, 0, 0, b""), (3, 45, 0, 0, 0, b"")), f"{member.name} has an odd directory entry")
    _require(info.extract_version == info.create_version, f"{member.name} has an odd directory entry")
    _require(info.external_attr == 0o100644 << 16, f"{member.name} is no regular file of mode 0644")
    _require(info.compress_type == zipfile.ZIP_STORED, f"{member.name} is compressed")
    _require(info.flag_bits == (0 if member.name.isascii() else 0x800), f"{member.name} has odd flags")
    _require(info.date_time == (1980, 1, 1, 0, 0, 0), f"{member.name} has a date")
    _require(info.file_size == info.compress_size == member.size, f"{member.name} has another size")
    _require(member.crc32 == info.CRC, f"{member.name} has another CRC-32")
    _require(set(_extra_fields(info.extra)) <= {0x0001}, f"{member.name} has an odd extra field")


def _verify_directory_lengths(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Compare the lengths that the directory states: zipfile takes what is there where they reach past its end."""
    file.seek(archive.start_dir)
    for info in archive.infolist():
        lengths = struct.unpack_from("<HHH", file.read(46), 28)
        expected = (len(info.filename.encode()), len(info.extra), 0)
        _require(lengths == expected, f"{info.filename} has an odd directory entry")
        file.seek(sum(lengths), 1)


def _verify_local_header(file: BinaryIO, info: zipfile.ZipInfo, member: Member) -> int:
    """Compare the header before the data with the directory; return where the data starts."""
    file.seek(info.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    name_size: int = header[-2]
    extra_size: int = header[-1]
    name, extra = file.read(name_size), _extra_fields(file.read(extra_size))
    sizes = struct.pack("<QQ", member.size, member.size)
    is_zip64 = extra.pop(0x0001, None) == sizes
    size32 = 0xFFFFFFFF if is_zip64 else member.size
    expected = (0x04034B50, 45 if is_zip64 else 10, info.flag_bits, 0, 0, 33, member.crc32, size32, size32)
    _require(header[:-2] == expected and name == member.name.encode(), f"{member.name} has two different headers")
    alignment = extra.pop(0xA11E, None)
    is_aligning = alignment is None or alignment == struct.pack("<H", 4096) + bytes(len(alignment) - 2)
    _require(not extra and is_aligning, f"{member.name} has an odd extra field")
    return info.header_offset + _LOCAL_HEADER.size + name_size + extra_size


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields = {}
    while extra:
        kind, size = struct.unpack_from("<HH", extra)
        _require(kind not in fields and len(extra) >= 4 + size, "it has a broken extra field")
        fields[kind] = extra[4 : 4 + size]
        extra = extra[4 + size :]
    return fields


def _verify_end(file: BinaryIO, count: int) -> None:
    """Require that the end record ends the file, and names one disk and this many members."""
    file.seek(-_END_RECORD.size, 2)
    signature, *disks_and_counts, _size, _offset, comment_size = _END_RECORD.unpack(file.read())
    is_end = signature == 0x06054B50 and comment_size == 0
    _require(is_end and disks_and_counts == [0, 0, count, count], "it does not end where its directory ends")


# --- tar.gz ---------------------------------------------------------------------------------------------------------


def _verify_tar_gz(file: BinaryIO, members: Sequence[Member]) -> str:
    """Compare in one pass over the file; return its SHA-256."""
    stream = _Gunzip(file)
    position = 0
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        for member in members:
            info = archive.next()
            _require(info is not None and info.name == member.name, f"{member.name} is not where it should be")
            assert info is not None
            _require((info.offset, info.offset_data) == (position, position + 512), f"{member.name} has two headers")
            _verify_tar_header(info, member)
            content = archive.extractfile(info)
            assert content is not None
            _verify_content(content, member)
            position += 512 + -(-member.size // 512) * 512
        _require(archive.next() is None, "it holds other members")
    _require(stream.tell() == position + 512 and stream.read(513) == bytes(512), "there are stray bytes after its end")
    return stream.finish()


def _verify_tar_header(info: tarfile.TarInfo, member: Member) -> None:
    _require(info.type == tarfile.REGTYPE, f"{member.name} is no regular file")
    _require(info.size == member.size, f"{member.name} has another size")
    _require(info.mode == 0o644, f"{member.name} has not the mode 0644")
    traces = (info.uid, info.gid, info.mtime, info.uname, info.gname, info.linkname, info.pax_headers)
    _require(traces == (0, 0, 0, "", "", "", {}), f"{member.name} says who packed it or when")


class _Gunzip:
    """The content of a gzip file of one member, forwards only; hashes the file as it passes.

    tarfile asks for no more than it needs, so what follows the tar's end is seen here. zlib compares the content with
    the gzip trailer's CRC-32 and size.
    """

    _HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"

    def __init__(self, file: BinaryIO) -> None:
        _require(file.read(10) == self._HEADER, "its gzip header is not the plain one")
        file.seek(0)
        self._file = file
        self._sha256 = hashlib.sha256()
        self._inflater = zlib.decompressobj(wbits=31)
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        pieces = []
        while size > 0 and not self._inflater.eof:
            data = self._inflater.unconsumed_tail or self._next()
            piece = self._inflater.decompress(data, size)
            if not piece and not data:
                raise EOFError("it is cut short")
            pieces.append(piece)
            self._position += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def tell(self) -> int:
        """Return how many bytes of the content were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip forwards to ``position``."""
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        _require(self._position == position, "its members are not in order")

    def finish(self) -> str:
        """Require that the file ends with the gzip trailer; return the file's SHA-256."""
        _require(self.read(1) == b"" and self._inflater.eof, "there are stray bytes after its end")
        _require(not self._inflater.unused_data and not self._next(), "there are stray bytes after the gzip trailer")
        return self._sha256.hexdigest()

    def _next(self) -> bytes:
        data = self._file.read(_CHUNK)
        self._sha256.update(data)
        return data


def _verify_content(content: IO[bytes], member: Member) -> None:
    """Compare by SHA-256; the readers compare the CRC-32 that the archive itself states."""
    sha256 = hashlib.sha256()
    while data := content.read(_CHUNK):
        sha256.update(data)
    _require(
        sha256.hexdigest() == member.sha256, f"{member.name} is not the file that was read (SHA-256 {member.sha256})"
    )
