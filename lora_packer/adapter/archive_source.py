"""Adapters inside finished archives: nothing is extracted.

Members of a ``.zip`` that are stored are read in place; compressed ones, and those of a ``.tar.gz``, through a
temporary file without a name.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from lora_packer.errors import InputError
from lora_packer.redact import escape

_MAX_LISTED = 10_000


class ZipSource:
    """An adapter in a ``.zip``."""

    def __init__(self, archive: Path, opened: zipfile.ZipFile) -> None:
        self._archive = archive
        self._zip = opened

    @property
    def name(self) -> str:
        """The archive's path."""
        return str(self._archive)

    def files(self) -> tuple[str, ...]:
        """Return the members' names."""
        return tuple(_bare(name) for name in self._zip.namelist()[:_MAX_LISTED] if not name.endswith("/"))

    def _member(self, name: str) -> zipfile.ZipInfo:
        found = [info for info in self._zip.infolist() if _bare(info.filename) == name]
        if not found:
            raise InputError(f"there is no {name!r} in {self.name!r}.")
        if len(found) > 1:
            raise InputError(f"{name!r} stands {len(found)} times in {self.name!r}; readers disagree which one counts.")
        if found[0].flag_bits & 0x1:
            raise InputError(f"{name!r} in {self.name!r} is encrypted.", hint="Pack the adapter without a password.")
        return found[0]

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        return self._member(name).file_size

    def path(self, name: str) -> None:  # noqa: ARG002 - the protocol has it
        """A member has no path of its own."""
        return

    def open(self, name: str) -> BinaryIO:
        """Open a member; one that is compressed is unpacked into a temporary file first."""
        member = self._member(name)
        try:
            stream = self._zip.open(member)
            return (
                _buffered(stream) if member.compress_type == zipfile.ZIP_STORED else _spooled(stream, member.file_size)
            )
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
            raise InputError(f"{name!r} in {self.name!r} cannot be read: {escape(str(error))}.") from None


class TarSource:
    """An adapter in a ``.tar.gz``."""

    def __init__(self, archive: Path, opened: tarfile.TarFile) -> None:
        self._archive = archive
        self._tar = opened
        self._members: dict[str, tarfile.TarInfo] = {}
        self._twice: set[str] = set()
        for member, _ in zip(opened, range(_MAX_LISTED), strict=False):
            if member.isreg():
                name = _bare(member.name)
                if name in self._members:
                    self._twice.add(name)
                self._members[name] = member

    @property
    def name(self) -> str:
        """The archive's path."""
        return str(self._archive)

    def files(self) -> tuple[str, ...]:
        """Return the names of the regular files."""
        return tuple(self._members)

    def _member(self, name: str) -> tarfile.TarInfo:
        if name in self._twice:
            raise InputError(f"{name!r} stands more than once in {self.name!r}; readers disagree which one counts.")
        if name not in self._members:
            raise InputError(f"there is no {name!r} in {self.name!r}.")
        return self._members[name]

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        return self._member(name).size

    def path(self, name: str) -> None:  # noqa: ARG002 - the protocol has it
        """A member has no path of its own."""
        return

    def open(self, name: str) -> BinaryIO:
        """Open a member through a temporary file: a gzip stream cannot be read at any offset."""
        member = self._member(name)
        try:
            stream = self._tar.extractfile(member)
            if stream is None:
                raise InputError(f"{name!r} in {self.name!r} is not a regular file.")
            return _spooled(stream, member.size)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{name!r} in {self.name!r} cannot be read: {escape(str(error))}.") from None


def _bare(name: str) -> str:
    """Return a member's name without the ``./`` that ``tar czf x.tar.gz .`` puts before it."""
    return name[2:] if name.startswith("./") else name


def _buffered(stream: object) -> BinaryIO:
    return io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]


def _spooled(stream: object, size: int) -> BinaryIO:
    """Copy at most ``size`` bytes into a temporary file (in memory while small) and return it at its start."""
    file = tempfile.SpooledTemporaryFile(max_size=64 << 20)  # noqa: SIM115 - the caller closes it
    left = size
    while left > 0:
        chunk = stream.read(min(1 << 20, left))  # type: ignore[attr-defined]
        if not chunk:
            break
        file.write(chunk)
        left -= len(chunk)
    file.seek(0)
    return cast(BinaryIO, file)


@contextmanager
def open_archive(path: Path) -> Iterator[ZipSource | TarSource]:
    """Open a ``.zip`` or ``.tar.gz``, told apart by its first bytes. Raises InputError."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start[:2] == b"PK":
            with zipfile.ZipFile(path) as opened:
                yield ZipSource(path, opened)
            return
        if start[:2] == b"\x1f\x8b":
            with tarfile.open(path, "r:gz") as tar:
                yield TarSource(path, tar)
            return
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"the archive {str(path)!r} cannot be read: {escape(str(error))}.") from None
    raise InputError(
        f"{str(path)!r} is neither a folder nor a .zip or .tar.gz archive.",
        hint="Give the adapter's folder, not one of its files.",
    )
