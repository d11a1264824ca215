"""What every call of version 2 begins with: the project, lists in pages, a model by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from lora_packer.errors import ServiceError
from lora_packer.together import refusal
from lora_packer.together.answers import cursor_in, listed
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.told_project import Project, project_in
from lora_packer.together.v2.told_models import ToldModel, model_in

T = TypeVar("T")

MODEL_PREFIX = "ml_"
"""What the ids of models begin with, those of base models too."""

_MAX_PAGES = 100
_NO_SUCH_CALL = (404, 405, 410)
_WHOSE = Purpose(action="find the project of this key")


def project_path(client: Client, *parts: str) -> str:
    """Return ``/v2/projects/{project}/...``: the project is that of TOGETHER_PROJECT_ID, else the key's own.

    Raises ServiceError where the key has no project.
    """
    if client.project_id is None:
        client.project_id = _required(project_of(client).id)
    return "/".join(("/v2/projects", *(quote(part, safe="") for part in (client.project_id, *parts))))


def project_of(client: Client) -> Project:
    """Return the key's own project, asked for once; none where the service has no such call. Raises ServiceError."""
    if client.project is None:
        try:
            answer = client.request("GET", "/v3/whoami", retry=True, purpose=_WHOSE)
        except ServiceError as error:
            if error.status not in _NO_SUCH_CALL:
                raise
            client.project = Project(None, None)
        else:
            client.project = project_in(answer, _WHOSE)
    return client.project


def qualified(client: Client, name: str) -> str:
    """Return an endpoint's name as inference wants it: with the project's own before it."""
    return name if "/" in name else f"{_required(project_of(client).slug)}/{name}"


def paged(
    client: Client,
    path: str,
    purpose: Purpose,
    read: Callable[[Any, Purpose], T],
    *,
    retry: bool = True,
    **query: str,
) -> list[T]:
    """Return everything that a list holds, page by page, each as ``read`` reads it. Raises ServiceError."""
    found: list[T] = []
    after = None
    for _ in range(_MAX_PAGES):
        asked = query if after is None else {**query, "after": after}
        answer = client.request("GET", f"{path}?{urlencode(asked)}" if asked else path, retry=retry, purpose=purpose)
        found += [read(one, purpose) for one in listed(answer, purpose)]
        before, after = after, cursor_in(answer)
        if after in (None, before):
            break
    return found


def own_model(client: Client, name: str) -> ToldModel | None:
    """Return the project's model of this name (bare, with the project's before it, or an ``ml_`` id), or None."""
    models = paged(client, project_path(client, "models"), Purpose("list the models"), model_in)
    return next((one for one in models if is_called(one, name)), None)


class Called(Protocol):
    """What has an id and, where it is told, a name."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str | None:
        """Its name."""


def is_called(item: Called, name: str) -> bool:
    """Whether a model or an endpoint has this name or id."""
    return name in (item.id, item.name, item.name.rpartition("/")[2] if item.name else None)


def _required(found: str | None) -> str:
    if found is None:
        hint = "Set TOGETHER_PROJECT_ID to the project's id, or use a key of a project."
        raise refusal.error(_WHOSE, "the service names none", None, hint, 200)
    return found
