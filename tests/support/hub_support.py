"""What the tests of the Hub share: a local Hub with repositories of every kind, and whoever asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from builders import TINY

from lora_packer.hub import Hub
from lora_packer.redact import Secret
from lora_packer.sandbox import LocalHub

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADER_BYTES = 8 + int.from_bytes((TINY / WEIGHTS).read_bytes()[:8], "little")
CONFIG_BYTES = (TINY / CONFIG).stat().st_size


@contextmanager
def hub_of_every_kind() -> Iterator[LocalHub]:
    """A Hub with the tiny adapter as ``org/public``, ``org/private`` and ``org/gated``."""
    with LocalHub() as hub:
        hub.add("org/public", TINY)
        hub.add("org/private", TINY, access="private")
        hub.add("org/gated", TINY, access="gated")
        yield hub


def token_of(hub: LocalHub, who: str) -> Secret | None:
    """The token of an account: ``owner``, ``other`` (nothing private or gated), ``nobody`` (none), ``invalid``."""
    return {"owner": hub.token, "other": hub.other_token, "nobody": None, "invalid": Secret("hf_" + "0" * 34)}[who]


def asking(hub: LocalHub, who: str = "nobody", **options: Any) -> Hub:
    """A connection to the local Hub as one of ``token_of``'s accounts."""
    return Hub(token_of(hub, who), hub.endpoint, **options)


def point_to(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, who: str = "nobody") -> None:
    """Set HF_ENDPOINT and HF_TOKEN for the commands."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    token = token_of(hub, who)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token.reveal())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """The Hub of every kind that the commands ask as nobody, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with hub_of_every_kind() as started:
        point_to(started, monkeypatch)
        yield started


def fetched(hub: LocalHub, name: str = "") -> int:
    """How many bytes of files whose name ends so the Hub has served."""
    return sum(one.bytes for one in hub.served if "/resolve/" in one.path and one.path.endswith(name))


def write_bare(folder: Path, **files: bytes) -> Path:
    """A folder with these files; ``__`` in a name is a dot."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(data)
    return folder
