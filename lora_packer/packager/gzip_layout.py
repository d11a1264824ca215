"""A gzip file of stored deflate blocks: nothing is compressed, so every offset is arithmetic.

The formats: RFC 1952 (https://www.rfc-editor.org/rfc/rfc1952) and, for stored blocks, RFC 1951 section 3.2.4.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from lora_packer.frozen import frozen
from lora_packer.packager.layout import CHUNK, Generated, Layout, Tell, read_crc32, write_all

# Deflate, no flags (so no file name), no time, no extra flags, operating system unknown.
HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
# A stored block's length is 16 bits; before its bytes stand: last block or not, length, length inverted.
_BLOCK_HEADER = struct.Struct("<BHH")
_BLOCK = 0xFFFF
_FRAME = _BLOCK_HEADER.size + _BLOCK


def gzip_layout(content: Layout) -> Layout:
    """Return the layout of a gzip file that holds ``content``."""
    return Layout((Generated(HEADER), StoredBlocks(content), Generated(trailer(content.crc32(), content.size))))


def trailer(crc32: int, size: int) -> bytes:
    """Return the end of a gzip file whose content has this CRC-32 and size."""
    return struct.pack("<II", crc32, size & 0xFFFFFFFF)


def stored_blocks(data: bytes) -> bytes:
    """Return ``data`` as stored blocks, none of which is the stream's last."""
    blocks = (data[offset : offset + _BLOCK] for offset in range(0, len(data), _BLOCK))
    return b"".join(_block_header(len(block), is_last=False) + block for block in blocks)


def _block_header(size: int, *, is_last: bool) -> bytes:
    return _BLOCK_HEADER.pack(is_last, size, size ^ 0xFFFF)


@frozen
class StoredBlocks:
    """``content`` cut into stored deflate blocks of 65,535 bytes; all but the last are full."""

    content: Layout

    @property
    def _count(self) -> int:
        return max(1, -(-self.content.size // _BLOCK))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.content.size + self._count * _BLOCK_HEADER.size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first, beyond = offset // _FRAME, -(-end // _FRAME)
        return b"".join(self._frames(first, beyond))[offset - first * _FRAME : end - first * _FRAME]

    def write_to(self, file: BinaryIO, tell: Tell) -> None:
        """Write all of it at the file's position, in bounded memory."""
        step = CHUNK // _FRAME
        for first in range(0, self._count, step):
            frames = self._frames(first, min(first + step, self._count))
            write_all(file, *frames)
            tell(sum(map(len, frames)))

    def crc32(self) -> int:
        """Return the CRC-32 of all of it; the content is read for it, since the blocks' headers stand within."""
        return read_crc32(self)

    def _frames(self, first: int, beyond: int) -> list[bytes | memoryview]:
        """Return the blocks from ``first`` to before ``beyond``, each after its header."""
        data = memoryview(self.content.read(first * _BLOCK, (beyond - first) * _BLOCK))
        frames: list[bytes | memoryview] = []
        for index in range(first, beyond):
            block = data[(index - first) * _BLOCK :][:_BLOCK]
            frames += (_block_header(len(block), is_last=index == self._count - 1), block)
        return frames
