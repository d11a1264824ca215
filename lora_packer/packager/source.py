"""A file to be packed, held to what it was when it was first looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_packer.errors import PackError
from lora_packer.files import FileState
from lora_packer.frozen import frozen
from lora_packer.portable import READ_REGULAR, read_at, read_into


@frozen
class Source:
    """A regular file, and the state by which a change to it is noticed.

    Attributes:
        name: the name it gets in the archive.
        path: where it is; its last part is no symbolic link.
        state: as it was when it was first looked at.
    """

    name: str
    path: Path
    state: FileState

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.state.size

    @classmethod
    def at(cls, path: Path, name: str | None = None) -> Source:
        """Look at ``path`` without opening it. Raises PackError unless it is a regular file."""
        name = name or path.name
        try:
            found = path.lstat()
        except OSError as error:
            raise _unreadable(name, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise PackError(
                f"{name} is {_kind(found.st_mode)}, not a regular file.", hint="Put the file itself in its place."
            )
        return cls(name, path, FileState.of(found))

    @contextmanager
    def open(self) -> Iterator[int]:
        """Open the file and give its descriptor; it is compared with these facts before and after its use.

        Raises PackError where the file cannot be opened or is no longer the one that was looked at.
        """
        try:
            descriptor = os.open(self.path, READ_REGULAR)
        except OSError as error:
            raise _unreadable(self.name, error) from error
        try:
            self._compare(os.fstat(descriptor))
            yield descriptor
            self._compare(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _compare(self, found: os.stat_result) -> None:
        if FileState.of(found) != self.state:
            raise self._changed()

    def read(self, descriptor: int, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``. Raises PackError where there are fewer."""
        pieces = []
        while length > 0:
            try:
                piece = read_at(descriptor, length, offset)
            except OSError as error:
                raise _unreadable(self.name, error) from error
            if not piece:
                raise self._changed()
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, descriptor: int, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes at ``offset``. Raises PackError where there are fewer."""
        while buffer:
            try:
                count = read_into(descriptor, buffer, offset)
            except OSError as error:
                raise _unreadable(self.name, error) from error
            if not count:
                raise self._changed()
            offset += count
            buffer = buffer[count:]

    def _changed(self) -> PackError:
        return PackError(
            f"{self.name} changed while it was being packed.",
            hint="Wait until whatever writes it is done, check the adapter again and pack it then.",
        )


def _unreadable(name: str, error: OSError) -> PackError:
    return PackError(
        f"{name} cannot be read: {error.strerror}.", hint="Make sure that it is there and that you may read it."
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
