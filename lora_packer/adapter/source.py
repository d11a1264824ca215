"""Where an adapter can be read from: a folder, a finished archive (``archive_source.py``), the Hub (``hub_source.py``).

Only regular files are opened, so that a FIFO cannot block and a device is not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from lora_packer.errors import InputError
from lora_packer.files import FileState, exists, is_file, is_folder
from lora_packer.hub import proposed, repo_in
from lora_packer.misplaced import Holder
from lora_packer.redact import escape

_MAX_LISTED = 10_000
_MAX_IN_ONE = 1_000  # names of a sub-folder
_DEPTH = 3  # a run's folder, its checkpoint's, its adapter's: outputs/run-1/checkpoint-500/adapter


class AdapterSource(Protocol):
    """Named regular files, readable at any offset.

    Attributes:
        remote: whether reading costs the network: then headers are read, and no values.
        holder: what holds the files, as advice is worded for it.
    """

    remote: bool
    holder: Holder

    @property
    def name(self) -> str:
        """What to call the source in messages."""

    def files(self) -> tuple[str, ...]:
        """Return the names of the files at the root and in folders below it, in order."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises InputError where it is not a regular file."""

    def path(self, name: str) -> Path | None:
        """Return the path of a file on the local disk, or None where it is inside an archive."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any offset. Raises InputError."""


def _names(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    """The folder's own names first, then those of its sub-folders. Raises OSError where the folder cannot be read."""
    with os.scandir(folder) as found:
        entries = sorted(islice(found, _MAX_IN_ONE if prefix else _MAX_LISTED), key=lambda entry: entry.name)
    yield from (prefix + entry.name for entry in entries)
    for entry in entries:
        if depth and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                yield from _names(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)


class FolderSource:
    """An adapter in a folder.

    Args:
        folder: where it is.
        name: what to call it; default: the folder's path.
    """

    remote = False
    holder: Holder = "folder"

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder = folder
        self._name = str(folder) if name is None else name
        self._seen: dict[str, FileState] = {}

    @property
    def name(self) -> str:
        """What to call it."""
        return self._name

    def files(self) -> tuple[str, ...]:
        """Return the names in the folder and ``_DEPTH`` levels down, as far as they can be read."""
        try:
            return tuple(islice(_names(self._folder, "", _DEPTH), _MAX_LISTED))
        except OSError as error:
            raise InputError(f"the folder '{escape(self.name)}' cannot be read: {error.strerror}.") from None

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
            raise InputError(f"'{escape(str(path))}' cannot be read: {error.strerror}.") from None
        found = os.fstat(descriptor)
        state = FileState.of(found)
        if stat.S_ISREG(found.st_mode) and self._seen.setdefault(name, state) != state:
            os.close(descriptor)
            raise InputError(
                f"'{escape(str(path))}' changed while it was being checked.",
                hint="Wait until whatever writes it is done, and check the adapter again.",
            )
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise InputError(
                f"'{escape(str(path))}' is not a regular file.", hint="Put the file itself into the folder."
            )
        return os.fdopen(descriptor, "rb")


@contextmanager
def open_source(adapter: str | Path | AdapterSource) -> Iterator[AdapterSource]:
    """Open a folder, an archive or a Hub repository (``hf://org/repo[@revision]``); what is open stays as it is.

    Raises InputError where there is nothing to read, InconclusiveError where the Hub cannot be asked.
    """
    if not isinstance(adapter, str | Path):
        yield adapter
        return
    repo = repo_in(str(adapter))
    if repo is not None:
        from lora_packer.adapter.hub_source import open_repo

        with open_repo(repo) as opened:
            yield opened
        return
    path = Path(adapter)
    if is_folder(path):
        yield FolderSource(path)
        return
    if not exists(path):
        hint = "Give the folder that holds adapter_config.json and adapter_model.safetensors."
        if (repo_id := proposed(str(adapter))) is not None:
            hint += f" For a repo of the Hugging Face Hub write {repo_id}."
        raise InputError(f"there is no folder or archive '{escape(str(path))}'.", hint=hint)
    if not is_file(path):
        raise InputError(f"'{escape(str(path))}' is neither a folder nor a file.")
    from lora_packer.adapter.archive_source import open_archive

    with open_archive(path) as source:
        yield source
