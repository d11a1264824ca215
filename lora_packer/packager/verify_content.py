"""What an archive's members hold, read forwards only, and held against what was packed."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from lora_packer.packager.archive import Member
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.meter import Meter

_CHUNK = 1 << 18


class Mismatch(Exception):  # noqa: N818 - never leaves the packager
    """What is not as planned, as the end of a sentence."""


def require(condition: bool, otherwise: str) -> None:
    """Raise Mismatch with ``otherwise``, the end of a sentence, unless the condition holds."""
    if not condition:
        raise Mismatch(otherwise)


def read_pieces(file: BinaryIO, size: int | None = None) -> Generator[bytes]:
    """Read ``size`` bytes from where the file is, or all that is left."""
    while size is None or size > 0:
        data = file.read(_CHUNK if size is None else min(_CHUNK, size))
        if not data:
            return
        yield data
        if size is not None:
            size -= len(data)


class Stream:
    """Pieces of content as a file, forwards only; no more of them are taken than are asked for.

    tarfile asks for no more than it needs, so what follows the tar's end is seen here.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        taken = []
        while size > 0 and (piece := self.read1(size)):
            taken.append(piece)
            size -= len(piece)
        return b"".join(taken)

    def read1(self, size: int) -> memoryview:
        """Return what is left of a piece, ``size`` bytes at most; nothing at the end. It is not copied."""
        if not self._piece:
            self._piece = self._take()
        piece, self._piece = self._piece[:size], self._piece[size:]
        self._position += len(piece)
        return piece

    def _take(self) -> memoryview:
        return memoryview(next((piece for piece in self._pieces if piece), b""))

    def tell(self) -> int:
        """Return how many bytes of the content were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip forwards to ``position``."""
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        require(self._position == position, "its members are not in order")


class SummedStream(Stream):
    """A stream that knows the CRC-32 of the pieces which were taken from it so far, ``crc32``."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(pieces)
        self._update_crc32 = fastest_crc32()
        self.crc32 = 0

    def _take(self) -> memoryview:
        piece = super()._take()
        self.crc32 = self._update_crc32(piece, self.crc32)
        return piece


def verify_content(content: Stream, member: Member, meter: Meter, *, hashed: bool = True) -> None:
    """Compare the size, the CRC-32 and, where ``hashed``, the SHA-256, made of one piece while the next is read.

    Of compressed content it is not made: it would cost as much as a third of the inflating, and the CRC-32 is what
    whoever unpacks it relies on.
    """
    sha256, crc32, left = hashlib.sha256(), 0, member.size
    update_crc32 = fastest_crc32()
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[None] | None = None
        while left > 0 and (data := content.read1(left)):
            if waiting is not None:
                waiting.result()
            if hashed:
                waiting = pool.submit(sha256.update, data)
            crc32 = update_crc32(data, crc32)
            left -= len(data)
            meter.add(len(data))
    is_equal = (left, crc32) == (0, member.crc32) and (not hashed or sha256.hexdigest() == member.sha256)
    require(is_equal, f"{member.name} is not the file that was read (SHA-256 {member.sha256})")
