"""Files that have no name until they are whole: whoever is killed while it writes one leaves nothing.

Linux makes them (O_TMPFILE in open(2)), on most file systems. Such a file is on the disk of its folder, is freed when
the last process that has it open ends, and gets its name when that is asked for.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# What says that there are none here: the file system has none, or the kernel or the layer above it knows none.
_NONE_HERE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})


def open_unnamed(folder: Path, mode: int) -> int | None:
    """Return the descriptor of a new file without a name; None where there is no such thing.

    It is open for reading and writing, and will have ``mode`` less the umask. Raises OSError.
    """
    kind: int = getattr(os, "O_TMPFILE", 0)
    if not kind:
        return None
    try:
        descriptor = os.open(folder, kind | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in _NONE_HERE:
            return None
        raise
    if path_of(descriptor).exists():
        return descriptor
    os.close(descriptor)  # without /proc it could get no name
    return None


def path_of(descriptor: int) -> Path:
    """Return a path under which this process can open a file that is open already."""
    return Path(f"/proc/self/fd/{descriptor}")


def give_name(descriptor: int, path: Path) -> None:
    """Give a file its name; what has that already is left alone. Raises OSError, FileExistsError among them."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Only linkat() follows the link that /proc has, and Python calls it where a folder is given (os_link_impl).
        os.link(path_of(descriptor), path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
