"""The layout of a stored ``.tar.gz``: one plain ustar header for each member, no trace of who packed it or when.

The format: POSIX.1-2017, pax, "ustar Interchange Format"
(https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lora_packer.packager.archive import Member
from lora_packer.packager.gzip_layout import gzip_layout
from lora_packer.packager.layout import FileSlice, Generated, Layout, Segment
from lora_packer.packager.source import Source

_RECORD = 512
_END = bytes(2 * _RECORD)
# name, mode, uid, gid, size, mtime, checksum, type, link, magic, version, user, group, device numbers, prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_OCTAL_LIMIT = 8**11


def tar_gz_layout(entries: Sequence[tuple[Member, Source]]) -> Layout:
    """Return the layout of a ``.tar.gz`` of these members, in this order."""
    return gzip_layout(tar_layout(entries))


def tar_layout(entries: Sequence[tuple[Member, Source]]) -> Layout:
    """Return the layout of a ``.tar`` of these members, in this order."""
    segments: list[Segment] = []
    for member, source in entries:
        content = FileSlice(source, 0, member.size, member.crc32)
        segments += (Generated(_header(member)), content, Generated(bytes(-member.size % _RECORD)))
    return Layout((*segments, Generated(_END)))


def _header(member: Member) -> bytes:
    name = member.name.encode()
    if len(name) > 100:
        raise ValueError(f"a tar member's name has at most 100 bytes: {member.name!r}")
    none = b"0000000\0"
    fields = (
        *(name, b"0000644\0", none, none, _size(member.size), b"00000000000\0"),
        *(b" " * 8, b"0", b"", b"ustar\0", b"00", b"", b"", none, none, b""),
    )
    # The checksum is the sum of the header's bytes with the checksum's own field taken as spaces.
    checksum = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields[:6], checksum, *fields[7:])


def _size(size: int) -> bytes:
    """Return the size field: 11 octal digits; from 8 GiB on base-256, which GNU tar began and all readers know.

    https://www.gnu.org/software/tar/manual/html_node/Extensions.html
    """
    if size < _OCTAL_LIMIT:
        return b"%011o\0" % size
    return b"\x80" + size.to_bytes(11, "big")
