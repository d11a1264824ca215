"""The project's models on version 2: their revisions, what the validation said, their files, and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lora_packer.errors import ServiceError
from lora_packer.redact import shell_word
from lora_packer.together.client import Client
from lora_packer.together.endpoints import require_model
from lora_packer.together.models import File, Model, Revision
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2 import deployments as below
from lora_packer.together.v2.endpoints import ENDPOINT_PREFIX, foremost
from lora_packer.together.v2.project import own_model, paged, project_path
from lora_packer.together.v2.supported import supported
from lora_packer.together.v2.told_endpoints import ToldEndpoint
from lora_packer.together.v2.told_models import ToldModel, ToldRevision, file_in, model_in, revision_in

T = TypeVar("T")


def models(client: Client) -> tuple[Model, ...]:
    """Return the project's models, with the names of their base models. Raises ServiceError."""
    found = paged(client, project_path(client, "models"), Purpose("list the models"), model_in)
    names = _base_names(client) if found else {}
    return tuple(_model(one, names) for one in found)


def model(client: Client, name: str) -> Model:
    """Return one model with its revisions, newest first, and the files of each. Raises ServiceError, InputError."""
    found = _required(client, name)
    purpose = Purpose(f"list the revisions of {found.name}")
    listed = paged(client, project_path(client, "models", found.id, "revisions"), purpose, revision_in)
    made = sorted(listed, key=lambda one: one.created_at, reverse=True)
    revisions = tuple(_revision(one, _files(client, found, one.id)) for one in made)
    return _model(found, _base_names(client), revisions)


def delete_model(client: Client, name: str) -> Model:
    """Delete a model for good; the service refuses that while something serves it. Raises ServiceError, InputError."""
    found = _required(client, name)
    seen = _model(found, {})
    purpose = Purpose(
        action=f"delete {seen.name}",
        hints={409: f"End what serves it first: `lora-packer stop {shell_word(seen.name)} --delete`."},
    )
    client.request("DELETE", project_path(client, "models", found.id), retry=True, purpose=purpose)
    return seen


def base_names(client: Client, name: str) -> tuple[str, ...]:
    """Return by which names the base model of a model or an endpoint may be asked: its serverless endpoint's, those of
    the project's endpoints that serve it, its own. Raises ServiceError where the service does not tell what it is.
    """
    served = _served(client, name)
    base = served.base_id if served else None
    if base is None:
        return ()
    refused: list[ServiceError] = []
    same = [one for one in _had(lambda: supported(client), refused) if base in one.ids]
    found = _had(lambda: below.listed(client), refused)
    serving = [one for one in found if _model_served(one) == base]
    names = [
        *(one.serverless for one in same),
        *(one.name for one in serving),
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


def _served(client: Client, name: str) -> ToldModel | None:
    """The project's model of this name, or the one that the endpoint of this name serves."""
    endpoint: ToldEndpoint | None
    if not name.startswith(ENDPOINT_PREFIX):
        own = own_model(client, require_model(name.rpartition(":")[2]))
        if own is not None:
            return own
        endpoint = below.named(client, name)
    else:
        endpoint = below.look_at(client, name)
    model_id = _model_served(endpoint) if endpoint else None
    return own_model(client, model_id) if model_id else None


def _model_served(endpoint: ToldEndpoint) -> str | None:
    """The id of the model that the endpoint's leading deployment serves."""
    leading = foremost(endpoint, endpoint.deployments)
    return leading.model_id if leading else None


def _required(client: Client, name: str) -> ToldModel:
    found = own_model(client, require_model(name))
    if found is None:
        raise ServiceError(
            f"The project has no model {name}.", hint="`lora-packer models` lists what there is.", status=404
        )
    return found


def _files(client: Client, model: ToldModel, revision_id: str | None) -> tuple[File, ...] | None:
    """The files of a revision; None where the service tells none: an upload that failed may have left nothing."""
    path = project_path(client, "models", model.id, "files")
    purpose = Purpose(f"list the files of {model.name}")
    try:
        return tuple(paged(client, path, purpose, file_in, revisionId=str(revision_id)))
    except ServiceError as error:
        if error.status in (400, 404):
            return None
        raise


def _revision(told: ToldRevision, files: tuple[File, ...] | None) -> Revision:
    return Revision(
        id=told.id or "?",
        created_at=told.created_at,
        validation=told.validation.replace("UNSPECIFIED", ""),
        errors=told.errors,
        files=files,
    )


def _model(told: ToldModel, names: dict[str, str], revisions: tuple[Revision, ...] | None = None) -> Model:
    return Model(
        name=told.name or "?",
        id=told.id,
        is_adapter=told.is_adapter,
        base_model=names.get(told.base_id or "", told.base_id),
        description=told.description,
        revisions=revisions,
    )


def _base_names(client: Client) -> dict[str, str]:
    """The names of the supported models by their ids; empty where they cannot be had, for they decide nothing."""
    try:
        found = supported(client)
    except ServiceError:
        return {}
    return {each: one.name for one in found if one.name for each in one.ids}
