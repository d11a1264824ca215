"""The only way a file is written: whole, durable, and in nothing's place but a regular file's.

A reader sees the old file or the new one, never a half, and a kill or a power failure leaves one of the two: what is
being written has no name yet, where the system has such files, else a hidden one that the next run removes. Devices
and named pipes are no place for a new file: what stands for a stream is written into, and nothing else is touched.
``-`` stands for standard output, as it does elsewhere.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from lora_packer.frozen import frozen
from lora_packer.portable import CREATE_NEW, hold, remove_unheld, set_mode
from lora_packer.unnamed import give_name, is_refused, name_or_copy, open_unnamed, path_of

STDOUT = 1  # its descriptor
_STANDARD_STREAM = "-"
_PRIVATE = 0o600
# What a file that names the right place may still run into: no room, a broken disk, a reader that has gone.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})
_TEMPORARY = re.compile(r"\.lora-packer-[0-9a-f]{16}\.tmp")
_MOST_ENTRIES = 100_000  # of a folder that are looked at
_MOST_LINKS = 40  # as many as Linux follows (path_resolution(7))
# The folders whose entries are this process's open descriptors (proc(5), fd(4)).
_DESCRIPTORS = re.compile(rf"/dev/fd|/proc/(?:self|thread-self|{os.getpid()})(?:/task/\d+)?/fd")


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Write ``text`` (UTF-8) under ``path``, whole and durably; a link to a regular file is followed.

    A character device, a named pipe, and what names an open descriptor (``/dev/null``, ``/dev/stdout``, ``-``) are
    written into and stay what they are. ``private`` leaves a regular file readable by its owner only (mode 0600).

    Raises OSError, with the old file in its place and nothing left behind.
    """
    data = text.encode()
    if not is_stream(path):
        with new_file(path, mode=_PRIVATE if private else 0o666) as file:
            _write_all(file.fileno(), data)
        return
    with open_stream(path) as stream:
        _write_all(stream.fileno(), data)


def append_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) behind what a regular file has already; where there is none it is made. Raises OSError."""
    require_regular(path)
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123 - unbuffered, so that it is there as a whole
        _write_all(file.fileno(), text.encode())


def names_stdout(path: Path) -> bool:
    """Whether a path is a name of standard output: ``-``, ``/dev/stdout``, ``/proc/self/fd/1`` or a link to those."""
    return _descriptor_named(path) == STDOUT


def is_stream(path: Path) -> bool:
    """Whether a path stands for a stream, to be written into: a device, a named pipe, or an open descriptor."""
    if _descriptor_named(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


@contextmanager
def open_stream(path: Path) -> Iterator[io.FileIO]:
    """Open what stands for a stream, to write into it; a named pipe waits for its reader. Raises OSError."""
    number = _descriptor_named(path)
    descriptor = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
    with io.FileIO(descriptor, "w") as stream:
        yield stream


def is_no_room(error: OSError) -> bool:
    """Whether a place was right and took nothing more: no verdict on what was given, unlike a place that is wrong."""
    return error.errno in _NO_ROOM


@contextmanager
def new_file(path: Path, *, mode: int = 0o666) -> Iterator[io.FileIO]:
    """Give a file for ``path``; it takes that name when the block ends, or is gone when it fails.

    Until then it has no name, or where the system has no such files a hidden one beside ``path``; its ``name`` is a
    path at which this process can read it. Only the owner can; afterwards it has ``mode`` less the umask. A link is
    followed to what it names. Raises OSError, also where ``path`` is there and no regular file.
    """
    target = Path(os.path.realpath(path))
    require_regular(target)
    _remove_left_behind(target.parent)
    unnamed = open_unnamed(target.parent, mode)
    temporary, descriptor = _made_beside(target, mode) if unnamed is None else (path_of(unnamed), unnamed)
    try:
        with io.FileIO(temporary, "r+", opener=lambda *_: descriptor) as file:
            final = stat.S_IMODE(os.fstat(descriptor).st_mode)
            set_mode(descriptor, _PRIVATE)
            yield file
            set_mode(descriptor, final)
            os.fsync(descriptor)
            if unnamed is not None:
                _give_name(unnamed, target)
            elif os.name != "nt":  # there no open file can be moved
                temporary.replace(target)
        if os.name == "nt":
            temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        if unnamed is None:
            temporary.unlink(missing_ok=True)


def _give_name(descriptor: int, target: Path) -> None:
    """Give a file that has none the name of ``target``; a file that has it already gives way."""
    if not os.path.lexists(target):
        try:
            give_name(descriptor, target)
        except OSError as error:
            if not (isinstance(error, FileExistsError) or is_refused(error)):
                raise
        else:
            return
    hold(descriptor)  # no other run takes it for one that was left
    temporary = _beside(target)
    try:
        name_or_copy(descriptor, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _made_beside(target: Path, mode: int) -> tuple[Path, int]:
    """Make a file beside ``target`` that is held while it is open, and return its path and descriptor."""
    while True:
        temporary = _beside(target)
        # The kernel takes the umask off the mode: to ask for the umask would be to change it for every thread.
        descriptor = os.open(temporary, CREATE_NEW, mode)
        hold(descriptor)
        if os.name == "nt" or os.fstat(descriptor).st_nlink:  # else another run removed it before it was held
            return temporary, descriptor
        os.close(descriptor)


def _beside(target: Path) -> Path:
    return target.with_name(f".lora-packer-{os.urandom(8).hex()}.tmp")


def _remove_left_behind(folder: Path) -> None:
    """Remove the temporary files of runs that were killed: those that nobody holds."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, _MOST_ENTRIES):
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    remove_unheld(entry.path)


