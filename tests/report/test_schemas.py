"""The published JSON Schemas: what the contract promises is in them, what is printed is valid, and what is not is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE, renamed, tiny_config, write_adapter
from jsonschema import Draft202012Validator, ValidationError
from schemas import NAMES, OF_COMMAND, schema, strict, valid

from lora_packer.cli import COMMANDS

Cli = Callable[..., Any]
HALF = ROOT / "fixtures" / "broken" / "missing-lora-b"


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert name == "common" or "schema_version" in schema(name)["required"]


def test_no_command_that_prints_json_lacks_a_schema() -> None:
    assert {*OF_COMMAND, "stop"} == set(COMMANDS) - {"sandbox"}
    assert {*OF_COMMAND.values(), "many", "error", "removed", "common"} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "place", "keys"),
    [
        ("report", [], "schema_version status adapter base_model target findings unchecked summary"),
        ("report", ["properties", "adapter"], "source tensors parameters bytes dtypes ranks"),
        ("report", ["properties", "base_model"], "id config_source model_type"),
        ("report", ["properties", "targets", "items"], "name version status errors warnings"),
        ("report", ["properties", "summary"], "errors warnings infos"),
        (
            "report",
            ["$defs", "finding"],
            "code name severity message file tensor field count expected actual hint fixable targets",
        ),
        ("many", [], "schema_version status reports summary"),
        ("many", ["properties", "summary"], "adapters ok failed inconclusive unreadable"),
        ("fix", [], "schema_version status output repairs skipped check"),
        ("verify", [], "schema_version status findings"),
        ("verify", ["properties", "findings", "items"], "what expected actual"),
        ("error", ["$defs", "error"], "type message hint exit_code"),
    ],
)
def test_what_is_promised_is_required(name: str, place: list[str], keys: str) -> None:
    found = schema(name)
    for key in place:
        found = found[key]
    assert found["required"] == keys.split()
    assert set(found["required"]) <= set(found["properties"])


CASES: list[tuple[str, list[object], int]] = [
    ("report", ["check", TINY], 0),
    ("report", ["check", HALF, "--target", "together,vllm@0.31.0,peft"], 1),
    ("report", ["check", TINY, "--target", "all"], 0),
    ("report", ["check", TINY, "--no-weights", "--select", "LP3"], 0),
    ("report", ["check", ROOT / "fixtures" / "broken" / "nan", "--stats"], 1),
    ("many", ["check", TINY, HALF, "nowhere"], 1),
    ("error", ["check", "nowhere"], 2),
    ("error", ["check", "--nope"], 2),
    ("error", ["pack", HALF, "--output", "never.zip"], 1),
]


@pytest.mark.parametrize(("name", "arguments", "code"), CASES, ids=lambda value: str(value)[:60])
def test_what_is_printed_is_valid(
    cli: Cli, name: str, arguments: list[object], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments, "--base-config", TINY_BASE, "--format", "json")
    assert result.code == code
    strict(name).validate(valid(name, json.loads(result.out)))


def test_an_inconclusive_report_is_valid(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None))
    result = cli("check", folder, "--format", "json")
    assert result.code == 3
    assert valid("report", json.loads(result.out))["unchecked"]


def test_what_fix_prints_is_valid(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", renamed(lambda name: "_orig_mod." + name))
    for code, adapter in ((0, folder), (0, TINY), (1, HALF)):
        to = tmp_path / f"fixed-{adapter.name}"
        result = cli("fix", adapter, "--base-config", TINY_BASE, "--format", "json", "--output", to)
        assert result.code == code
        strict("fix").validate(valid("fix", json.loads(result.out)))


def test_every_field_that_is_printed_is_described(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    golden = json.loads((ROOT / "tests" / "report" / "golden" / "every-rule.json").read_text())
    strict("many").validate(golden)
    taken = '[[suppress]]\nrule = "LP306"\nadapter = "*"\nreason = "known"\n'
    (tmp_path / "lora-packer.toml").write_text(taken)
    report = json.loads(cli("check", HALF, "--base-config", TINY_BASE, "--format", "json").out)
    strict("report").validate(report)
    assert [item["reason"] for item in report["suppressed"]] == ["known"]
    with pytest.raises(ValidationError):
        strict("report").validate({**report, "brand_new": 1})
    valid("report", {**report, "brand_new": 1})


def _broken(report: dict[str, Any], place: list[Any], value: Any) -> dict[str, Any]:
    report = copy.deepcopy(report)
    part: Any = report
    for key in place[:-1]:
        part = part[key]
    if value is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return report


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["status"], "fine"),
        (["schema_version"], 2),
        (["unchecked"], ...),
        (["findings", 0, "code"], "X1"),
        (["findings", 0, "severity"], "fatal"),
        (["findings", 0, "count"], 0),
        (["findings", 0, "targets"], ...),
        (["adapter", "tensors"], "8"),
        (["summary", "infos"], -1),
        (["base_model", "id"], ...),
    ],
)
def test_what_is_none_is_refused(cli: Cli, place: list[Any], value: Any) -> None:
    report = json.loads(cli("check", HALF, "--base-config", TINY_BASE, "--format", "json").out)
    valid("report", report)
    broken = _broken(report, place, value)
    with pytest.raises(ValidationError):
        valid("report", broken)
    many = {"schema_version": 1, "status": "failed", "reports": [broken]}
    summary = {"adapters": 1, "ok": 0, "failed": 1, "inconclusive": 0, "unreadable": 0}
    with pytest.raises(ValidationError):
        valid("many", {**many, "summary": summary})
    with pytest.raises(ValidationError):
        valid(
            "fix",
            {"schema_version": 1, "status": "failed", "output": None, "repairs": [], "skipped": [], "check": broken},
        )
