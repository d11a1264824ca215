"""Where an adapter is: on this machine, or elsewhere, and brought here for as long as a command needs it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from lora_packer.adapter import REQUIRED, AdapterSource
from lora_packer.adapter.elsewhere import is_elsewhere
from lora_packer.adapter.source import FolderSource
from lora_packer.errors import InputError, PackError
from lora_packer.frozen import frozen
from lora_packer.hub import repo_in
from lora_packer.names import EXTRAS, name_of
from lora_packer.pipeline import Note, silent
from lora_packer.pipeline.check import CheckOptions, run_check
from lora_packer.redact import escape, scrub

_PIECE = 16 << 20  # bytes of one request
_ROOM = "Free some, or name another folder with TMPDIR."


@frozen
class Here:
    """A folder or a finished archive on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """What to call the adapter."""
        return name_of(self.path)

    @property
    def told(self) -> str:
        """Where it is."""
        return str(self.path)

    @property
    def source(self) -> Path:
        """What is checked."""
        return self.path


@dataclass(frozen=True)
class Elsewhere:
    """An adapter on the Hub, at a store or behind a URL.

    Attributes:
        adapter: where; it may hold a secret.
        name: what to call the adapter.
        fetch: brings it here, and returns its folder.
    """

    adapter: str
    name: str
    fetch: Callable[[], Path]

    @cached_property
    def path(self) -> Path:
        """The folder that it was brought to. Raises what ``open_place`` says."""
        return self.fetch()

    @property
    def told(self) -> str:
        """Where it is, without a secret."""
        return escape(scrub(self.adapter.partition("?")[0]))

    @property
    def source(self) -> AdapterSource:
        """What is checked, under the name of where it came from."""
        return FolderSource(self.path, self.told)


Place = Here | Elsewhere


def remote_name(adapter: str | Path) -> str | None:
    """Return what to call an adapter that is on the Hub, at a store or behind a URL; None for one on this machine.

    Raises InputError where it begins like a repository of the Hub and names none.
    """
    repo = repo_in(str(adapter))
    if repo is not None:
        return repo.name
    if not is_elsewhere(adapter):
        return None
    last = urlsplit(str(adapter)).path.rstrip("/").rpartition("/")[2]
    return name_of(Path(re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-") or "adapter"))


@contextmanager
def open_place(
    adapter: str | Path, options: CheckOptions, note: Note = silent, *, extras: bool = False
) -> Iterator[Place]:
    """Tell where an adapter is. One that is elsewhere comes here when its path is asked for, and goes at the end.

    What its headers tell against it is found before its weights are fetched; optional files come along where asked for.
    To ask for its path raises:

    - CheckFailedError, InconclusiveError: its headers do not pass the check, or who has it cannot be asked.
    - InputError: there is nothing to read, or no room for it.
    - PackError: it could not be written here.
    """
    name = remote_name(adapter)
    if name is None:
        yield Here(Path(adapter))
        return
    with ExitStack() as stack:

        def fetch() -> Path:
            from lora_packer.inspector.opening import open_adapter

            run_check(adapter, options, silent)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lora-packer-"))) / name
            with open_adapter(adapter) as source:
                _copy(source, folder, (*REQUIRED, *(EXTRAS if extras else ())), note)
            return folder

        yield Elsewhere(str(adapter), name, fetch)


def _copy(source: AdapterSource, folder: Path, wanted: tuple[str, ...], note: Note) -> None:
    """Copy the files that are there. Raises InputError, InconclusiveError, PackError."""
    sizes = {name: source.size(name) for name in wanted if name in source.files()}
    folder.mkdir()
    total, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if total > free:
        raise InputError(f"{source.name} has {total:,} bytes, and there is room for {free:,}.", hint=_ROOM)
    note("fetch", f"{total:,} bytes from {source.name}")
    for name, size in sizes.items():
        with source.open(name) as remote, (folder / name).open("xb") as file:
            try:
                for begin in range(0, size, _PIECE):
                    file.write(remote.read(min(_PIECE, size - begin)))
            except OSError as error:
                reason = error.strerror or error
                raise PackError(f"{name} could not be fetched from {source.name}: {reason}.", hint=_ROOM) from None
