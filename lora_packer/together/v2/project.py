"""What every call of version 2 begins with: the project, lists in pages, a model by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from lora_packer.errors import ServiceError
from lora_packer.together import refusal
from lora_packer.together.answers import fields, listed, text
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose

MODEL_PREFIX = "ml_"
"""What the ids of models begin with, those of base models too."""

_MAX_PAGES = 100
_NO_SUCH_CALL = (404, 405, 410)
_WHOSE = Purpose(action="find the project of this key")


@dataclass(frozen=True, slots=True)
class Project:
    """A project's id, and its name in addresses; None where the service tells none."""

    id: str | None
    slug: str | None


def project_path(client: Client, *parts: str) -> str:
    """Return ``/v2/projects/{project}/...``: the project is that of TOGETHER_PROJECT_ID, else the key's own.

    Raises ServiceError where the key has no project.
    """
    if client.project_id is None:
        client.project_id = _required(project_of(client).id)
    return "/".join(("/v2/projects", *(quote(part, safe="") for part in (client.project_id, *parts))))


def project_of(client: Client) -> Project:
    """Return the key's own project, asked for once: ``GET /v3/whoami``, whose answers are flat for some keys.

    A key of an organization has none (together 3.1.1, types/whoami_org_api_key.py). Raises ServiceError.
    """
    answer = _identity(client)
    project = fields(answer.get("project"))
    return Project(
        text(project.get("id") or answer.get("project_id")), text(project.get("slug") or answer.get("project_slug"))
    )


def qualified(client: Client, name: str) -> str:
    """Return an endpoint's name as inference wants it: with the project's own before it."""
    return name if "/" in name else f"{_required(project_of(client).slug)}/{name}"


def paged(client: Client, path: str, purpose: Purpose, *, retry: bool = True, **query: str) -> list[dict[str, Any]]:
    """Return everything that a list holds, page by page. Raises ServiceError."""
    found: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        answer = client.request("GET", f"{path}?{urlencode(query)}" if query else path, retry=retry, purpose=purpose)
        found += listed(answer, purpose)
        after = fields(answer).get("next_cursor")
        if not isinstance(after, str) or not after or after == query.get("after"):
            break
        query = {**query, "after": after}
    return found


def own_model(client: Client, name: str) -> dict[str, Any] | None:
    """Return the project's model of this name (bare, with the project's before it, or an ``ml_`` id), or None."""
    models = paged(client, project_path(client, "models"), Purpose("list the models"))
    return next((one for one in models if is_called(one, name)), None)


def is_called(item: dict[str, Any], name: str) -> bool:
    """Whether a model or an endpoint has this name or id."""
    called = item.get("name")
    bare = called.rpartition("/")[2] if isinstance(called, str) else None
    return name in (item.get("id"), called, bare)


def _required(found: str | None) -> str:
    if found is None:
        hint = "Set TOGETHER_PROJECT_ID to the project's id, or use a key of a project."
        raise refusal.error(_WHOSE, "the service names none", None, hint, 200)
    return found


def _identity(client: Client) -> dict[str, Any]:
    """What the service tells of the key, asked for once; without a project where it has no such call."""
    if client.identity is None:
        answer: Any
        try:
            answer = client.request("GET", "/v3/whoami", retry=True, purpose=_WHOSE)
        except ServiceError as error:
            if error.status not in _NO_SUCH_CALL:
                raise
            answer = {"project": None}
        if not fields(answer) or not fields(answer).keys() - {"message", "error"}:
            raise refusal.without(_WHOSE, answer, "does not tell whose the key is")
        client.identity = answer
    return client.identity
