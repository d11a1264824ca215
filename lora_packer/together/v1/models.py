"""The account's uploads through version 1, which knows jobs and names, but no revisions and no deletion.

openapi.yaml in github.com/togethercomputer/openapi has ``GET /jobs``, and nothing that deletes an uploaded model.
"""

from __future__ import annotations

from lora_packer.errors import ServiceError
from lora_packer.together.client import Client
from lora_packer.together.endpoints import require_model
from lora_packer.together.models import Model
from lora_packer.together.refusal import Purpose
from lora_packer.together.v1.told import jobs_in


def models(client: Client) -> tuple[Model, ...]:
    """Return what the upload jobs made or were to make, the newest of each name. Raises ServiceError."""
    purpose = Purpose("list the upload jobs")
    found: dict[str, Model] = {}
    for one in jobs_in(client.request("GET", "/jobs", retry=True, purpose=purpose), purpose):
        if one.name and one.name not in found:
            found[one.name] = Model(
                name=one.name, is_adapter=one.is_adapter, status=one.status, description=one.description
            )
    return tuple(found.values())


def model(client: Client, name: str) -> Model:
    """Return one of them, by its name with or without the account's before it. Raises ServiceError, InputError."""
    require_model(name)
    for one in models(client):
        if name in (one.name, one.name.rpartition("/")[2]):
            return one
    raise ServiceError(
        f"The account has no upload of {name}.", hint="`lora-packer models --api v1` lists what there is.", status=404
    )


def delete_model(client: Client, name: str) -> Model:
    """Raise ServiceError: this version documents no deletion."""
    found = model(client, name)
    raise ServiceError(
        f"Version 1 of the API has no call that deletes {found.name}.",
        hint="Delete it on the service's page of your models (https://api.together.ai/models).",
    )


def base_names(client: Client, name: str) -> tuple[str, ...]:
    """Return none: this version does not tell what an adapter is based on."""
    del client, name
    return ()
