"""What ``make follow`` tells of two releases: only what differs, a row each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import follow
from follow import FOLLOWED, Row, changed, line, main, new_types, refusals, summary
from proof_configs import of_transformers
from proof_undefined import GENERATING, UNDEFINED

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


@pytest.fixture(name="transformers")
def _transformers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A transformers that generates with what is known, and the tables in which it says so."""
    tables = ModuleType("transformers.models.auto.modeling_auto")
    for number, table in enumerate(GENERATING):
        setattr(tables, table, {} if number else dict.fromkeys((*UNDEFINED, "llama")))
    auto = ModuleType("transformers.models.auto")
    auto.modeling_auto = tables  # type: ignore[attr-defined]
    whole = ModuleType("transformers")
    whole.__version__ = "9.0"  # type: ignore[attr-defined]
    whole.logging = Logging()  # type: ignore[attr-defined]
    peft = ModuleType("peft")
    peft.__version__ = "1.0"  # type: ignore[attr-defined]
    named = {"transformers": whole, "transformers.models": ModuleType("models"), auto.__name__: auto, "peft": peft}
    for name, module in {**named, tables.__name__: tables}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return tables


class Logging:
    CRITICAL = 50

    def set_verbosity(self, level: int) -> None:
        assert level == self.CRITICAL


def test_a_type_that_generates_and_is_not_known_fails(transformers: ModuleType) -> None:
    assert list(new_types()) == []
    getattr(transformers, GENERATING[2])["sora"] = "SoraForConditionalGeneration"
    told = "transformers generates with it, and it has neither a definition nor a reason in UNDEFINED"
    assert list(new_types()) == [Row("new type", "sora", told, fails=True)]


def test_a_reason_of_the_past_is_told_and_does_not_fail(transformers: ModuleType) -> None:
    del getattr(transformers, GENERATING[0])["dia"]
    assert [(row.name, row.fails) for row in new_types()] == [("dia", False)]


@pytest.mark.parametrize(
    ("row", "code", "last"),
    [
        (None, 0, "0 of {} known types differ, 0 new types, 0 other differences"),
        (Row("PEFT field", "r", "was 8, is 16"), 0, "0 of {} known types differ, 0 new types, 1 other differences"),
        (Row("known type", "gptj", "x", True), 1, "1 of {} known types differ, 0 new types, 0 other differences"),
        (Row("new type", "sora", "x", True), 1, "0 of {} known types differ, 1 new types, 0 other differences"),
    ],
)
def test_the_table_ends_with_what_there_is_to_do(
    transformers: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    row: Row | None,
    code: int,
    last: str,
) -> None:
    def found(_only: object, _wanted: int) -> Iterator[Row]:
        yield from [row] if row else []

    monkeypatch.setattr(follow, "rows", found)
    monkeypatch.setattr(sys, "argv", ["follow.py"])
    assert main() == code
    printed = capsys.readouterr().out
    assert printed.startswith("transformers 9.0, PEFT 1.0\n")
    assert last.format(len(of_transformers())) in printed
    assert (line(row) in printed) if row else True
    assert summary([row] if row else [], len(of_transformers())) == last.format(len(of_transformers()))
