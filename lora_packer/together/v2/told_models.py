"""What version 2 tells of models, their revisions and imports: a reader for each shape, which every call uses.

The shapes are those of together 3.1.1, ``types/``. The ids are required, for requests are made of them; the rest is
read leniently.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.together.answers import LONGEST_NAME, count, fields, objects, optional_id, required_id, text
from lora_packer.together.models import File
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import StatusUpdate

_ADAPTER = "WEIGHTS_TYPE_ADAPTER"
_MAX_ERRORS = 50


@frozen
class ToldModel:
    """A model as the service tells it.

    Attributes:
        id, name: its own; None where no name is told.
        project_id: of which project it is.
        base_id: the id of its base model.
        is_adapter: whether it is an adapter; where that is not told, it is.
        description: as it was given.
    """

    id: str
    name: str | None = None
    project_id: str | None = None
    base_id: str | None = None
    is_adapter: bool = True
    description: str | None = None


@frozen
class ToldRevision:
    """What was put into a model once, as the service tells it.

    Attributes:
        id: its own; None where none is told.
        created_at, validated_at: when, as the service writes it; empty where that is not told.
        said: the validation's state in the service's word.
        errors: what the validation found.
    """

    id: str | None
    created_at: str
    validated_at: str
    said: str
    errors: tuple[str, ...]

    @property
    def validation(self) -> str:
        """How the validation ended; empty where that is not told."""
        return self.said.removeprefix("REVISION_VALIDATION_STATUS_")


@frozen
class ToldImport:
    """An import of files into a model, as the service tells it.

    Attributes:
        id: its own.
        model_id: into which model; None where none is told.
        status: the service's word; None where it tells none.
        message: the service's words about it.
        created_at, updated_at: when, as the service writes it; empty where that is not told.
        address: what was fetched. It may be a key itself.
    """

    id: str
    model_id: str | None
    status: str | None
    message: str | None
    created_at: str
    updated_at: str
    address: str | None = field(repr=False)


@frozen
class ToldEvent:
    """One thing that an import did."""

    level: str | None
    update: StatusUpdate


def model_in(answer: Any, purpose: Purpose) -> ToldModel:
    """Return the model that an answer describes. Raises ServiceError, which names the field."""
    found, item = required_id(answer, "id", purpose, "a model"), fields(answer)
    return ToldModel(
        id=found,
        name=text(item.get("name"), *purpose.secrets, limit=LONGEST_NAME),
        project_id=optional_id(item.get("projectId")),
        base_id=optional_id(item.get("baseModelId")),
        is_adapter=fields(item.get("weights")).get("type") in (_ADAPTER, None),
        description=text(item.get("description"), limit=400),
    )


def revision_in(answer: Any, purpose: Purpose) -> ToldRevision:  # noqa: ARG001 - what reads a list has it
    """Return the revision that an answer describes; nothing of it has to be told."""
    item = fields(answer)
    return ToldRevision(
        id=optional_id(item.get("revisionId")),
        created_at=text(item.get("createdAt")) or "",
        validated_at=text(item.get("lastValidatedAt")) or "",
        said=text(item.get("validationStatus")) or "",
        errors=tuple(_error(one) for one in objects(item.get("validationErrors"))[:_MAX_ERRORS]),
    )


def import_in(answer: Any, purpose: Purpose) -> ToldImport:
    """Return the import that an answer describes. Raises ServiceError, which names the field."""
    return import_seen(answer, required_id(answer, "id", purpose, "an import"))


def import_seen(answer: Any, found: str) -> ToldImport:
    """Return the import of this id, by what an answer tells of it."""
    item = fields(answer)
    address = item.get("remoteUrl")
    return ToldImport(
        id=found,
        model_id=optional_id(item.get("modelId")),
        status=text(item.get("status")),
        message=text(item.get("statusMessage"), limit=400),
        created_at=text(item.get("createdAt")) or "",
        updated_at=text(item.get("updatedAt")) or "",
        address=address if isinstance(address, str) else None,
    )


def event_in(answer: Any, purpose: Purpose) -> ToldEvent:  # noqa: ARG001 - what reads a list has it
    """Return what an import did; nothing of it has to be told."""
    item = fields(answer)
    update = StatusUpdate(
        status=text(item.get("type")) or "",
        message=text(item.get("message"), limit=400) or "",
        timestamp=text(item.get("createdAt")) or "",
    )
    return ToldEvent(text(item.get("level")), update)


def file_in(answer: Any, purpose: Purpose) -> File:  # noqa: ARG001 - what reads a list has it
    """Return the file that an answer describes; nothing of it has to be told."""
    item = fields(answer)
    return File(text(item.get("path")) or "?", count(item.get("sizeBytes")), text(item.get("hash")))


def _error(item: dict[str, Any]) -> str:
    """One of the validation's errors: its rule, then its message."""
    rule, message = text(item.get("rule")), text(item.get("message"), limit=400) or "no message"
    return f"{rule}: {message}" if rule else message
