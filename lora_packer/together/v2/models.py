"""The project's models on version 2: their revisions, what the validation said, their files, and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lora_packer.errors import ServiceError
from lora_packer.redact import shell_word
from lora_packer.together.answers import count, fields, objects, text
from lora_packer.together.client import Client
from lora_packer.together.endpoints import require_model
from lora_packer.together.models import File, Model, Revision
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.endpoints import ENDPOINT_PREFIX, foremost
from lora_packer.together.v2.project import is_called, own_model, paged, project_path
from lora_packer.together.v2.supported import supported

T = TypeVar("T")

_ADAPTER = "WEIGHTS_TYPE_ADAPTER"
_MAX_ERRORS = 50


def models(client: Client) -> tuple[Model, ...]:
    """Return the project's models, with the names of their base models. Raises ServiceError."""
    found = paged(client, project_path(client, "models"), Purpose("list the models"))
    names = _base_names(client) if found else {}
    return tuple(_model(one, names) for one in found)


def model(client: Client, name: str) -> Model:
    """Return one model with its revisions, newest first, and the files of each. Raises ServiceError, InputError."""
    found = _required(client, name)
    made = sorted(_listed(client, found, "revisions"), key=lambda one: str(one.get("createdAt")), reverse=True)
    revisions = tuple(_revision(one, _files(client, found, one.get("revisionId"))) for one in made)
    return _model(found, _base_names(client), revisions)


def delete_model(client: Client, name: str) -> Model:
    """Delete a model for good; the service refuses that while something serves it. Raises ServiceError, InputError."""
    found = _required(client, name)
    seen = _model(found, {})
    purpose = Purpose(
        action=f"delete {seen.name}",
        hints={409: f"End what serves it first: `lora-packer stop {shell_word(seen.name)} --delete`."},
    )
    client.request("DELETE", project_path(client, "models", str(found["id"])), retry=True, purpose=purpose)
    return seen


def base_names(client: Client, name: str) -> tuple[str, ...]:
    """Return by which names the base model of a model or an endpoint may be asked: its serverless endpoint's, those of
    the project's endpoints that serve it, its own. Raises ServiceError where the service does not tell what it is.
    """
    served = _served(client, name)
    base = text(served.get("baseModelId"))
    if base is None:
        return ()
    refused: list[ServiceError] = []
    same = [one for one in _had(lambda: supported(client), refused) if base in one.ids]
    purpose = Purpose("list the endpoints")
    found = _had(lambda: paged(client, project_path(client, "endpoints"), purpose), refused)
    serving = [one for one in found if below.model_of(foremost(one, below.deployments_of(one))) == base]
    names = [
        *(one.serverless for one in same),
        *(text(one.get("name")) for one in serving),
        *(one.name for one in same),
    ]
    if refused and not any(names):
        raise refused[0]
    return tuple(dict.fromkeys(one for one in names if one))


def _had(look: Callable[[], Sequence[T]], refused: list[ServiceError]) -> Sequence[T]:
    """What a look finds; nothing where it is refused: another may find a name, and one is enough."""
    try:
        return look()
    except ServiceError as error:
        refused.append(error)
        return ()


def _served(client: Client, name: str) -> dict[str, Any]:
    """The project's model of this name, or the one that the endpoint of this name serves."""
    if not name.startswith(ENDPOINT_PREFIX):
        own = own_model(client, require_model(name.rpartition(":")[2]))
        if own is not None:
            return own
        listed = paged(client, project_path(client, "endpoints"), Purpose("list the endpoints"))
        endpoint = next((one for one in listed if is_called(one, name)), {})
    else:
        endpoint = below.look_at(client, name)
    model_id = below.model_of(foremost(endpoint, below.deployments_of(endpoint)))
    return (own_model(client, model_id) if model_id else None) or {}


def _required(client: Client, name: str) -> dict[str, Any]:
    found = own_model(client, require_model(name))
    if found is None or not isinstance(found.get("id"), str):
        raise ServiceError(
            f"The project has no model {name}.", hint="`lora-packer models` lists what there is.", status=404
        )
    return found


def _listed(client: Client, model: dict[str, Any], what: str) -> list[dict[str, Any]]:
    purpose = Purpose(f"list the {what} of {text(model.get('name'))}")
    return paged(client, project_path(client, "models", str(model["id"]), what), purpose)


def _files(client: Client, model: dict[str, Any], revision_id: Any) -> tuple[File, ...] | None:
    """The files of a revision; None where the service tells none: an upload that failed may have left nothing."""
    path = project_path(client, "models", str(model["id"]), "files")
    purpose = Purpose(f"list the files of {text(model.get('name'))}")
    try:
        found = paged(client, path, purpose, revisionId=str(revision_id))
    except ServiceError as error:
        if error.status in (400, 404):
            return None
        raise
    return tuple(
        File(text(one.get("path")) or "?", count(one.get("sizeBytes")), text(one.get("hash"))) for one in found
    )


def _revision(item: dict[str, Any], files: tuple[File, ...] | None) -> Revision:
    said = text(item.get("validationStatus")) or ""
    errors = objects(item.get("validationErrors"))[:_MAX_ERRORS]
    told = [(text(one.get("rule")), text(one.get("message"), limit=400) or "no message") for one in errors]
    return Revision(
        id=text(item.get("revisionId")) or "?",
        created_at=text(item.get("createdAt")) or "",
        validation=said.removeprefix("REVISION_VALIDATION_STATUS_").replace("UNSPECIFIED", ""),
        errors=tuple(f"{rule}: {message}" if rule else message for rule, message in told),
        files=files,
    )


def _model(item: dict[str, Any], names: dict[str, str], revisions: tuple[Revision, ...] | None = None) -> Model:
    base = text(item.get("baseModelId"))
    return Model(
        name=text(item.get("name")) or "?",
        id=text(item.get("id")),
        is_adapter=fields(item.get("weights")).get("type") in (_ADAPTER, None),
        base_model=names.get(base or "", base),
        description=text(item.get("description"), limit=400),
        revisions=revisions,
    )


def _base_names(client: Client) -> dict[str, str]:
    """The names of the supported models by their ids; empty where they cannot be had, for they decide nothing."""
    try:
        found = supported(client)
    except ServiceError:
        return {}
    return {each: one.name for one in found if one.name for each in one.ids}
