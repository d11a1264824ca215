"""``release`` measures the URL's life when it submits, and mints another where this machine slept in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import TINY, TINY_BASE

import lora_packer
from lora_packer.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.mark.parametrize(
    ("sleeps", "minted"), [([0, 0], 1), ([11, 0], 2)], ids=["awake", "slept eleven hours after the first URL"]
)
def test_a_url_that_grew_old_is_minted_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sleeps: list[int], minted: int
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    notes: list[str] = []
    hours = iter(sleeps)
    done = lora_packer.release(
        TINY,
        model_name=f"minted-{minted}",
        base_model="tiny/llama",
        to=sandbox.destination,
        base_config=TINY_BASE,
        receipt=tmp_path / "r.json",
        note=lambda stage, text: notes.append(f"{stage}: {text}"),
        now=lambda: datetime.now(UTC) + timedelta(hours=next(hours, 0)),
    )
    assert done.is_complete
    assert sum(text.startswith("presign: SigV4 GET URL") for text in notes) == minted
    assert sum("minting another" in text for text in notes) == minted - 1


def test_a_url_that_is_too_old_again_is_not_submitted(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    before = len(sandbox.service.jobs.records())
    with pytest.raises(lora_packer.PublishError, match="Nothing was submitted"):
        lora_packer.release(
            TINY,
            model_name="too-old",
            base_model="tiny/llama",
            to=sandbox.destination,
            base_config=TINY_BASE,
            receipt=tmp_path / "r.json",
            now=lambda: datetime.now(UTC) + timedelta(hours=11),
        )
    assert len(sandbox.service.jobs.records()) == before
