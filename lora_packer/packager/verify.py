"""Read a finished archive back with Python's own readers, which share no code with the writer."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, BinaryIO, cast

from lora_packer.errors import PackError
from lora_packer.packager.archive import Member
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.inflate import LAST_BLOCK, inflated, inflated_pieces
from lora_packer.packager.meter import Meter
from lora_packer.redact import escape
from lora_packer.threads import aside

_CHUNK = 1 << 18
# How much is hashed at a time: more, because the threads that hash and inflate take turns at each.
_HASHED = 1 << 20

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


def verify(
    path: Path, members: Sequence[Member], *, pieces: Sequence[int] | None = None, meter: Meter | None = None
) -> str:
    """Compare an archive with what it should hold: these members, in this order, and not a byte besides.

    Names, sizes and CRC-32 of the members are compared, and the SHA-256 of those that are not compressed; comments,
    duplicates, links, descriptors, owners, times, compression that was not planned and bytes before, between or after
    the members are refused. Memory is bounded.

    Args:
        path: a ``.zip`` or ``.tar.gz`` as :func:`lora_packer.packager.pack` writes them.
        members: what it should hold.
        pieces: of a compressed archive, how long the pieces of deflated data are, in the file's order; they are
            inflated in parallel. None: nothing is compressed.
        meter: counts the members' bytes.

    Returns:
        The SHA-256 of the archive, in hex.

    Raises:
        PackError: the archive is anything else.
    """
    meter = meter or Meter()
    try:
        _require(path.is_file(), "it is no regular file")
        with path.open("rb") as file, aside(meter.stop, _sha256_of, path, meter) as sha256:
            magic = file.read(2)
            file.seek(0)
            if magic == b"PK":
                _verify_zip(file, members, pieces, meter)
            elif magic == b"\x1f\x8b":
                _verify_tar_gz(file, members, pieces, meter)
            else:
                raise _Mismatch("it is neither a zip nor a gzip file")
            return sha256.result()
    except _Mismatch as error:
        raise PackError(f"The archive does not read back as planned: {error}.", hint=_HINT) from error
    except _READER_ERRORS as error:
        raise PackError(f"The archive cannot be read back: {escape(str(error))}.", hint=_HINT) from error


def _sha256_of(path: Path, meter: Meter) -> str:
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(_HASHED))
    with io.FileIO(path) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            meter.add(0)  # a chance to stop
    return sha256.hexdigest()


class _Mismatch(Exception):  # noqa: N818 - never leaves this module
    """What is not as planned, as the end of a sentence."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _Mismatch(otherwise)


# --- zip ------------------------------------------------------------------------------------------------------------

_LOCAL_HEADER = struct.Struct("<IHHHHHIIIHH")
_END_RECORD = struct.Struct("<IHHHHIIH")


def _verify_zip(file: BinaryIO, members: Sequence[Member], sizes: Sequence[int] | None, meter: Meter) -> None:
    left = iter(sizes or ())
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _require([info.filename for info in infos] == [member.name for member in members], "it holds other members")
        _require(not archive.comment, "it has a comment")
        position = 0
        for info, member in zip(infos, members, strict=True):
            _require(info.header_offset == position, f"there are stray bytes before {member.name}")
            _verify_directory_entry(info, member, compressed=sizes is not None)
            start = _verify_local_header(file, info, member)
            position = start + info.compress_size
            file.seek(start)
            if info.compress_type == zipfile.ZIP_STORED:
                _verify_content(_Stream(_read(file, info.compress_size)), member, meter)
            else:
                end = position - len(LAST_BLOCK)
                with inflated_pieces(file.fileno(), start, _adding_up_to(end - start, left)) as content:
                    stream = _Stream(content)
                    _verify_content(stream, member, meter, hashed=False)
                    _require(not stream.read(1), f"{member.name} holds more than it should")
                file.seek(end)
                _require(file.read(len(LAST_BLOCK)) == LAST_BLOCK, f"{member.name} does not end where it should")
        _require(archive.start_dir == position, "there are stray bytes before the directory")
        _verify_directory_lengths(file, archive)
        _verify_end(file, len(members))


def _adding_up_to(total: int, sizes: Iterator[int]) -> Iterator[int]:
    while total > 0:
        size = next(sizes, total)
        total -= size
        yield size


def _verify_directory_entry(info: zipfile.ZipInfo, member: Member, *, compressed: bool) -> None:
    is_deflated = compressed and info.compress_type == zipfile.ZIP_DEFLATED
    _require(is_deflated or info.compress_type == zipfile.ZIP_STORED, f"{member.name} is compressed")
    version = 20 if is_deflated else 10
    plain = (info.create_system, info.create_version, info.reserved, info.volume, info.internal_attr, info.comment)
    _require(plain in ((3, version, 0, 0, 0, b""), (3, 45, 0, 0, 0, b"")), f"{member.name} has an odd directory entry")
    _require(info.extract_version == info.create_version, f"{member.name} has an odd directory entry")
    _require(info.external_attr == 0o100644 << 16, f"{member.name} is no regular file of mode 0644")
    _require(info.flag_bits == (0 if member.name.isascii() else 0x800), f"{member.name} has odd flags")
    _require(info.date_time == (1980, 1, 1, 0, 0, 0), f"{member.name} has a date")
    _require(info.file_size == member.size, f"{member.name} has another size")
    _require(is_deflated or info.compress_size == member.size, f"{member.name} has another size")
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
    sizes = (info.compress_size, member.size)
    is_zip64 = extra.pop(0x0001, None) == struct.pack("<QQ", *reversed(sizes))
    if is_zip64:
        sizes = (0xFFFFFFFF, 0xFFFFFFFF)
    version = 45 if is_zip64 else 10 if info.compress_type == zipfile.ZIP_STORED else 20
    expected = (0x04034B50, version, info.flag_bits, info.compress_type, 0, 33, member.crc32, *sizes)
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


