"""What packing needs to know of the files that are checked: so that it need not read them again, nor take others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from lora_packer.files import FileState
from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME
from lora_packer.packager.digest import CheckedFile, Digests

# How many buffers are read into by turns: so many chunks the checksums may be behind.
BUFFERS = 4


class Files(Protocol):
    """Where the files of an adapter are."""

    def path(self, name: str) -> Path | None:
        """Return where a file lies, or None where it is no file of its own."""


class HashingReader:
    """A file whose bytes are given on as they are read, for their checksums."""

    def __init__(self, file: BinaryIO, take: Callable[[memoryview], None]) -> None:
        self._file = file
        self._take = take

    def seek(self, offset: int) -> int:
        """Go to an offset."""
        return self._file.seek(offset)

    def readinto(self, buffer: memoryview) -> int:
        """Read into the buffer, which has to stay as it is until the bytes were used."""
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._take(buffer[:count])
        return count


class CheckedFiles:
    """The two files of an adapter as a check reads them; to be made before it does.

    The states are those from before the reading. Whoever packs compares them with what he finds, so a change at any
    time in between is noticed. Files inside an archive have none.

    Args:
        source: where they are.
        sha256: whether their SHA-256 are wanted too.
    """

    def __init__(self, source: Files, *, sha256: bool) -> None:
        self._sha256 = sha256
        self._states: dict[str, FileState] = {}
        for name in REQUIRED:
            path = source.path(name)
            try:
                if path is not None:
                    self._states[name] = FileState.of(path.stat())
            except OSError:
                continue  # that it is not there is a finding of the check
        # None where nobody can pack them.
        self._weights = Digests(sha256=sha256) if self._states.keys() == set(REQUIRED) else None

    @contextmanager
    def reading(self, weights: BinaryIO) -> Iterator[tuple[BinaryIO | HashingReader, int]]:
        """Give what the weights are to be read from, and how many buffers to use by turns, from beginning to end."""
        if self._weights is None:
            yield weights, 1
            return
        with self._weights.aside(BUFFERS) as take:
            yield HashingReader(weights, take), BUFFERS

    def files(self, config_bytes: bytes) -> dict[str, CheckedFile]:
        """Return the files by name, if both were there and read whole; else nothing.

        ``config_bytes``: the config, as it was read and judged: to read it again could give another.
        """
        if self._weights is None:
            return {}
        config = Digests(sha256=self._sha256)
        config.update(config_bytes)
        members = (config.member(CONFIG_NAME), self._weights.member(WEIGHTS_NAME))
        if any(member.size != self._states[member.name].size for member in members):
            return {}
        return {member.name: CheckedFile(self._states[member.name], member) for member in members}
