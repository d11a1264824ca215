"""Where an adapter is: on this machine, on the Hub, at a store or behind a URL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from lora_packer.adapter import AdapterSource, open_source
from lora_packer.hub import repo_in

_ELSEWHERE = ("s3://", "https://", "http://")


def is_elsewhere(adapter: object) -> bool:
    """Whether ADAPTER names an object or a prefix of S3, or a URL that is no page of the Hub's."""
    return isinstance(adapter, str) and adapter.startswith(_ELSEWHERE) and repo_in(adapter) is None


def is_stored_archive(adapter: object) -> bool:
    """Whether ADAPTER names a finished archive in S3."""
    return isinstance(adapter, str) and adapter.startswith("s3://") and adapter.endswith((".zip", ".tar.gz"))


def open_adapter(adapter: str | Path | AdapterSource) -> AbstractContextManager[AdapterSource]:
    """Open what ADAPTER names, or take what is open already.

    Raises InputError where there is nothing to read, InconclusiveError where whoever has it cannot be asked.
    """
    if isinstance(adapter, str) and is_elsewhere(adapter):
        from lora_packer.publisher.reading import open_elsewhere

        return open_elsewhere(adapter)
    return open_source(adapter)
