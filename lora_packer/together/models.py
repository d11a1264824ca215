"""The adapters on the account: what each is based on, its revisions and their files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

from lora_packer.frozen import frozen
from lora_packer.together.client import Client


@frozen
class File:
    """A file of a revision: its path, its size in bytes and its digest, where they are told."""

    path: str
    size: int | None = None
    digest: str | None = None


@frozen
class Revision:
    """What was uploaded into a model once. All text is the service's own, escaped and clipped.

    Attributes:
        id: the revision's id.
        created_at: when, as the service writes it.
        validation: ``PENDING``, ``SUCCESS``, ``FAILED`` or ``ERROR``; empty where it has not started.
        errors: what the validation found.
        files: its files; None where they were not asked for or not told.
    """

    id: str
    created_at: str = ""
    validation: str = ""
    errors: tuple[str, ...] = ()
    files: tuple[File, ...] | None = None


@frozen
class Model:
    """A model on the account. All text is the service's own, escaped and clipped.

    Attributes:
        name: what commands call it by.
        id: the service's id; None where it tells none.
        is_adapter: whether it is an adapter.
        base_model: what it is based on: the name where that can be had, else an id.
        status: what became of its upload, where only that is told (version 1).
        description: as it was given.
        revisions: newest first; None where they were not asked for, or the version of the API has none.
    """

    name: str
    id: str | None = None
    is_adapter: bool = True
    base_model: str | None = None
    status: str | None = None
    description: str | None = None
    revisions: tuple[Revision, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


class ModelApi(Protocol):
    """What every version of the service's API can do about models; see ``Api``."""

    def models(self, client: Client) -> tuple[Model, ...]:
        """Return the account's models, adapters and others."""

    def model(self, client: Client, name: str) -> Model:
        """Return one of them, by its name or id, with its revisions and files."""

    def delete_model(self, client: Client, name: str) -> Model:
        """Delete one for good and return what it was."""

    def base_names(self, client: Client, name: str) -> tuple[str, ...]:
        """Return by which names the base model of what a name stands for (a model, an endpoint) may be asked."""
