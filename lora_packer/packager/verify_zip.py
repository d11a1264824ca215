"""Read a ``.zip`` back, header by header."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from lora_packer.packager.archive import Member
from lora_packer.packager.inflate import LAST_BLOCK, inflated_pieces
from lora_packer.packager.meter import Meter
from lora_packer.packager.verify_content import Stream, read_pieces, require, verify_content

_LOCAL_HEADER = struct.Struct("<IHHHHHIIIHH")
_END_RECORD = struct.Struct("<IHHHHIIH")


def verify_zip(file: BinaryIO, members: Sequence[Member], sizes: Sequence[int] | None, meter: Meter) -> None:
    """Compare a zip with its planned members; ``sizes`` are those of its pieces of deflated data, as in ``verify``.

    Raises Mismatch, and what zipfile, zlib and struct do.
    """
    left = iter(sizes or ())
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        require([info.filename for info in infos] == [member.name for member in members], "it holds other members")
        require(not archive.comment, "it has a comment")
        position = 0
        for info, member in zip(infos, members, strict=True):
            require(info.header_offset == position, f"there are stray bytes before {member.name}")
            _verify_directory_entry(info, member, compressed=sizes is not None)
            start = _verify_local_header(file, info, member)
            position = start + info.compress_size
            file.seek(start)
            if info.compress_type == zipfile.ZIP_STORED:
                verify_content(Stream(read_pieces(file, info.compress_size)), member, meter)
            else:
                end = position - len(LAST_BLOCK)
                with inflated_pieces(file.fileno(), start, _adding_up_to(end - start, left)) as content:
                    stream = Stream(content)
                    verify_content(stream, member, meter, hashed=False)
                    require(not stream.read(1), f"{member.name} holds more than it should")
                file.seek(end)
                require(file.read(len(LAST_BLOCK)) == LAST_BLOCK, f"{member.name} does not end where it should")
        require(archive.start_dir == position, "there are stray bytes before the directory")
        _verify_directory_lengths(file, archive)
        _verify_end(file, len(members))


def _adding_up_to(total: int, sizes: Iterator[int]) -> Iterator[int]:
    while total > 0:
        size = next(sizes, total)
        total -= size
        yield size


def _verify_directory_entry(info: zipfile.ZipInfo, member: Member, *, compressed: bool) -> None:
    is_deflated = compressed and info.compress_type == zipfile.ZIP_DEFLATED
    require(is_deflated or info.compress_type == zipfile.ZIP_STORED, f"{member.name} is compressed")
    version = 20 if is_deflated else 10
    plain = (info.create_system, info.create_version, info.reserved, info.volume, info.internal_attr, info.comment)
    require(plain in ((3, version, 0, 0, 0, b""), (3, 45, 0, 0, 0, b"")), f"{member.name} has an odd directory entry")
    require(info.extract_version == info.create_version, f"{member.name} has an odd directory entry")
    require(info.external_attr == 0o100644 << 16, f"{member.name} is no regular file of mode 0644")
    require(info.flag_bits == (0 if member.name.isascii() else 0x800), f"{member.name} has odd flags")
    require(info.date_time == (1980, 1, 1, 0, 0, 0), f"{member.name} has a date")
    require(info.file_size == member.size, f"{member.name} has another size")
    require(is_deflated or info.compress_size == member.size, f"{member.name} has another size")
    require(member.crc32 == info.CRC, f"{member.name} has another CRC-32")
    require(set(_extra_fields(info.extra)) <= {0x0001}, f"{member.name} has an odd extra field")


def _verify_directory_lengths(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Compare the lengths that the directory states: zipfile takes what is there where they reach past its end."""
    file.seek(archive.start_dir)
    for info in archive.infolist():
        lengths = struct.unpack_from("<HHH", file.read(46), 28)
        expected = (len(info.filename.encode()), len(info.extra), 0)
        require(lengths == expected, f"{info.filename} has an odd directory entry")
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
    require(header[:-2] == expected and name == member.name.encode(), f"{member.name} has two different headers")
    alignment = extra.pop(0xA11E, None)
    is_aligning = alignment is None or alignment == struct.pack("<H", 4096) + bytes(len(alignment) - 2)
    require(not extra and is_aligning, f"{member.name} has an odd extra field")
    return info.header_offset + _LOCAL_HEADER.size + name_size + extra_size


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields = {}
    while extra:
        kind, size = struct.unpack_from("<HH", extra)
        require(kind not in fields and len(extra) >= 4 + size, "it has a broken extra field")
        fields[kind] = extra[4 : 4 + size]
        extra = extra[4 + size :]
    return fields


def _verify_end(file: BinaryIO, count: int) -> None:
    """Require that the end record ends the file, and names one disk and this many members."""
    file.seek(-_END_RECORD.size, 2)
    signature, *disks_and_counts, _size, _offset, comment_size = _END_RECORD.unpack(file.read())
    is_end = signature == 0x06054B50 and comment_size == 0
    require(is_end and disks_and_counts == [0, 0, count, count], "it does not end where its directory ends")