def read_whole(path: Path, most: int) -> bytes:
    """Return what is in a regular file. Raises OSError where it is none, and ValueError where it has more bytes.

    What is no regular file is opened, but never waited for, nor read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileExistsError(errno.EEXIST, "It is no regular file", str(path))
        data = file.read(most + 1) or b""  # None: a file of the kernel that would have to be waited for
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data


def require_regular(path: Path) -> None:
    """Raise OSError where there is something at ``path``, or where its links lead, that is no regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "It is there and no regular file", str(path))


@frozen
class FileState:
    """What ``stat`` says of a file: where it says something else, the file is another or has changed.

    Attributes:
        device, inode: which file it is.
        size: its length in bytes.
        mtime_ns: when it was last written to, in nanoseconds.
        changed_ns: when anything about it last changed, in nanoseconds; unlike the other time, nobody can set it back.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """Return the state that ``stat`` found."""
        # On Windows this is the time when it was made (https://docs.python.org/3/library/os.html#os.stat_result.st_ctime).
        changed = 0 if os.name == "nt" else found.st_ctime_ns
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed)


def is_folder(path: Path) -> bool:
    """Whether there is a folder. What cannot be a path at all (too long, a NUL in it) is none, and no error."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether there is a regular file; see ``is_folder``."""
    return stat.S_ISREG(_mode(path))


def exists(path: Path) -> bool:
    """Whether there is anything; see ``is_folder``."""
    return _mode(path) != 0


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # pathlib's own questions raise over a name that is too long
        return 0


def followed(path: Path) -> Path:
    """Return where a path leads, links followed; the path itself, absolute, where that cannot be seen.

    A link may go round in a circle, or be put there or taken away at this very moment: whoever opens it is told. Raises
    FileNotFoundError for a relative path where the working folder is gone.
    """
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() raises what was just caught


def _descriptor_named(path: Path) -> int | None:
    """Return the descriptor of this process that ``path`` is a name of, such as ``/dev/stdout`` or ``-``.

    What it is open on may be a regular file: another file in that one's place would not be what was asked for.
    """
    if str(path) == _STANDARD_STREAM:
        return STDOUT
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if _DESCRIPTORS.fullmatch(folder):
            return int(path.name) if path.name.isascii() and path.name.isdigit() else None
        try:
            path = Path(folder, path.readlink())
        except (OSError, ValueError):  # it is no link, or no path at all
            return None
    return None


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the name durable too; not every system can, and the file is complete either way."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
