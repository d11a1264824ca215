"""Repositories of the Hugging Face Hub: what names one, and reading one by byte ranges."""

from __future__ import annotations

from lora_packer.hub.repo import DEFAULT_ENDPOINT, HubRepo, parse_repo, proposed, repo_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lora_packer.hub.client import Hub, Snapshot, stored_token
    from lora_packer.hub.errors import explain

# Loaded when first asked for: to name a repository, or to see that a path names none, needs no HTTP.
_LAZY = {
    **dict.fromkeys(("Hub", "Snapshot", "stored_token"), "lora_packer.hub.client"),
    "explain": "lora_packer.hub.errors",
}

__all__ = [
    "DEFAULT_ENDPOINT",
    "Hub",
    "HubRepo",
    "Snapshot",
    "explain",
    "parse_repo",
    "proposed",
    "repo_in",
    "stored_token",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
