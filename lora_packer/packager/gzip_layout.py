"""A gzip file of stored deflate blocks: nothing is compressed, so every offset is arithmetic.

The formats: RFC 1952 (https://www.rfc-editor.org/rfc/rfc1952) and, for stored blocks, RFC 1951 section 3.2.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from lora_packer.packager.layout import CHUNK, Generated, Layout, write_all

# Deflate, no flags (so no file name), no time, no extra flags, operating system unknown.
_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
# A stored block's length is 16 bits; before its bytes stand: last block or not, length, length inverted.
_BLOCK_HEADER = struct.Struct("<BHH")
_BLOCK = 0xFFFF
_FRAME = _BLOCK_HEADER.size + _BLOCK


def gzip_layout(content: Layout, crc32: int) -> Layout:
    """Return the layout of a gzip file that holds ``content``, whose CRC-32 is ``crc32``."""
    trailer = struct.pack("<II", crc32, content.size & 0xFFFFFFFF)
    return Layout((Generated(_HEADER), StoredBlocks(content), Generated(trailer)))


@dataclass(frozen=True, slots=True)
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
        data = memoryview(self.content.read(first * _BLOCK, (beyond - first) * _BLOCK))
        pieces: list[bytes | memoryview] = []
        for index in range(first, beyond):
            block = data[(index - first) * _BLOCK :][:_BLOCK]
            is_last = index == self._count - 1
            pieces += (_BLOCK_HEADER.pack(is_last, len(block), len(block) ^ 0xFFFF), block)
        return b"".join(pieces)[offset - first * _FRAME : end - first * _FRAME]

    def write_to(self, file: BinaryIO) -> None:
        """Write all of it at the file's position, in bounded memory."""
        step = CHUNK // _FRAME * _FRAME
        for offset in range(0, self.size, step):
            write_all(file, self.read(offset, step))
