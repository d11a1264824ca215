"""One cause, one finding: what the declarations say is explained, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY_BASE, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.finding import Finding
from lora_packer.inspector import RULES
from lora_packer.inspector.causes import one_cause_once
from lora_packer.inspector.rules.rule import SAME_FIELD


def finding(code: str, message: str = "", **details: Any) -> Finding:
    return RULES[code].finding(message or code, **details)


JOINED = "wrong sizes; names are off; 3 more, vocabulary 512 instead of 112"

# what it is, the findings, then what is left of each: code, count, message, field
CASES: dict[str, tuple[list[Finding], list[tuple[str, int, str, str | None]]]] = {
    "nothing": ([], []),
    "another base model shows in everything": (
        [
            finding("LP318", "vocabulary", severity="error", expected=112, actual=512),
            finding("LP320", "embeddings"),
            finding("LP311", "names are off", count=4),
            finding("LP301", "wrong sizes", count=8),
            finding("LP316", "3 more", count=3),
        ],
        [("LP301", 11, "wrong sizes; names are off; 3 more, vocabulary 512 instead of 112", None)],
    ),
    "the first of its sizes stands for all": (
        [finding("LP301", "first", count=2), finding("LP301", "second", count=3)],
        [("LP301", 5, "first; second", None)],
    ),
    "without other sizes, its modules do": (
        [
            finding("LP316", "unknown", count=2),
            finding("LP316", "modules", severity="error", count=3),
            finding("LP307", "lost", count=9),
        ],
        [("LP316", 5, "modules; unknown; lost", None)],
    ),
    "a vocabulary that may have grown is another cause": (
        [finding("LP318", "grown", expected=112, actual=120), finding("LP301", "sizes")],
        [("LP318", 1, "grown", None), ("LP301", 1, "sizes", None)],
    ),
    "a vocabulary that cannot have tells of embeddings": (
        [finding("LP320", "embeddings", severity="error"), finding("LP318", "smaller", severity="error")],
        [("LP318", 1, "smaller", None)],
    ),
    "a warning explains nothing": (
        [finding("LP316", "unknown"), finding("LP311", "names"), finding("LP320", "x"), finding("LP318", "grown")],
        [("LP316", 1, "unknown", None), ("LP311", 1, "names", None), ("LP320", 1, "x", None), ("LP318", 1, "grown", None)],
    ),
    "the rank comes before what it makes of the scale": (
        [
            finding("LP208", "r is missing", field="r"),
            finding("LP208", "lora_alpha is missing", field="lora_alpha"),
            finding("LP210", "scale", field="alpha_pattern"),
            finding("LP302", "rank 8 and 4", field="rank_pattern"),
            finding("LP310", "unused", field="rank_pattern"),
        ],
        [("LP208", 1, "lora_alpha is missing", "lora_alpha"), ("LP302", 1, "rank 8 and 4: r is missing", "r")],
    ),
    "ranks that differ in the file alone say nothing of the config": (
        [finding("LP208", "r is missing", field="r"), finding("LP210", "scale"), finding("LP302", "ranks differ")],
        [("LP208", 1, "r is missing", "r"), ("LP210", 1, "scale", None), ("LP302", 1, "ranks differ", None)],
    ),
    "no number is no second error of its field": (
        [
            finding("LP103", "NaN", field="lora_alpha"),
            finding("LP202", "not finite", field="lora_alpha"),
            finding("LP202", "r is 0", field="r"),
            finding("LP204", "alpha is 0", field="lora_alpha"),
        ],
        [("LP103", 1, "NaN", "lora_alpha"), ("LP202", 1, "r is 0", "r")],
    ),
    "nor of several fields at once": (
        [finding("LP103", "twice", field="x"), finding("LP203", "x, y", field="x", count=2)],
        [("LP103", 1, "twice", "x"), ("LP203", 2, "x, y", "x")],
    ),
    "braces in a message stay": (
        [finding("LP301", "sizes {0}"), finding("LP311", "names {x}")],
        [("LP301", 1, "sizes {0}; names {x}", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("findings", "expected"), CASES.values(), ids=CASES)
def test_one_cause_once(findings: list[Finding], expected: list[tuple[str, int, str, str | None]]) -> None:
    told = one_cause_once(findings)
    assert [(item.code, item.count, item.message, item.field) for item in told] == expected
    assert one_cause_once(told) == told


def test_declarations_name_rules_and_fields_that_there_are() -> None:
    for rule in RULES.values():
        for effect in rule.explains:
            assert effect.code in RULES
            assert effect.field in (None, SAME_FIELD, "r")
    explained = {effect.code for rule in RULES.values() for effect in rule.explains}
    assert {code for code, rule in RULES.items() if rule.retold} <= explained


def test_a_doubtful_field_is_one_finding(tmp_path: Path) -> None:
    text = lora_packer.adapter.CONFIG_NAME
    folder = write_adapter(tmp_path / "a")
    (folder / text).write_text((folder / text).read_text().replace('"lora_alpha": 8', '"lora_alpha": NaN'))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft")
    assert [(f.code, f.field) for f in report.findings] == [("LP103", "lora_alpha")]


def test_what_one_stage_finds_explains_what_another_does(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", tiny_tensors(), tiny_config(r=..., use_rslora=True))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft")
    assert [(f.code, f.field) for f in report.findings] == [("LP302", "r")]
    assert report.findings[0].message.endswith(": r is missing, so PEFT's default of 8 applies")


RULE_FILES = sorted((ROOT / "lora_packer" / "inspector" / "rules").glob("*.py"))


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_a_rule_is_declared_beside_the_code_that_finds_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    declared = {node.targets[0].id for node in tree.body if isinstance(node, ast.Assign) and _is_rule(node.value)}  # type: ignore[attr-defined]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert declared <= used
    assert declared or path.name in ("__init__.py", "rule.py")


def _is_rule(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Rule"
