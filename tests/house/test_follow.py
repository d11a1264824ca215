"""What ``make follow`` tells of two releases: only what differs, a row each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from follow import FOLLOWED, Row, changed, line, refusals

from lora_packer.adapter.config import READERS


@pytest.mark.parametrize(
    ("before", "now", "rows"),
    [
        ({"r": "8"}, {"r": "8"}, []),
        ({"r": "8"}, {"r": "16"}, [Row("PEFT field", "r", "was 8, is 16")]),
        ({}, {"use_new": "False"}, [Row("PEFT field", "use_new", "new: False")]),
        ({"megatron_core": "None"}, {}, [Row("PEFT field", "megatron_core", "gone: None")]),
    ],
)
def test_what_changed(before: dict[str, Any], now: dict[str, Any], rows: list[Row]) -> None:
    assert list(changed("PEFT field", before, now)) == rows


def test_a_row_is_one_line_of_a_table() -> None:
    assert line(Row("class", "llama", "a | b\nc")) == "| class | llama | a \\| b c |"
    assert len(line(Row("class", "llama", "x" * 1000))) < 250


def test_refusals_are_read_by_file_and_text(tmp_path: Path) -> None:
    path = tmp_path / "tuners" / "lora" / "layer.py"
    path.parent.mkdir(parents=True)
    path.write_text('def f(r):\n    if r < 1:\n        raise ValueError(f"`r` should be {r} more")\n    raise\n')
    assert list(refusals(tmp_path)) == [("tuners/lora/layer.py: ValueError: `r` should be more", 1)]


def test_the_record_is_of_the_release_that_is_proven() -> None:
    recorded = json.loads(FOLLOWED.read_text(encoding="utf-8"))
    assert f"peft=={recorded['peft']}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # What is read of a config are fields that PEFT has, or had.
    assert {"r", "lora_alpha", "target_modules", "target_parameters"} <= recorded["field"].keys() & READERS.keys()
    assert len(recorded["refusal"]) > 100
