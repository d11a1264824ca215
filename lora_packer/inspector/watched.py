"""How far the reading of the values is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lora_packer.inspector.subject import Reading
from lora_packer.inspector.values import Reader


class _Watched:
    """A file whose bytes are counted as they are read."""

    def __init__(self, file: BinaryIO | Reader, tell: Callable[[int], None]) -> None:
        self._file, self._tell, self._done = file, tell, 0

    def seek(self, offset: int) -> int:
        """Go to an offset."""
        return self._file.seek(offset)

    def readinto(self, buffer: memoryview) -> int:
        """Read into the buffer, and tell."""
        count: int = self._file.readinto(buffer)  # type: ignore[union-attr, assignment]
        self._done += count
        self._tell(self._done)
        return count


def watched(reading: Reading, progress: Callable[[int, int], None], size: int) -> Reading:
    """Return a reading that tells (bytes read, ``size``); the last call has both equal."""

    @contextmanager
    def told(file: BinaryIO) -> Iterator[tuple[BinaryIO | Reader, int]]:
        with reading(file) as (reader, buffers):
            progress(0, size)
            yield _Watched(reader, lambda done: progress(min(done, size - 1), size)), buffers
            progress(size, size)

    return told
