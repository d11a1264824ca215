"""Suppressions: what is known and taken is told, counted and decides nothing; what did not run cannot be."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from builders import ROOT, TINY, TINY_BASE

import lora_packer
from lora_packer import InputError, Suppression

Cli = Callable[..., Any]
BROKEN = ROOT / "fixtures" / "broken"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an adapter that misses a half."""
    shutil.copytree(BROKEN / "missing-lora-b", tmp_path / "adapters" / "old")
    shutil.copy(TINY_BASE, tmp_path / "base.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(folder: Path, adapter: str, rule: str = "LP306", more: str = "") -> None:
    entry = f"[[tool.lora-packer.suppress]]\nrule = '{rule}'\nadapter = '{adapter}'\nreason = 'serves since May'\n"
    (folder / "pyproject.toml").write_text(f"[tool.lora-packer]\nbase-config = 'base.json'\n{more}\n{entry}")


def sha256() -> str:
    return hashlib.sha256((BROKEN / "missing-lora-b" / WEIGHTS).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "adapter",
    ["adapters/old", "adapters/*", "./adapters/old/", "*/old", "*", sha256(), sha256().upper()],
)
@pytest.mark.parametrize("named", ["adapters/old", "./adapters/old/", "{project}/adapters/old"])
def test_a_suppressed_finding_is_told_and_decides_nothing(cli: Cli, project: Path, adapter: str, named: str) -> None:
    settings(project, adapter)
    done = cli("check", named.format(project=project))
    assert done.code == 0
    assert (
        "\nsuppressed LP306 half-pair: lora_B is missing for 1 module, whose other half is in the file "
        "(because: serves since May)\n"
    ) in done.out
    assert done.out.endswith("ok: 0 errors, 0 warnings, 1 suppressed\n")


@pytest.mark.parametrize("adapter", ["other", "old", "adapters", "adapters/ol?d", "0" * 64, "ADAPTERS/OLD"])
def test_another_adapters_suppression_says_nothing(cli: Cli, project: Path, adapter: str) -> None:
    settings(project, adapter)
    done = cli("check", "adapters/old")
    assert (done.code, done.out.endswith("failed: 1 error, 0 warnings\n")) == (1, True)


def test_another_rules_suppression_says_nothing(cli: Cli, project: Path) -> None:
    settings(project, "*", rule="LP301")
    assert cli("check", "adapters/old").code == 1


def test_globs_begin_at_the_file(cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(project, "adapters/old")
    monkeypatch.chdir(project / "adapters")
    assert cli("check", "old").code == 0


def test_an_archive_has_the_same_weights(cli: Cli, project: Path) -> None:
    assert cli("pack", "adapters/old", "--no-check", "--output", "old.zip").code == 0
    settings(project, sha256())
    assert cli("check", "old.zip").code == 0


def test_json_counts_what_is_suppressed(cli: Cli, project: Path) -> None:
    settings(project, "*")
    report = json.loads(cli("check", "adapters/old", "--format", "json").out)
    jsonschema.validate(report, json.loads((ROOT / "docs" / "schemas" / "report.schema.json").read_text()))
    assert (report["status"], report["findings"]) == ("ok", [])
    assert report["summary"] == {"errors": 0, "warnings": 0, "infos": 0, "suppressed": 1}
    (taken,) = report["suppressed"]
    assert (taken["code"], taken["severity"], taken["reason"]) == ("LP306", "error", "serves since May")


def test_without_any_the_report_is_as_it_was(cli: Cli, project: Path) -> None:
    settings(project, "other")
    report = json.loads(cli("check", "adapters/old", "--format", "json").out)
    assert ("suppressed" in report, "suppressed" in report["summary"]) == (False, False)


def test_of_many_each_has_its_own(cli: Cli, project: Path) -> None:
    shutil.copytree(project / "adapters" / "old", project / "adapters" / "older")
    settings(project, "adapters/old")
    done = cli("check", "adapters/old", "adapters/older", "--quiet", "--jobs", 1)
    assert done.code == 1
    assert done.out == (
        "adapters/old: ok: 0 errors, 0 warnings, 1 suppressed\nadapters/older: failed: 1 error, 0 warnings (LP306)\n"
    )


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("sarif", '"justification": "serves since May"'),
        ("junit", '<skipped message="lora_B is missing for 1 module, whose other half is in the file (because: serves'),
        ("github", "::notice title=adapters/old%3A suppressed LP306 half-pair::lora_B is missing"),
    ],
)
def test_every_format_tells_it(cli: Cli, project: Path, form: str, told: str) -> None:
    settings(project, "*")
    done = cli("check", "adapters/old", "--format", form)
    assert (done.code, told in done.out) == (0, True)


