"""A rule's page is a test: the adapter that it describes is built from it, and checked as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ROOT
from rule_pages import build, library_reads, rows, tensors, told_values

from lora_packer.inspector import RULES

PAGES = ROOT / "docs" / "rules"
Cli = Callable[..., Any]


@cache
def golden() -> dict[str, list[tuple[str, str]]]:
    """What is found of each rule's case, by its adapter."""
    reports = json.loads((ROOT / "tests" / "report" / "golden" / "every-rule.json").read_text())["reports"]
    return {
        report["adapter"]["source"]: [(item["severity"], item["code"]) for item in report["findings"]]
        for report in reports
    }


def test_no_rule_lacks_a_page_and_no_page_a_rule() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*RULES, "index"}


@pytest.mark.parametrize("code", [*RULES, "index"])
def test_the_example_on_the_page(code: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    example, other = build((PAGES / f"{code}.md").read_text(encoding="utf-8"), tmp_path)
    with library_reads(other, tmp_path):
        told = cli(*example.command.split())
    assert told.out == example.output
    found = re.findall(r"^(error|warning|info) (LP\d+) ", told.out, re.MULTILINE)
    if code == "index":
        assert (told.code, found) == (0, [])
    else:
        assert code in [name for _, name in found]
        assert set(found) <= set(golden()[code])


def test_what_a_page_says_decides_what_comes_out(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (PAGES / "LP302.md").read_text(encoding="utf-8")
    assert text.count('"r": 8') == 1
    example, _ = build(text.replace('"r": 8', '"r": 4'), tmp_path)
    assert cli(*example.command.split()).out != example.output


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (np.zeros((2, 2), np.float32), "all 0"),
        (np.full((2, 2), 0.5, np.float16), "all 0.5"),
        (np.array([[0.1, 0.2], [0, 0]], np.float32), "any, 0 from row 1 on"),
        (np.array([[0.1, np.nan], [0.2, 0.3]], np.float32), "any, NaN at 0 1"),
        (np.array([[0.5, 0.25]], np.float32), "any that bfloat16 has"),
        (np.zeros(0, np.float32), "none"),
        (np.array([3, 4], np.int8), "any"),
    ],
)
def test_a_tensor_that_is_built_is_the_one_that_was_told(tensor: Any, told: str) -> None:
    assert told_values(tensor) == told
    (name, built), *more = tensors(rows({"a|`\n\x1b": tensor}) + "\n").items()
    assert (name, more, built.shape, built.dtype) == ("a|`\n\x1b", [], tensor.shape, tensor.dtype)
    assert told_values(built) == told
