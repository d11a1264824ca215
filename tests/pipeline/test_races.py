"""Somebody changes the adapter while it is read: what is packed or sent with exit 0 is what was checked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import ROOT

from lora_packer.sandbox import Sandbox

sys.path.insert(0, str(ROOT / "tools"))

from hostile.races import CHANGES, Commands, race

TRIES = 4


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Sandbox(delay=0.01) as sandbox, Commands(sandbox, tmp_path_factory.mktemp("races")) as made:
        yield made


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("command", ["check", "pack", "publish", "release", "direct"])
def test_no_other_bytes_are_sent(commands: Commands, tmp_path: Path, command: str, how: str) -> None:
    seen = race(getattr(commands, command), CHANGES[how], tmp_path, TRIES)
    assert seen["WRONG"] == 0
    assert seen.total() == TRIES
