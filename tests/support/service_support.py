"""A service of the sandbox that the commands talk to, as a fixture: imported by the tests that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service

V1_ENDPOINTS = Faults(v1_endpoints_closed=False)
"""Version 1 creates endpoints, as it did before."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Start a service that the commands talk to; ``faults`` and what else a service is made with."""
    yield from _start(monkeypatch, no_project=False)


@pytest.fixture
def start_v1(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """The same for a key without a project, for which there is version 1 of the API only."""
    yield from _start(monkeypatch, no_project=True)


def _start(monkeypatch: pytest.MonkeyPatch, *, no_project: bool) -> Iterator[Callable[..., Service]]:
    services = []

    def start(**options: Any) -> Service:
        faults = replace(options.pop("faults", None) or V1_ENDPOINTS, no_project=no_project)
        service = Service(faults=faults, **{"delay": 0, **options})
        services.append(service)
        service.__enter__()
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        return service

    yield start
    for service in services:
        service.__exit__()
