"""Checksums of a file, from one pass over it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from lora_packer.packager.archive import Member
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.layout import CHUNK
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source


class Digests:
    """The SHA-256 and the CRC-32 of bytes that pass."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._crc32 = 0
        self._size = 0
        self._update_crc32 = fastest_crc32()

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        self._crc32 = self._update_crc32(data, self._crc32)
        self._size += len(data)

    def member(self, name: str) -> Member:
        """Return what passed, as a member."""
        return Member(name, self._size, self._sha256.hexdigest(), self._crc32)


def digest(source: Source, meter: Meter | None = None) -> Member:
    """Read a file once, in bounded memory, for its size, CRC-32 and SHA-256. Raises PackError."""
    digests = Digests()
    with source.open() as descriptor:
        for _ in read_blocks(source, descriptor, digests, meter or Meter()):
            pass
    return digests.member(source.name)


def unread(source: Source) -> Member:
    """Return a file as a member whose checksums are not known yet."""
    return Member(source.name, source.size, "", 0)


def read_blocks(source: Source, descriptor: int, digests: Digests, meter: Meter) -> Iterator[bytes]:
    """Read an opened source once, block by block, into its checksums. Raises PackError."""
    for offset in range(0, source.size, CHUNK):
        data = source.read(descriptor, offset, min(CHUNK, source.size - offset))
        digests.update(data)
        meter.add(len(data))
        yield data
