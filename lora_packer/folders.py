"""A new folder with files in it: there as a whole, or not at all.

The files are written into a folder beside the place, which takes the place's name when all of them are there. Whoever
is killed meanwhile leaves that folder; the next run for the same place removes it, because nobody holds it any more.
As with ``cp``, the system writes to the disk when it likes: what it was made from is still there after a power failure.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.redact import escape

_MARK = ".lora-packer-"


def require_new(path: Path, option: str) -> None:
    """Raise InputError where a new folder cannot take this name: something is there, or there is no place for it."""
    shown = escape(str(path))
    other = f"Choose another {option}."
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"'{shown}' is there already, and no folder.", hint=other)
        if path.is_dir() and any(path.iterdir()):
            raise InputError(
                f"the folder '{shown}' is there already and not empty; nothing is written over.", hint=other
            )
        parent = _parent(path)
        if not parent.is_dir():
            raise InputError(f"there is no folder '{escape(str(parent))}' for '{path.name}' to be in.", hint=other)
        if not os.access(parent, os.W_OK):
            raise InputError(f"the folder '{escape(str(parent))}' may not be written to.", hint=other)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"'{shown}' cannot be a new folder: {reason}.", hint=other) from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside ``path``; it takes that name when the block ends, or is removed when it fails.

    Raises OSError.
    """
    place = Path(os.path.realpath(_parent(path)), path.name)
    _remove_left(place)
    temporary = place.with_name(f".{path.name}{_MARK}{secrets.token_hex(8)}.tmp")
    temporary.mkdir(mode=0o700)
    held = _hold(temporary)
    try:
        yield temporary
        _take_mode(temporary)
        temporary.rename(place)  # an empty folder gives way
    finally:
        if held is not None:
            os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def _parent(path: Path) -> Path:
    return path.parent if path.name else path


def _remove_left(place: Path) -> None:
    """Remove what runs for the same place left that were killed; a folder that a run holds stays."""
    for left in place.parent.glob(f".{_escaped(place.name)}{_MARK}*.tmp"):
        held = _hold(left)
        if held is not None:
            os.close(held)
            shutil.rmtree(left, ignore_errors=True)


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "[]*?" else character for character in name)


def _hold(folder: Path) -> int | None:
    """Hold a folder for as long as this process lives; None where another one does, or nobody can."""
    try:
        import fcntl
    except ImportError:  # Windows: what is left stays
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOTSUP, errno.ENOLCK):
            raise
        return None
    return descriptor


def _take_mode(folder: Path) -> None:
    """Give the folder the permissions of one that was made plainly."""
    probe = folder / "mode"
    probe.mkdir()
    mode = probe.stat().st_mode & 0o777
    probe.rmdir()
    folder.chmod(mode)
