"""What a finished archive is: its members, what stayed behind, and its digest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_packer.frozen import frozen


@frozen
class Member:
    """One file in an archive.

    Attributes:
        name: its name at the archive's root.
        size: its length in bytes.
        sha256: the SHA-256 of its content, in hex; empty where nobody wanted it.
        crc32: the CRC-32 of its content (the one of zip and gzip).
    """

    name: str
    size: int
    sha256: str
    crc32: int


@frozen
class LeftOut:
    """An entry of the adapter's folder that was not packed, and why.

    Attributes:
        name: its name, escaped and clipped for display.
        reason: why it stayed behind, as a phrase.
    """

    name: str
    reason: str


@frozen
class Archive:
    """A finished archive, as it was read back.

    Attributes:
        path: where it is.
        format: ``zip`` or ``tar.gz``.
        size: its length in bytes.
        sha256: the SHA-256 of the whole file, in hex.
        members: what it holds, in its order.
        left_out: what stayed behind in the folder, by name.
    """

    path: Path
    format: str
    size: int
    sha256: str
    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the archive as the JSON output has it."""
        return {**asdict(self), "path": str(self.path)}
