"""A new folder with files in it: there as a whole, or not at all.

The files have no names while they are written, so that whoever is killed meanwhile leaves nothing. They get them at
the end, in a hidden folder beside the place, which takes the place's name in one step. Where the system has no files
without a name, they are written into that folder; whoever is killed leaves it, and the next run for the same place
removes it, because nobody holds it any more.
As with ``cp``, the system writes to the disk when it likes: what it was made from is still there after a power failure.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.unnamed import name_or_copy, open_unnamed, path_of

_MARK = ".lora-packer-"
_PRIVATE, _PUBLIC = 0o700, 0o777  # the umask is taken off


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


class NewFolder:
    """Files that will be a folder: until then they have no names, or are in a hidden folder beside its place."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._hidden: Path | None = None
        self._held: int | None = None
        self._unnamed: dict[str, int] = {}

    def create(self, name: str) -> io.FileIO:
        """Make a file, for reading and writing. Raises OSError, also where it is there already."""
        if name in self._unnamed:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        descriptor = open_unnamed(self._place.parent, 0o666)
        if descriptor is None:
            return io.FileIO(self._folder(_PRIVATE) / name, "x+")
        self._unnamed[name] = descriptor
        return io.FileIO(os.dup(descriptor), "r+")

    def path(self, name: str) -> Path:
        """Return where this process can open a file that was made."""
        if name in self._unnamed:
            return path_of(self._unnamed[name])
        return (self._hidden or self._place) / name

    def remove(self, name: str) -> None:
        """Take a file back, where it was made."""
        descriptor = self._unnamed.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
        elif self._hidden is not None:
            (self._hidden / name).unlink(missing_ok=True)

    def keep(self) -> None:
        """Make the folder of all of them. Raises OSError."""
        was_hidden = self._hidden is not None
        folder = self._folder(_PUBLIC)
        for name, descriptor in self._unnamed.items():
            name_or_copy(descriptor, folder / name)
        if was_hidden:
            _take_mode(folder)
        folder.rename(self._place)  # an empty folder gives way

    def close(self) -> None:
        """Leave nothing but what is kept."""
        for descriptor in self._unnamed.values():
            os.close(descriptor)
        self._unnamed.clear()
        if self._held is not None:
            os.close(self._held)
        if self._hidden is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)

    def _folder(self, mode: int) -> Path:
        if self._hidden is None:
            hidden = self._place.with_name(f".{self._place.name}{_MARK}{os.urandom(8).hex()}.tmp")
            hidden.mkdir(mode=mode)
            self._hidden, self._held = hidden, _hold(hidden)
        return self._hidden


@contextmanager
def new_folder(path: Path) -> Iterator[NewFolder]:
    """Give the files of a folder that takes the name ``path`` when the block ends, or is gone when it fails.

    Raises OSError.
    """
    place = Path(os.path.realpath(_parent(path)), path.name)
    _remove_left(place)
    folder = NewFolder(place)
    try:
        yield folder
        folder.keep()
    finally:
        folder.close()


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
