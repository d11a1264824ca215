"""Files that have no name until they are whole: whoever is killed while it writes one leaves nothing.

Linux makes them (O_TMPFILE in open(2)), on most file systems. Such a file is on the disk of its folder, is freed when
the last process that has it open ends, and gets its name when that is asked for.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

from lora_packer.portable import read_at, set_mode

# What says that there are none here: the file system has none, or the kernel or the layer above it knows none.
_NONE_HERE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
# What says that such a file gets no name: a layer of file systems, a sandbox or a rule of the system's against links.
_NO_NAME = _NONE_HERE | {errno.EPERM, errno.EACCES, errno.ENOENT, errno.EXDEV, errno.ELOOP}
_PIECE = 1 << 20


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


def name_or_copy(descriptor: int, path: Path) -> None:
    """Give a file its name, or where the system refuses that, copy it to a new file of that name. Raises OSError."""
    try:
        give_name(descriptor, path)
    except OSError as error:
        if not is_refused(error):
            raise
        _copy(descriptor, path)


def is_refused(error: OSError) -> bool:
    """Whether a file could not get a name because the system gives such files none, as some layers above Linux do."""
    return error.errno in _NO_NAME


def _copy(descriptor: int, path: Path) -> None:
    mode = os.fstat(descriptor).st_mode & 0o777
    with io.FileIO(path, "x") as target:
        try:
            set_mode(target.fileno(), mode)
            at = 0
            while data := read_at(descriptor, _PIECE, at):
                at += len(data)
                while data:
                    data = data[target.write(data) or 0 :]
            os.fsync(target.fileno())
        except BaseException:
            path.unlink()
            raise


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
