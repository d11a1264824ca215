"""The layout of a stored ``.zip``: sizes and CRC-32 in the headers, no trace of who packed it or when.

The format: PKWARE's APPNOTE.TXT (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lora_packer.packager.archive import Member
from lora_packer.packager.layout import FileSlice, Generated, Layout, Segment
from lora_packer.packager.source import Source

# Weights start at a multiple of the page size, so that they can be memory-mapped where they lie.
ALIGNMENT = 4096

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_ZIP64_END = struct.Struct("<4sQ2H2I4Q")
_ZIP64_LOCATOR = struct.Struct("<4sIQI")

_MAX32 = 0xFFFFFFFF  # in a 32-bit field this value says: see the zip64 field
_ZIP64_FIELD = 0x0001
# "Data Stream Alignment": the alignment, then zeros. APPNOTE.TXT lists it; Apache Commons Compress introduced it
# (https://issues.apache.org/jira/browse/COMPRESS-391).
_ALIGNMENT_FIELD = 0xA11E

_VERSION, _VERSION_ZIP64 = 10, 45
_MADE_BY_UNIX = 3 << 8
_UTF8 = 0x800
_STORED = 0
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00:00, the earliest a zip can say
_ATTRIBUTES = 0o100644 << 16


def zip_layout(entries: Sequence[tuple[Member, Source]]) -> Layout:
    """Return the layout of a ``.zip`` of these members, in this order."""
    segments: list[Segment] = []
    directory = []
    offset = 0
    for member, source in entries:
        header = _local_header(member, offset)
        directory.append(_central_header(member, offset))
        segments += (Generated(header), FileSlice(source, 0, member.size))
        offset += len(header) + member.size
    segments.append(Generated(_directory(directory, offset)))
    return Layout(tuple(segments))


def _local_header(member: Member, offset: int) -> bytes:
    name = member.name.encode()
    sizes = [member.size, member.size]
    zip64 = _zip64_field(sizes) if member.size >= _MAX32 else b""
    extra = zip64
    if member.name.endswith(".safetensors"):
        extra += _alignment_field(offset + _LOCAL.size + len(name) + len(zip64))
    size32 = min(member.size, _MAX32)
    fields = (*_common(member, bool(zip64)), member.crc32, size32, size32, len(name), len(extra))
    return _LOCAL.pack(b"PK\3\4", *fields) + name + extra


def _central_header(member: Member, offset: int) -> bytes:
    name = member.name.encode()
    zip64 = _zip64_field([value for value in (member.size, member.size, offset) if value >= _MAX32])
    version = _VERSION_ZIP64 if zip64 else _VERSION
    size32 = min(member.size, _MAX32)
    fields = (*_common(member, bool(zip64)), member.crc32, size32, size32, len(name), len(zip64))
    attributes = (0, 0, 0, _ATTRIBUTES, min(offset, _MAX32))  # no comment, first disk, binary
    return _CENTRAL.pack(b"PK\1\2", _MADE_BY_UNIX | version, *fields, *attributes) + name + zip64


def _common(member: Member, zip64: bool) -> tuple[int, int, int, int, int]:
    """Return what both headers say alike: version needed, flags, method, time, date."""
    flags = 0 if member.name.isascii() else _UTF8
    return _VERSION_ZIP64 if zip64 else _VERSION, flags, _STORED, _TIME, _DATE


def _zip64_field(values: list[int]) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", _ZIP64_FIELD, 8 * len(values), *values) if values else b""


def _alignment_field(start: int) -> bytes:
    """Return the extra field after which data is aligned, where the field itself begins at ``start``."""
    if start % ALIGNMENT == 0:
        return b""
    padding = -(start + 6) % ALIGNMENT
    return struct.pack("<3H", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)


def _directory(headers: list[bytes], offset: int) -> bytes:
    directory = b"".join(headers)
    count, size = len(headers), len(directory)
    zip64 = b""
    if offset >= _MAX32:
        versions = (_MADE_BY_UNIX | _VERSION_ZIP64, _VERSION_ZIP64)
        zip64 = _ZIP64_END.pack(b"PK\6\6", _ZIP64_END.size - 12, *versions, 0, 0, count, count, size, offset)
        zip64 += _ZIP64_LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
    return directory + zip64 + _END.pack(b"PK\5\6", 0, 0, count, count, size, min(offset, _MAX32), 0)
