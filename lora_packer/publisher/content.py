"""What is sent: an archive's bytes, in a file or only planned, and what they are by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.meter import Meter

# Large, because the threads that hash and those that run Python take turns at each.
_CHUNK = 4 << 20


class Content(Protocol):
    """Bytes that can be read in any range, at any time, from any thread: a planned archive, or a file's."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError where they changed."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``. Raises PackError likewise."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What bytes are: their SHA-256, in hex, and their CRC-32."""

    sha256: str
    crc32: int


Read = Callable[[Content, Meter], Fingerprint]
"""Returns a content's digests; ``fingerprint`` is one."""


def fingerprint(content: Content, meter: Meter | None = None) -> Fingerprint:
    """Read the content once, in bounded memory. Raises PackError where it cannot be read or changed."""
    meter = meter or Meter()
    sha256, crc32, update = hashlib.sha256(), 0, fastest_crc32()
    buffer = memoryview(bytearray(min(_CHUNK, content.size)))
    for offset in range(0, content.size, _CHUNK):
        data = buffer[: content.size - offset]
        content.read_into(offset, data)
        sha256.update(data)
        crc32 = update(data, crc32)
        meter.add(len(data))
    return Fingerprint(sha256.hexdigest(), crc32)
