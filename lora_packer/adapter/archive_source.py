"""Adapters inside finished archives: nothing is extracted, and an archive that is not safe is refused.

Members of a ``.zip`` that are stored are read in place; compressed ones, and those of a ``.tar.gz``, through a
temporary file without a name.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from lora_packer.adapter.archive_safety import (
    MAX_MEMBERS,
    bare,
    check_names,
    check_sizes,
    check_zip,
    check_zip_end,
    data_start,
    refuse,
)
from lora_packer.adapter.gzip_stream import GzipStream
from lora_packer.adapter.tar_headers import Counted, DamagedTarError, Member, TarError, members
from lora_packer.errors import InputError
from lora_packer.misplaced import Holder
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
    zipfile.BadZipFile,
    zlib.error,
)
# What reading a member may still meet, once the archive is open.
_CONTENT_ERRORS = (EOFError, OSError, zipfile.BadZipFile, zlib.error)
_PIECE = 1 << 20
_REMOTE_BUFFER = 1 << 12


class ZipSource:
    """An adapter in a ``.zip``."""

    holder: Holder = "archive"

    def __init__(self, name: str, file: BinaryIO, opened: zipfile.ZipFile, remote: bool = False) -> None:
        self._name = name
        self._file = file
        self._zip = opened
        self.remote = remote

    @property
    def name(self) -> str:
        """The archive's path, or what to call it."""
        return self._name

    def files(self) -> tuple[str, ...]:
        """Return the members' names."""
        return tuple(bare(name) for name in self._zip.namelist() if not name.endswith("/"))

    def _member(self, name: str) -> zipfile.ZipInfo:
        for info in self._zip.infolist():
            if bare(info.filename) == name:
                return info
        raise InputError(f"there is no '{escape(name)}' in '{escape(self.name)}'.")

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
            if self.remote:  # only its beginning is read, so only that is fetched
                return _buffered(self._zip.open(member), _REMOTE_BUFFER)
            if member.compress_type == zipfile.ZIP_STORED:
                return _buffered(self._zip.open(member), _PIECE)
            return _inflated(self._file, member)
        except _READER_ERRORS as error:
            raise InputError(
                f"'{escape(name)}' in '{escape(self.name)}' cannot be read: {escape(str(error))}."
            ) from None


class TarSource:
    """An adapter in a ``.tar.gz``."""

    remote = False
    holder: Holder = "archive"

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._sizes: dict[str, int] = {}
        names, total, packed = [], 0, file.seek(0, 2)
        # Each header is judged before what it announces is inflated.
        for member, _ in self._members():
            names.append(member.name)
            total += member.size
            check_sizes(self.name, total, packed)
            if len(names) > MAX_MEMBERS:
                raise refuse(self.name, f"it has more than {MAX_MEMBERS:,} members")
            if member.is_file:
                self._sizes[bare(member.name)] = member.size
        check_names(self.name, names)

    def _members(self) -> Iterator[tuple[Member, Counted]]:
        self._file.seek(0)
        stream = Counted(GzipStream(self._file))
        try:
            for member in members(stream):
                yield member, stream
            if stream.read(1):
                raise TarError("there are bytes after its end")
        except DamagedTarError:
            raise
        except TarError as error:
            raise refuse(self.name, str(error), "Pack the files themselves with `lora-packer pack`.") from None

    @property
    def name(self) -> str:
        """The archive's path, or what to call it."""
        return self._name

    def files(self) -> tuple[str, ...]:
        """Return the names of the regular files."""
        return tuple(self._sizes)

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        if name not in self._sizes:
            raise InputError(f"there is no '{escape(name)}' in '{escape(self.name)}'.")
        return self._sizes[name]

    def path(self, name: str) -> None:  # noqa: ARG002 - the protocol has it
        """A member has no path of its own."""
        return

    def open(self, name: str) -> BinaryIO:
        """Open a member through a temporary file: a gzip stream cannot be read at any offset."""
        size = self.size(name)
        try:
            for member, stream in self._members():
                if member.is_file and bare(member.name) == name:
                    return _spooled(stream, size)
        except _READER_ERRORS as error:
            raise InputError(
                f"'{escape(name)}' in '{escape(self.name)}' cannot be read: {escape(str(error))}."
            ) from None
        raise InputError(f"'{escape(self.name)}' was changed while it was read.", hint="Run the command again.")


def _buffered(stream: object, size: int) -> BinaryIO:
    return io.BufferedReader(stream, size)  # type: ignore[type-var]


def _inflated(file: BinaryIO, member: zipfile.ZipInfo) -> BinaryIO:
    """Unpack a member into a temporary file. Raises ValueError where it is not exactly what its header says.

    ``zipfile`` stops at the size that the header states, and others go on: the data have to end there.
    """
    file.seek(data_start(file, member))
    inflater, crc, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, member.compress_size
    with ExitStack() as stack:
        result = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=64 << 20))
        pending = b""
        while not inflater.eof:
            if not pending:
                pending = file.read(min(_PIECE, left))
                left -= len(pending)
                if not pending:
                    raise EOFError("its data end early")
            content = inflater.decompress(pending, _PIECE)
            pending = inflater.unconsumed_tail
            crc = zlib.crc32(content, crc)
            result.write(content)
            if result.tell() > member.file_size:
                break
        if result.tell() != member.file_size or left or inflater.unused_data:
            raise ValueError("its data have another length than its header says")
        if crc != member.CRC:
            raise ValueError("the checksum of its data does not hold: the file is damaged")
        result.seek(0)
        stack.pop_all()  # from here on the caller closes it
        return cast(BinaryIO, result)


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


@contextmanager
def open_archive(path: Path) -> Iterator[ZipSource | TarSource]:
    """Open a ``.zip`` or ``.tar.gz``, told apart by its first bytes. Raises InputError."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise _unreadable(str(path), error) from None
        yield stack.enter_context(read_archive(str(path), file))


@contextmanager
def read_archive(name: str, file: BinaryIO, *, remote: bool = False) -> Iterator[ZipSource | TarSource]:
    """Read a ``.zip`` or ``.tar.gz`` that is open already; ``remote``: as little of it as is needed (a zip alone).

    Raises InputError.
    """
    with ExitStack() as stack:
        try:
            source = _open(name, file, stack, remote)
        except _READER_ERRORS as error:
            raise _unreadable(name, error) from None
        try:
            yield source
        except _CONTENT_ERRORS as error:
            raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"the archive '{escape(name)}' cannot be read: {escape(str(error))}.")


def _open(name: str, file: BinaryIO, stack: ExitStack, remote: bool) -> ZipSource | TarSource:
    file.seek(0)
    magic = file.read(2)
    file.seek(0)
    if magic == b"PK":
        _check_suffix(name, "a zip", (".gz", ".tgz", ".tar"))
        check_zip_end(name, file)
        opened = stack.enter_context(zipfile.ZipFile(file))
        check_zip(name, file, opened)
        return ZipSource(name, file, opened, remote)
    if magic == b"\x1f\x8b":
        _check_suffix(name, "a tar.gz", (".zip",))
        return TarSource(name, file)
    raise InputError(
        f"'{escape(name)}' is neither a folder nor a .zip or .tar.gz archive.",
        hint="Give the adapter's folder, not one of its files.",
    )


def _check_suffix(name: str, content: str, others: tuple[str, ...]) -> None:
    """Refuse an archive with the other kind's name: who unpacks it by its name cannot. Raises InputError."""
    if name.lower().endswith(others):
        raise refuse(name, f"it is {content}, and its name says something else", "Give it the name of what it is.")
