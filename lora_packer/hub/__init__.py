"""Repositories of the Hugging Face Hub: what names one, and reading one by byte ranges."""

from __future__ import annotations

from lora_packer.hub.client import Hub, Snapshot, stored_token
from lora_packer.hub.errors import explain
from lora_packer.hub.repo import DEFAULT_ENDPOINT, HubRepo, parse_repo, proposed, repo_in

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
