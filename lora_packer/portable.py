"""What not every operating system has of ``os``, each with what stands in for it: Windows lacks most of this."""

from __future__ import annotations

import os
import threading

_CLOSED_IN_CHILDREN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_AS_BYTES = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

READ_REGULAR = os.O_RDONLY | _CLOSED_IN_CHILDREN | _AS_BYTES | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
"""How a file that is to be regular is opened: no link is followed, and a named pipe in its place is not waited for."""

CREATE_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOSED_IN_CHILDREN | _AS_BYTES | _NO_LINK
"""How a file is opened that must not be there yet."""

# Guards a descriptor's one position where there is no way to read without moving it.
_position = threading.Lock()


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Return at most ``length`` bytes at ``offset`` of an open file, whose position stays; any thread may ask.

    Raises OSError.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    with _position:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            return os.read(descriptor, length)
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer with bytes at ``offset`` of an open file, as far as they come; return how many. Raises OSError."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = read_at(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def set_mode(descriptor: int, mode: int) -> None:
    """Set an open file's permissions, where a descriptor is enough for that. Raises OSError."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def hold(descriptor: int) -> None:
    """Hold an open file until it is closed, or its process ends; where the system cannot, nobody holds it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return


def remove_unheld(path: str) -> None:
    """Remove a regular file that nobody holds. Raises OSError where it is held, or the system cannot tell."""
    try:
        import fcntl
    except ImportError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # noqa: PTH108 - it is text here
    finally:
        os.close(descriptor)
