"""Repositories of the Hugging Face Hub: what names one, and reading one by byte ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.hub.repo import DEFAULT_ENDPOINT, HubRepo, parse_repo, proposed, repo_in

if TYPE_CHECKING:
    from lora_packer.hub.client import Hub, Snapshot, stored_token
    from lora_packer.hub.errors import explain

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

# What speaks to the Hub brings http, ssl and logging with it: most adapters are on this machine.
_LAZY = {
    **dict.fromkeys(("Hub", "Snapshot", "stored_token"), "lora_packer.hub.client"),
    "explain": "lora_packer.hub.errors",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
