"""The records of a ``.zip``, and the layout of a stored one.

Sizes and CRC-32 stand in the headers; there is no trace of who packed it or when.

The format: PKWARE's APPNOTE.TXT (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lora_packer.frozen import frozen
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

STORED, DEFLATED = 0, 8
_VERSIONS, _VERSION_ZIP64 = {STORED: 10, DEFLATED: 20}, 45
_MADE_BY_UNIX = 3 << 8
_UTF8 = 0x800
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00:00, the earliest a zip can say
_ATTRIBUTES = 0o100644 << 16


@frozen
class ZipEntry:
    """A member as it lies in the archive.

    Attributes:
        member: what it is.
        size: the length of its data in the archive, in bytes.
        method: how the data is compressed: ``STORED`` or ``DEFLATED``.
    """

    member: Member
    size: int
    method: int = STORED

    @property
    def _is_zip64(self) -> bool:
        # Deflated data is a little longer than what it holds at worst, and the header is laid out before it is known.
        bound = self.member.size + (self.member.size >> 8 if self.method == DEFLATED else 0)
        return bound >= _MAX32

    def local_header(self, offset: int) -> bytes:
        """Return the header before the data; it lies at ``offset``, and no checksum or ``size`` changes its length."""
        name = self.member.name.encode()
        zip64 = _zip64_field([self.member.size, self.size]) if self._is_zip64 else b""
        extra = zip64
        if self.member.name.endswith(".safetensors") and self.method == STORED:
            extra += _alignment_field(offset + _LOCAL.size + len(name) + len(zip64))
        sizes = (_MAX32, _MAX32) if zip64 else (self.size, self.member.size)
        fields = (*self._common(self._is_zip64), self.member.crc32, *sizes, len(name), len(extra))
        return _LOCAL.pack(b"PK\3\4", *fields) + name + extra

    def central_header(self, offset: int) -> bytes:
        """Return the entry in the directory, where the local header lies at ``offset``."""
        name = self.member.name.encode()
        zip64 = _zip64_field([value for value in (self.member.size, self.size, offset) if value >= _MAX32])
        common = self._common(self._is_zip64 or bool(zip64))
        sizes = (min(self.size, _MAX32), min(self.member.size, _MAX32))
        fields = (*common, self.member.crc32, *sizes, len(name), len(zip64))
        attributes = (0, 0, 0, _ATTRIBUTES, min(offset, _MAX32))  # no comment, first disk, binary
        return _CENTRAL.pack(b"PK\1\2", _MADE_BY_UNIX | common[0], *fields, *attributes) + name + zip64

    def _common(self, zip64: bool) -> tuple[int, int, int, int, int]:
        """Return what both headers say alike: version needed, flags, method, time, date."""
        flags = 0 if self.member.name.isascii() else _UTF8
        return _VERSION_ZIP64 if zip64 else _VERSIONS[self.method], flags, self.method, _TIME, _DATE


def zip_layout(entries: Sequence[tuple[Member, Source]]) -> Layout:
    """Return the layout of a ``.zip`` of these members, in this order."""
    segments: list[Segment] = []
    directory = []
    offset = 0
    for member, source in entries:
        entry = ZipEntry(member, member.size)
        header = entry.local_header(offset)
        directory.append(entry.central_header(offset))
        segments += (Generated(header), FileSlice(source, 0, member.size, member.crc32))
        offset += len(header) + member.size
    segments.append(Generated(zip_directory(directory, offset)))
    return Layout(tuple(segments))


def _zip64_field(values: list[int]) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", _ZIP64_FIELD, 8 * len(values), *values) if values else b""


def _alignment_field(start: int) -> bytes:
    """Return the extra field after which data is aligned, where the field itself begins at ``start``."""
    if start % ALIGNMENT == 0:
        return b""
    padding = -(start + 6) % ALIGNMENT
    return struct.pack("<3H", _ALIGNMENT_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)


def zip_directory(headers: Sequence[bytes], offset: int) -> bytes:
    """Return the directory of these entries, which lies at ``offset``, and the end of the archive."""
    directory = b"".join(headers)
    count, size = len(headers), len(directory)
    zip64 = b""
    if offset >= _MAX32:
        versions = (_MADE_BY_UNIX | _VERSION_ZIP64, _VERSION_ZIP64)
        zip64 = _ZIP64_END.pack(b"PK\6\6", _ZIP64_END.size - 12, *versions, 0, 0, count, count, size, offset)
        zip64 += _ZIP64_LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
    return directory + zip64 + _END.pack(b"PK\5\6", 0, 0, count, count, size, min(offset, _MAX32), 0)
