"""The versions of the service's API by name, and which of them an id belongs to."""

from __future__ import annotations

AUTO = "auto"
"""Version 2 where the key has a project, else version 1."""

V1, V2 = "v1", "v2"

CHOICES = (AUTO, V1, V2)
"""What can be asked for."""

V1_ENDS = (
    "version 1 ends with 2026 and creates no new endpoints any more: what is uploaded through it has to be uploaded "
    "again through version 2, with a key of a project"
)
"""What version 1 leads to: docs.together.ai/docs/dedicated-endpoints/v1/adapter and .../migrate-from-v1."""

# Of version 2: "Resource IDs" in skills/together-dedicated-model-inference/references/api-reference.md of
# github.com/togethercomputer/skills. Of version 1: the examples of openapi.yaml in github.com/togethercomputer/openapi.
_PREFIXES = {"ep_": V2, "dep_": V2, "ml_": V2, "job_": V2, "endpoint-": V1, "job-": V1}


def version_of(thing: str) -> str | None:
    """Return the version of the API whose ids look like this one; None where it is no such id."""
    return next((version for prefix, version in _PREFIXES.items() if thing.startswith(prefix)), None)


def option(version: str, thing: str = "") -> str:
    """Return what a command about a thing needs to mean this version: nothing where the thing's id tells it."""
    return "" if version_of(thing) == version else f" --api {version}"
