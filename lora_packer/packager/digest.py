"""Checksums of a file, from one pass over it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from lora_packer.packager.archive import Member
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.layout import CHUNK
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import FileState, Source


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file as it was when a check read all of it: who packs it later need not read it again for its checksums.

    Attributes:
        state: as it was before the reading began; a file in another state is not the one that was read.
        member: its name, size and checksums.
    """

    state: FileState
    member: Member


class Digests:
    """The SHA-256 and the CRC-32 of bytes that pass."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._crc32 = 0
        self._size = 0
        self._update_crc32 = fastest_crc32()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        self._crc32 = self._update_crc32(data, self._crc32)
        self._size += len(data)

    @contextmanager
    def aside(self, behind: int) -> Iterator[Callable[[memoryview], None]]:
        """Give a function like ``update`` whose work is done in a thread; it is all done when the block is left.

        What was given to it has to stay as it is until ``behind - 1`` more were given.
        """
        waiting: deque[Future[None]] = deque()

        def take(data: memoryview) -> None:
            waiting.append(pool.submit(self.update, data))
            if len(waiting) == behind:
                waiting.popleft().result()

        with ThreadPoolExecutor(1) as pool:
            yield take
            while waiting:
                waiting.popleft().result()

    def member(self, name: str) -> Member:
        """Return what passed, as a member."""
        return Member(name, self._size, self._sha256.hexdigest(), self._crc32)


def digest(source: Source, meter: Meter | None = None) -> Member:
    """Read a file once, in bounded memory, for its size, CRC-32 and SHA-256. Raises PackError."""
    digests, meter = Digests(), meter or Meter()
    with source.open() as descriptor:
        for offset in range(0, source.size, CHUNK):
            data = source.read(descriptor, offset, min(CHUNK, source.size - offset))
            digests.update(data)
            meter.add(len(data))
    return digests.member(source.name)


def checksum(source: Source, meter: Meter) -> Member:
    """Read a file once for its CRC-32 alone, at a tenth of the cost of ``digest``; its SHA-256 stays empty.

    Raises PackError.
    """
    crc32, update = 0, fastest_crc32()
    buffer = memoryview(bytearray(min(CHUNK, source.size)))
    with source.open() as descriptor:
        for offset in range(0, source.size, CHUNK):
            data = buffer[: source.size - offset]
            source.read_into(descriptor, offset, data)
            crc32 = update(data, crc32)
            meter.add(len(data))
    return Member(source.name, source.size, "", crc32)


def unread(source: Source) -> Member:
    """Return a file as a member whose checksums are not known yet."""
    return Member(source.name, source.size, "", 0)
