"""Checksums of a file, from one pass over it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from mmap import mmap

from lora_packer.files import FileState
from lora_packer.frozen import frozen
from lora_packer.packager.archive import Member
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.layout import CHUNK
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source

# A CRC-32 takes so little time that more goes by in waiting for Python's lock, at each piece, while another thread
# loads modules: beside those 671 MB took 250 ms in pieces of 1 MiB, and 185 in these.
_LARGE_CHUNK = 16 << 20


@frozen
class CheckedFile:
    """A file as it was when all of it was read: who packs it later need not read it again for its checksums.

    Attributes:
        state: as it was before the reading began; a file in another state is not the one that was read.
        member: its name, size and checksums.
    """

    state: FileState
    member: Member

    def is_same_as(self, other: CheckedFile) -> bool:
        """Say whether another reading was of the same bytes: whether state and CRC-32 are the same."""
        return (self.state, self.member.crc32) == (other.state, other.member.crc32)


class Digests:
    """The CRC-32 and the SHA-256 of bytes that pass.

    Args:
        sha256: whether the SHA-256 is wanted, which is ten times the work of the CRC-32.
    """

    def __init__(self, *, sha256: bool = True) -> None:
        self._sha256 = hashlib.sha256() if sha256 else None
        self._crc32 = 0
        self._size = 0
        self._update_crc32 = fastest_crc32()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        if self._sha256 is not None:
            self._sha256.update(data)
        self._crc32 = self._update_crc32(data, self._crc32)
        self._size += len(data)

    @contextmanager
    def aside(self, behind: int) -> Iterator[Callable[[bytes | memoryview], None]]:
        """Give a function like ``update`` whose work is done in a thread; it is all done when the block is left.

        What was given to it has to stay as it is until ``behind - 1`` more were given. A CRC-32 alone is done at once:
        it takes no longer than to hand the bytes over.
        """
        if self._sha256 is None:
            yield self.update
            return
        waiting: deque[Future[None]] = deque()

        def take(data: bytes | memoryview) -> None:
            waiting.append(pool.submit(self.update, data))
            if len(waiting) == behind:
                waiting.popleft().result()

        with ThreadPoolExecutor(1) as pool:
            yield take
            while waiting:
                waiting.popleft().result()

    @property
    def crc32(self) -> int:
        """The CRC-32 of what passed."""
        return self._crc32

    @property
    def sha256(self) -> str:
        """The SHA-256 of what passed, in hex; empty where none was wanted."""
        return self._sha256.hexdigest() if self._sha256 else ""

    def member(self, name: str) -> Member:
        """Return what passed, as a member; without a SHA-256 where none was wanted."""
        return Member(name, self._size, self.sha256, self.crc32)


def digest(source: Source, meter: Meter | None = None, *, sha256: bool = True) -> Member:
    """Read a file once, in bounded memory, for its size, CRC-32 and (unless told not to) SHA-256. Raises PackError."""
    digests, meter = Digests(sha256=sha256), meter or Meter()
    chunk = CHUNK if sha256 else _LARGE_CHUNK
    # Of the system, which gets it back: of a bytearray that large glibc would keep as much for what comes later
    # (M_MMAP_THRESHOLD in mallopt(3)), 16 MB more at the peak of an upload.
    buffer = memoryview(mmap(-1, max(1, min(chunk, source.size))))
    with source.open() as descriptor:
        for offset in range(0, source.size, chunk):
            data = buffer[: source.size - offset]
            source.read_into(descriptor, offset, data)
            digests.update(data)
            meter.add(len(data))
    return digests.member(source.name)


def unread(source: Source) -> Member:
    """Return a file as a member whose checksums are not known yet."""
    return Member(source.name, source.size, "", 0)
