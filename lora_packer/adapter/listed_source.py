"""Adapters of which a list tells the files: in a repository of the Hub, or below a prefix of S3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from lora_packer.errors import InputError
from lora_packer.misplaced import Holder
from lora_packer.redact import escape


class ListedSource:
    """Files that are elsewhere, of which a list tells names and sizes: a Hub repository, a prefix of S3.

    Args:
        name: what to call them.
        sizes: every file's size in bytes.
        opener: opens a file of the list; every read is one ranged request.
        holder: what holds them.
    """

    remote = True

    def __init__(self, name: str, sizes: Mapping[str, int], opener: Callable[[str], BinaryIO], holder: Holder) -> None:
        self.holder = holder
        self._name = name
        self._sizes = sizes
        self._opener = opener

    @property
    def name(self) -> str:
        """What to call them."""
        return self._name

    def files(self) -> tuple[str, ...]:
        """Return the names of the files at the root and one folder below."""
        return tuple(sorted(name for name in self._sizes if name.count("/") <= 1))

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises InputError."""
        if name not in self._sizes:
            raise InputError(f"there is no {escape(name)!r} in {self.name}.")
        return self._sizes[name]

    def path(self, name: str) -> None:  # noqa: ARG002 - the protocol has it
        """A remote file has no path."""
        return

    def open(self, name: str) -> BinaryIO:
        """Open a file. Raises InputError, InconclusiveError."""
        self.size(name)
        return self._opener(name)
