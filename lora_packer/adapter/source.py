"""Where an adapter can be read from: a folder, or a finished archive.

Nothing is extracted: members of a ``.zip`` are read in place, those of a ``.tar.gz`` through a temporary file without a
name. Only regular files are opened, so that a FIFO cannot block and a device is not read.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from lora_packer.errors import InputError
from lora_packer.redact import escape

_MAX_LISTED = 10_000


class AdapterSource(Protocol):
    """Named regular files, readable at any offset."""

    @property
    def name(self) -> str:
        """What to call the source in messages."""

    def files(self) -> tuple[str, ...]:
        """Return the names of the files at the root and one folder below, in order."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises InputError where it is not a regular file."""

    def path(self, name: str) -> Path | None:
        """Return the path of a file on the local disk, or None where it is inside an archive."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any offset. Raises InputError."""


class FolderSource:
    """An adapter in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self._folder)

    def files(self) -> tuple[str, ...]:
        """Return the entries of the folder, and of its sub-folders one level down."""
        names: list[str] = []
        try:
            for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    with os.scandir(entry.path) as below:
                        names += sorted(
                            f"{entry.name}/{item.name}" for item, _ in zip(below, range(1000), strict=False)
                        )
                if len(names) > _MAX_LISTED:
                    break
        except OSError as error:
            raise InputError(f"the folder {self.name!r} cannot be read: {error.strerror}.") from None
        return tuple(names)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        with self.open(name) as file:
            return os.fstat(file.fileno()).st_size

    def path(self, name: str) -> Path:
        """Return the file's path."""
        return self._folder / name

    def open(self, name: str) -> BinaryIO:
        """Open a regular file; anything else is refused without being opened for long."""
        path = self._folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{str(path)!r} is not a regular file.", hint="Put the file itself into the folder.")
        return os.fdopen(descriptor, "rb")


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
def open_source(adapter: str | Path) -> Iterator[AdapterSource]:
    """Open a folder or an archive. Raises InputError where there is nothing to read."""
    path = Path(adapter)
    if path.is_dir():
        yield FolderSource(path)
        return
    if not path.exists():
        hint = "Give the folder that holds adapter_config.json and adapter_model.safetensors."
        raise InputError(f"there is no folder or archive {str(path)!r}.", hint=hint)
    if not path.is_file():
        raise InputError(f"{str(path)!r} is neither a folder nor a file.")
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
