"""Which version of the service's API is spoken: what was asked for, else what a receipt, an id or the key says."""

from __future__ import annotations

from typing import Protocol

from lora_packer.errors import ServiceError
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.together import v1, v2
from lora_packer.together.client import Client
from lora_packer.together.endpoints import EndpointApi
from lora_packer.together.models import ModelApi
from lora_packer.together.uploads import UploadApi
from lora_packer.together.v2.project import project_of
from lora_packer.together.versions import AUTO, V1, V1_ENDS, V2, version_of


class Api(UploadApi, EndpointApi, ModelApi, Protocol):
    """What every version of the service's API can do; a module is an implementation.

    Every function raises ServiceError where the service refuses or does not answer, and InputError for a name that
    cannot be one.
    """


APIS: dict[str, Api] = {V1: v1, V2: v2}


@frozen
class Choice:
    """A version of the API, and why it is that one; as text, one line for a person.

    Attributes:
        name: ``v1`` or ``v2``.
        reason: what decided it.
    """

    name: str
    reason: str

    @property
    def api(self) -> Api:
        """The version itself."""
        return APIS[self.name]

    def __str__(self) -> str:
        ending = f" ({V1_ENDS})" if self.name == V1 else ""
        return f"version {self.name.removeprefix('v')} of the API: {self.reason}{ending}"


def choose_api(client: Client, asked: str = AUTO, *, thing: str = "", earlier: object = None) -> Choice:
    """Return the version to speak. The service is asked for the key's project where nothing else decides, once.

    Args:
        client: the connection to the service.
        asked: one of ``CHOICES``; ``v1`` and ``v2`` decide.
        thing: the id of what is asked for: a job, a model, an endpoint.
        earlier: the version in the receipt of an earlier run, where there is one.

    Raises ServiceError where the service does not tell whether the key has a project.
    """
    if asked in APIS:
        return Choice(asked, f"as --api {asked} says")
    if earlier in APIS:
        return Choice(str(earlier), "as the receipt of an earlier run says")
    of_thing = version_of(thing)
    if of_thing is not None:
        return Choice(of_thing, f"{escape(thing, 60)} is an id of it")
    if client.project_id is not None:
        return Choice(V2, f"TOGETHER_PROJECT_ID names the project {client.project_id}")
    try:
        project = project_of(client)
    except ServiceError as error:
        if error.status not in (401, 402):
            error.hint = f"{error.hint or ''} Or say which version of the API to use: --api v1 or --api v2.".lstrip()
        raise
    if project.id is None:
        return Choice(V1, "the key has no project")
    return Choice(V2, f"the key is one of the project {project.slug or project.id}")
