"""Read a ``.tar.gz`` back, in one pass."""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Sequence
from typing import IO, BinaryIO, cast

from lora_packer.packager.archive import Member
from lora_packer.packager.inflate import LAST_BLOCK, inflated, inflated_pieces
from lora_packer.packager.meter import Meter
from lora_packer.packager.verify_content import Stream, SummedStream, read_pieces, require, verify_content

_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def verify_tar_gz(file: BinaryIO, members: Sequence[Member], sizes: Sequence[int] | None, meter: Meter) -> None:
    """Compare a tar.gz with its planned members, and its content with the gzip trailer's CRC-32 and size.

    ``sizes`` are those of its pieces of deflated data, as in ``verify``. Raises Mismatch, and what tarfile and zlib do.
    """
    require(file.read(len(_GZIP_HEADER)) == _GZIP_HEADER, "its gzip header is not the plain one")
    if sizes is None:
        file.seek(0)
        _verify_tar(Stream(inflated(read_pieces(file), 16 + zlib.MAX_WBITS)), members, meter, hashed=True)
        return
    with inflated_pieces(file.fileno(), len(_GZIP_HEADER), sizes) as content:
        stream = SummedStream(content)
        _verify_tar(stream, members, meter, hashed=False)
        require(not stream.read(1), "it holds more than it should")
    file.seek(len(_GZIP_HEADER) + sum(sizes))
    end = LAST_BLOCK + struct.pack("<II", stream.crc32, stream.tell() & 0xFFFFFFFF)
    require(file.read(len(end) + 1) == end, "it does not end as its content says")


def _verify_tar(stream: Stream, members: Sequence[Member], meter: Meter, *, hashed: bool) -> None:
    position = 0
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        for member in members:
            info = archive.next()
            require(info is not None and info.name == member.name, f"{member.name} is not where it should be")
            assert info is not None
            require((info.offset, info.offset_data) == (position, position + 512), f"{member.name} has two headers")
            _verify_tar_header(info, member)
            verify_content(stream, member, meter, hashed=hashed)
            position += 512 + -(-member.size // 512) * 512
        require(archive.next() is None, "it holds other members")
    require(stream.tell() == position + 512 and stream.read(513) == bytes(512), "there are stray bytes after its end")


def _verify_tar_header(info: tarfile.TarInfo, member: Member) -> None:
    require(info.type == tarfile.REGTYPE, f"{member.name} is no regular file")
    require(info.size == member.size, f"{member.name} has another size")
    require(info.mode == 0o644, f"{member.name} has not the mode 0644")
    traces = (info.uid, info.gid, info.mtime, info.uname, info.gname, info.linkname, info.pax_headers)
    require(traces == (0, 0, 0, "", "", "", {}), f"{member.name} says who packed it or when")
