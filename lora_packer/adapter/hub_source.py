"""Adapters in a repository of the Hugging Face Hub: the config and the header are read, by byte ranges; no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lora_packer.errors import InputError
from lora_packer.hub import Hub, HubRepo, Snapshot
from lora_packer.redact import escape


class HubSource:
    """An adapter in a Hub repository, at one commit."""

    remote = True

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @property
    def name(self) -> str:
        """The repository and the commit."""
        return f"hf://{self._snapshot.repo.id}@{self._snapshot.commit}"

    def files(self) -> tuple[str, ...]:
        """Return the names of the files at the root and one folder below."""
        return tuple(sorted(name for name in self._snapshot.sizes if name.count("/") <= 1))

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises InputError."""
        if name not in self._snapshot.sizes:
            raise InputError(f"there is no {escape(name)!r} in {self.name}.")
        return self._snapshot.sizes[name]

    def path(self, name: str) -> None:  # noqa: ARG002 - the protocol has it
        """A remote file has no path."""
        return

    def open(self, name: str) -> BinaryIO:
        """Open a file; every read is one ranged request. Raises InputError, InconclusiveError."""
        return self._snapshot.open(name)


@contextmanager
def open_repo(repo: HubRepo) -> Iterator[HubSource]:
    """Open a repository with the token of HF_TOKEN, if there is one. Raises InputError, InconclusiveError."""
    with Hub.from_environment() as hub:
        yield HubSource(hub.snapshot(repo))
