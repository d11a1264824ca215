"""What is sent: an archive's bytes, in a file or only planned, and what they are by their digests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

from lora_packer.errors import PublishError
from lora_packer.packager.digest import Digests
from lora_packer.packager.meter import Meter

# Large, because the threads that read and hash and those that run Python take turns at each.
_CHUNK = 4 << 20
_BUFFERS = 4


class Content(Protocol):
    """Bytes that can be read in any range, at any time, from any thread: a planned archive, or a file's."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def known_crc32(self) -> int | None:
        """The CRC-32 of all of it, where that is known from an earlier reading."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError where they changed."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``. Raises PackError likewise."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What bytes are: their SHA-256, in hex, and their CRC-32."""

    sha256: str
    crc32: int


def fingerprint(content: Content, meter: Meter | None = None) -> Fingerprint:
    """Read the content once, in bounded memory.

    Raises:
        PackError: it cannot be read, or changed.
        PublishError: it is not what was read before.
    """
    meter, digests = meter or Meter(), Digests()
    buffers = cycle([memoryview(bytearray(min(_CHUNK, content.size))) for _ in range(_BUFFERS)])
    with digests.aside(_BUFFERS) as take:
        for offset in range(0, content.size, _CHUNK):
            data = next(buffers)[: content.size - offset]
            content.read_into(offset, data)
            take(data)
            meter.add(len(data))
    if content.known_crc32 not in (None, digests.crc32):
        raise changed_error()
    return Fingerprint(digests.sha256, digests.crc32)


def changed_error() -> PublishError:
    """Return the error for bytes that are not those that were read before."""
    return PublishError(
        "The archive's bytes are not those that were checked: its files changed meanwhile.",
        hint="Wait until whatever writes them is done, and run it again.",
    )