_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def _verify_tar_gz(file: BinaryIO, members: Sequence[Member], sizes: Sequence[int] | None, meter: Meter) -> None:
    """Compare in one pass over the file, and the content with the gzip trailer's CRC-32 and size."""
    _require(file.read(len(_GZIP_HEADER)) == _GZIP_HEADER, "its gzip header is not the plain one")
    if sizes is None:
        file.seek(0)
        _verify_tar(_Stream(inflated(_read(file), 16 + zlib.MAX_WBITS)), members, meter, hashed=True)
        return
    with inflated_pieces(file.fileno(), len(_GZIP_HEADER), sizes) as content:
        stream = _SummedStream(content)
        _verify_tar(stream, members, meter, hashed=False)
        _require(not stream.read(1), "it holds more than it should")
    file.seek(len(_GZIP_HEADER) + sum(sizes))
    end = LAST_BLOCK + struct.pack("<II", stream.crc32, stream.tell() & 0xFFFFFFFF)
    _require(file.read(len(end) + 1) == end, "it does not end as its content says")


def _verify_tar(stream: _Stream, members: Sequence[Member], meter: Meter, *, hashed: bool) -> None:
    position = 0
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        for member in members:
            info = archive.next()
            _require(info is not None and info.name == member.name, f"{member.name} is not where it should be")
            assert info is not None
            _require((info.offset, info.offset_data) == (position, position + 512), f"{member.name} has two headers")
            _verify_tar_header(info, member)
            _verify_content(stream, member, meter, hashed=hashed)
            position += 512 + -(-member.size // 512) * 512
        _require(archive.next() is None, "it holds other members")
    _require(stream.tell() == position + 512 and stream.read(513) == bytes(512), "there are stray bytes after its end")


def _verify_tar_header(info: tarfile.TarInfo, member: Member) -> None:
    _require(info.type == tarfile.REGTYPE, f"{member.name} is no regular file")
    _require(info.size == member.size, f"{member.name} has another size")
    _require(info.mode == 0o644, f"{member.name} has not the mode 0644")
    traces = (info.uid, info.gid, info.mtime, info.uname, info.gname, info.linkname, info.pax_headers)
    _require(traces == (0, 0, 0, "", "", "", {}), f"{member.name} says who packed it or when")


# --- content --------------------------------------------------------------------------------------------------------


def _read(file: BinaryIO, size: int | None = None) -> Generator[bytes]:
    """Read ``size`` bytes from where the file is, or all that is left."""
    while size is None or size > 0:
        data = file.read(_CHUNK if size is None else min(_CHUNK, size))
        if not data:
            return
        yield data
        if size is not None:
            size -= len(data)


class _Stream:
    """Pieces of content as a file, forwards only; no more of them are taken than are asked for.

    tarfile asks for no more than it needs, so what follows the tar's end is seen here.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        taken = []
        while size > 0 and (piece := self.read1(size)):
            taken.append(piece)
            size -= len(piece)
        return b"".join(taken)

    def read1(self, size: int) -> memoryview:
        """Return what is left of a piece, ``size`` bytes at most; nothing at the end. It is not copied."""
        if not self._piece:
            self._piece = self._take()
        piece, self._piece = self._piece[:size], self._piece[size:]
        self._position += len(piece)
        return piece

    def _take(self) -> memoryview:
        return memoryview(next((piece for piece in self._pieces if piece), b""))

    def tell(self) -> int:
        """Return how many bytes of the content were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip forwards to ``position``."""
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        _require(self._position == position, "its members are not in order")


class _SummedStream(_Stream):
    """A stream that knows the CRC-32 of the pieces which were taken from it so far, ``crc32``."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(pieces)
        self._update_crc32 = fastest_crc32()
        self.crc32 = 0

    def _take(self) -> memoryview:
        piece = super()._take()
        self.crc32 = self._update_crc32(piece, self.crc32)
        return piece


def _verify_content(content: _Stream, member: Member, meter: Meter, *, hashed: bool = True) -> None:
    """Compare the size, the CRC-32 and, where ``hashed``, the SHA-256, made of one piece while the next is read.

    Of compressed content it is not made: it would cost as much as a third of the inflating, and the CRC-32 is what
    whoever unpacks it relies on.
    """
    sha256, crc32, left = hashlib.sha256(), 0, member.size
    update_crc32 = fastest_crc32()
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[None] | None = None
        while left > 0 and (data := content.read1(left)):
            if waiting is not None:
                waiting.result()
            if hashed:
                waiting = pool.submit(sha256.update, data)
            crc32 = update_crc32(data, crc32)
            left -= len(data)
            meter.add(len(data))
    is_equal = (left, crc32) == (0, member.crc32) and (not hashed or sha256.hexdigest() == member.sha256)
    _require(is_equal, f"{member.name} is not the file that was read (SHA-256 {member.sha256})")
