"""A service of the sandbox that the commands talk to, as a fixture: imported by the tests that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lora_packer.sandbox.service import Service


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Start a service that the commands talk to."""
    services = []

    def start(**options: Any) -> Service:
        service = Service(**{"delay": 0, **options})
        services.append(service)
        service.__enter__()
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        return service

    yield start
    for service in services:
        service.__exit__()
