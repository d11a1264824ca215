"""Adapters inside finished archives: nothing is extracted, and an archive that is not safe is refused.

Members of a ``.zip`` that are stored are read in place; compressed ones, and those of a ``.tar.gz``, through a
temporary file without a name.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from lora_packer.adapter.archive_safety import (
    MAX_MEMBERS,
    bare,
    check_names,
    check_sizes,
    check_tar_member,
    check_zip,
    check_zip_end,
    refuse,
)
from lora_packer.errors import InputError
from lora_packer.redact import escape

# What the readers raise over a file that is not what it should be.
_READER_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    ValueError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
# What reading a member may still meet, once the archive is open.
_CONTENT_ERRORS = (EOFError, OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
# No read of one piece is longer; a tar's extended header, which is read whole, has a few hundred bytes.
_MAX_READ = 4 << 20
# What may follow a tar's end: zeros up to a full record, which `tar --blocking-factor` makes longer.
_MAX_PADDING = 1 << 20


class ZipSource:
    """An adapter in a ``.zip``."""

    remote = False

    def __init__(self, archive: Path, opened: zipfile.ZipFile) -> None:
        self._archive = archive
        self._zip = opened

    @property
    def name(self) -> str:
        """The archive's path."""
        return str(self._archive)

    def files(self) -> tuple[str, ...]:
        """Return the members' names."""
        return tuple(bare(name) for name in self._zip.namelist() if not name.endswith("/"))

    def _member(self, name: str) -> zipfile.ZipInfo:
        for info in self._zip.infolist():
            if bare(info.filename) == name:
                return info
        raise InputError(f"there is no {name!r} in {self.name!r}.")

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
        except _READER_ERRORS as error:
            raise InputError(f"{name!r} in {self.name!r} cannot be read: {escape(str(error))}.") from None


class TarSource:
    """An adapter in a ``.tar.gz``."""

    remote = False

    def __init__(self, archive: Path, opened: tarfile.TarFile) -> None:
        self._archive = archive
        self._tar = opened
        self._members: dict[str, tarfile.TarInfo] = {}
        names, total, packed = [], 0, archive.stat().st_size
        # Each header is judged before what it announces is inflated.
        while (member := opened.next()) is not None:
            check_tar_member(self.name, member)
            names.append(member.name)
            total += member.size
            check_sizes(self.name, total, packed)
            if len(names) > MAX_MEMBERS:
                raise refuse(self.name, f"it has more than {MAX_MEMBERS:,} members")
            if member.isreg():
                self._members[bare(member.name)] = member
        check_names(self.name, names)

    @property
    def name(self) -> str:
        """The archive's path."""
        return str(self._archive)

    def files(self) -> tuple[str, ...]:
        """Return the names of the regular files."""
        return tuple(self._members)

    def _member(self, name: str) -> tarfile.TarInfo:
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
        except _READER_ERRORS as error:
            raise InputError(f"{name!r} in {self.name!r} cannot be read: {escape(str(error))}.") from None


def _buffered(stream: object) -> BinaryIO:
    return io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]


def _spooled(stream: object, size: int) -> BinaryIO:
    """Copy at most ``size`` bytes into a temporary file (in memory while small) and return it at its start."""
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=64 << 20))
        left = size
        while left > 0:
            chunk = stream.read(min(1 << 20, left))  # type: ignore[attr-defined]
            if not chunk:
                raise EOFError(f"it ends {left:,} bytes early")
            file.write(chunk)
            left -= len(chunk)
        file.seek(0)
        stack.pop_all()  # from here on the caller closes it
        return cast(BinaryIO, file)


class _Limited:
    """A tar that refuses to read much at once: what a header announces is not believed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        if not 0 <= size <= _MAX_READ:
            raise ValueError(f"a header announces {size:,} bytes; expected at most {_MAX_READ:,}")
        self._last = self._file.read(size)
        return self._last

    def seek(self, position: int) -> int:
        """Go to ``position``."""
        return self._file.seek(position)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def check_end(self, archive: str) -> None:
        """Require that nothing but zeros stands where tarfile saw the end. Raises InputError.

        tarfile takes a broken header for the end. What follows the gzip stream is refused by its reader.
        """
        rest = self._last + self._file.read(_MAX_PADDING)
        if rest.strip(b"\0") or len(rest) >= _MAX_PADDING:
            raise refuse(archive, "there are bytes after its end")


@contextmanager
def open_archive(path: Path) -> Iterator[ZipSource | TarSource]:
    """Open a ``.zip`` or ``.tar.gz``, told apart by its first bytes. Raises InputError."""
    with ExitStack() as stack:
        try:
            source = _open(path, stack)
        except _READER_ERRORS as error:
            raise _unreadable(path, error) from None
        try:
            yield source
        except _CONTENT_ERRORS as error:
            raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"the archive {str(path)!r} cannot be read: {escape(str(error))}.")


def _open(path: Path, stack: ExitStack) -> ZipSource | TarSource:
    file = stack.enter_context(path.open("rb"))
    magic = file.read(2)
    file.seek(0)
    if magic == b"PK":
        check_zip_end(str(path), file)
        opened = stack.enter_context(zipfile.ZipFile(file))
        check_zip(str(path), file, opened)
        return ZipSource(path, opened)
    if magic == b"\x1f\x8b":
        limited = _Limited(cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file))))
        tar = stack.enter_context(tarfile.TarFile(fileobj=cast(IO[bytes], limited)))
        source = TarSource(path, tar)
        limited.check_end(source.name)
        return source
    raise InputError(
        f"{str(path)!r} is neither a folder nor a .zip or .tar.gz archive.",
        hint="Give the adapter's folder, not one of its files.",
    )
