"""What the service tells of a key: the project that it is of."""

from __future__ import annotations

from typing import Any

from lora_packer.frozen import frozen
from lora_packer.together import refusal
from lora_packer.together.answers import fields, optional_id, text
from lora_packer.together.refusal import Purpose


@frozen
class Project:
    """A project's id, and its name in addresses; None where the service tells none."""

    id: str | None
    slug: str | None


def project_in(answer: Any, purpose: Purpose) -> Project:
    """Return the project that ``GET /v3/whoami`` tells, whose answers are flat for some keys.

    A key of an organization has none (together 3.1.1, types/whoami_org_api_key.py). Raises ServiceError where the
    answer tells nothing of a key.
    """
    item = fields(answer)
    if not item.keys() - {"message", "error"}:
        raise refusal.without(purpose, answer, "does not tell whose the key is")
    project = fields(item.get("project"))
    return Project(
        optional_id(project.get("id") or item.get("project_id")),
        text(project.get("slug") or item.get("project_slug")),
    )
