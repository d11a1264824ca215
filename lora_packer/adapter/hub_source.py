"""Adapters in a repository of the Hugging Face Hub: the config and the header are read, by byte ranges; no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lora_packer.adapter.listed_source import ListedSource
from lora_packer.hub import Hub, HubRepo, Snapshot


class HubSource(ListedSource):
    """An adapter in a Hub repository, at one commit."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(f"hf://{snapshot.repo.id}@{snapshot.commit}", snapshot.sizes, snapshot.open, "repo")


@contextmanager
def open_repo(repo: HubRepo) -> Iterator[HubSource]:
    """Open a repository with the token of HF_TOKEN, if there is one. Raises InputError, InconclusiveError."""
    with Hub.from_environment() as hub:
        yield HubSource(hub.snapshot(repo))