def test_the_page_tells_it_with_its_reason(cli: Cli, project: Path) -> None:
    settings(project, "*")
    assert cli("check", "adapters/old", "--html", "page.html").code == 0
    page = (project / "page.html").read_text()
    assert "1 suppressed, each for a reason" in page
    assert "serves since May" in page


def test_what_did_not_run_is_never_suppressed(cli: Cli, project: Path) -> None:
    settings(project, "*")
    done = cli("check", "adapters/old", "--base-config", "org/nowhere")
    assert done.code == 3
    assert "inconclusive: a required check could not run" in done.out


def test_what_a_suppressed_finding_kept_from_running_is_still_not_checked(cli: Cli, project: Path) -> None:
    (project / "adapters" / "old" / WEIGHTS).write_bytes(b"cut off")
    settings(project, "*", rule="LP104")
    done = cli("check", "adapters/old")
    assert (done.code, "not checked" in done.out) == (3, True)


def test_pack_takes_it_and_says_so(cli: Cli, project: Path) -> None:
    settings(project, "*")
    done = cli("pack", "adapters/old", "--output", "x.zip")
    assert done.code == 0
    assert "suppressed LP306" in done.err
    assert "7 tensors were held against what llama and the config call for, 1 suppressed" in done.err


def test_a_receipt_has_it(cli: Cli, project: Path) -> None:
    settings(project, "*")
    words = ("--model-name", "demo", "--base-model", "tiny/llama", "--sandbox", "--receipt", "r.json")
    assert cli("release", "adapters/old", *words).code == 0
    (taken,) = json.loads((project / "r.json").read_text())["check"]["suppressed"]
    assert (taken["code"], taken["reason"]) == ("LP306", "serves since May")


def test_the_base_model_of_a_target_table_counts_suppressions(cli: Cli, project: Path) -> None:
    settings(project, "*", more="target = ['peft', 'together']")
    report = json.loads(cli("check", "adapters/old", "--format", "json").out)
    assert [(item["status"], item["errors"]) for item in report["targets"]] == [("ok", 0), ("ok", 0)]
    assert len(report["suppressed"]) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("suppress = 3", "suppress is 3, which is no list of tables."),
        ("suppress = ['LP306']", "which is no list of tables."),
        ("[[suppress]]\nrule = 'LP306'\nadapter = '*'", "[suppress] number 1 has no reason."),
        ("[[suppress]]\nrule = 'LP306'\nadapter = '*'\nreason = ' '", 'reason is " "; expected a text'),
        ("[[suppress]]\nrule = 'LP306'\nreason = 'x'", "[suppress] number 1 has no adapter."),
        ("[[suppress]]\nadapter = '*'\nreason = 'x'", "[suppress] number 1 has no rule."),
        ("[[suppress]]\nrule = 'LP3'\nadapter = '*'\nreason = 'x'", "'LP3', which is no rule's code."),
        ("[[suppress]]\nrule = 'LP306'\nadapter = '*'\nreasons = 'x'", "a key that is not known: 'reasons'."),
        ("[[suppress]]\nrule = ['LP306']\nadapter = '*'\nreason = 'x'", "rule is ['LP306']; expected a text"),
    ],
)
def test_a_suppression_that_makes_no_sense_is_refused(cli: Cli, project: Path, text: str, told: str) -> None:
    (project / "lora-packer.toml").write_text(text)
    done = cli("check", "adapters/old", "--base-config", "base.json")
    assert (done.code, done.out, told in done.err) == (2, "", True)


# --- Python ----------------------------------------------------------------------------------------------------------


def test_in_python_they_are_given_and_no_file_is_read(project: Path) -> None:
    settings(project, "*")
    report = lora_packer.check("adapters/old", base_config="base.json")
    assert (report.status, report.suppressed) == ("failed", ())
    taken = Suppression("LP306", "adapters/*", "known")
    report = lora_packer.check("adapters/old", base_config="base.json", suppress=[taken])
    assert (report.status, report.suppressed[0].reason) == ("ok", "known")
    (report,) = lora_packer.check_many(["adapters/old"], base_config="base.json", suppress=[taken])
    assert report.ok


@pytest.mark.parametrize(("rule", "adapter", "reason"), [("LP306", "*", ""), ("LP306", "", "x"), ("LP999", "*", "x")])
def test_in_python_one_without_a_reason_is_refused_too(rule: str, adapter: str, reason: str) -> None:
    with pytest.raises(InputError, match="a suppression"):
        Suppression(rule, adapter, reason)


def test_a_list_of_something_else_is_refused() -> None:
    with pytest.raises(InputError, match=r"suppress is to be a list of lora_packer\.Suppression"):
        lora_packer.check(TINY, base_config=TINY_BASE, suppress=["LP306"])  # type: ignore[list-item]
