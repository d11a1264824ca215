"""``check`` of several adapters and of a manifest: order, exit codes, one line each, and manifests that are none."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from builders import PREFIX, ROOT, TINY, TINY_BASE, ones, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.adapter import LoraConfig
from lora_packer.base_model import load
from lora_packer.errors import InputError, LoraPackerError
from lora_packer.inspector import manifest as manifests
from lora_packer.inspector import many, reading
from lora_packer.peft.expectation import Expectation

BROKEN = ROOT / "fixtures" / "broken"
Cli = Callable[..., Any]


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    """An adapter whose base model nobody knows."""
    return write_adapter(tmp_path / "unknown", None, tiny_config(base_model_name_or_path=None))


def test_each_has_its_report_in_the_order_given_and_one_bad_one_stops_no_other(cli: Cli, unknown: Path) -> None:
    named = [BROKEN / "nan", "gone", TINY, unknown]
    result = cli("check", *named, "--format", "json", "--base-config", TINY_BASE)
    assert result.code == 1
    body = json.loads(result.out)
    assert [item["adapter"]["source"] for item in body["reports"]] == [str(name) for name in named]
    assert [item["status"] for item in body["reports"]] == ["failed", "unreadable", "ok", "ok"]
    assert body["summary"] == {"adapters": 4, "ok": 2, "failed": 1, "inconclusive": 0, "unreadable": 1}
    assert (body["schema_version"], body["status"]) == (1, "failed")
    error = body["reports"][1]["error"]
    assert (error["type"], error["exit_code"]) == ("InputError", 2)
    assert "no folder or archive 'gone'" in error["message"]
    alone = json.loads(cli("check", TINY, "--format", "json", "--base-config", TINY_BASE).out)
    assert body["reports"][2] == alone


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "A1" * 17,
        "https://user:pass-word-1@127.0.0.1:9/x.zip",
        f"https://127.0.0.1:9/k.zip?X-Amz-Signature={'0' * 64}",
    ],
)
def test_a_credential_given_by_mistake_is_not_shown(cli: Cli, form: str, secret: str) -> None:
    result = cli("check", TINY, secret, "--format", form, "--base-config", TINY_BASE)
    assert result.code == (3 if "127.0.0.1" in secret else 1)
    kept = secret.removeprefix("https://user:").removesuffix("@127.0.0.1:9/x.zip").rpartition("=")[2]
    assert kept not in result.text


@pytest.mark.parametrize(
    ("names", "code"), [("ok ok", 0), ("ok unknown", 3), ("unknown failed", 1), ("unknown gone", 1), ("gone ok", 1)]
)
def test_exit_codes_of_several(cli: Cli, unknown: Path, tmp_path: Path, names: str, code: int) -> None:
    rows = {
        "ok": f"{TINY},{TINY_BASE}",
        "failed": f"{BROKEN / 'nan'},{TINY_BASE}",
        "unknown": f"{unknown},",
        "gone": f"gone,{TINY_BASE}",
    }
    listing = tmp_path / "list.csv"
    listing.write_text("adapter,base_config\n" + "".join(f"{rows[name]}\n" for name in names.split()))
    result = cli("check", "--manifest", listing, "--quiet")
    assert result.code == code
    assert len(result.out.splitlines()) == 2


def test_quiet_is_one_line_each_with_its_name(cli: Cli) -> None:
    result = cli("check", TINY, BROKEN / "nan", "gone", "--base-config", TINY_BASE, "--quiet", "--jobs", "1")
    assert result.out.splitlines() == [
        f"{TINY}: ok: 0 errors, 0 warnings",
        f"{BROKEN / 'nan'}: failed: 1 error, 0 warnings (LP401)",
        "gone: unreadable: there is no folder or archive 'gone'.",
    ]


def test_text_is_one_adapter_after_the_other_and_what_they_come_to(cli: Cli) -> None:
    result = cli("check", BROKEN / "nan", TINY, "gone", "--base-config", TINY_BASE, "--jobs", "2")
    alone = [cli("check", name, "--base-config", TINY_BASE).out for name in (BROKEN / "nan", TINY)]
    assert result.out.startswith("\n".join(alone) + "\nadapter     gone\n\nunreadable: there is no folder")
    assert result.out.splitlines()[-1] == "3 adapters: 1 ok, 1 failed, 1 unreadable"


@pytest.mark.parametrize("how", [[], ["--quiet"], ["--format", "json"]])
def test_what_goes_to_a_file_is_what_would_be_printed(cli: Cli, tmp_path: Path, how: list[str]) -> None:
    arguments = ["check", TINY, BROKEN / "nan", "--base-config", TINY_BASE, "--jobs", "1", *how]
    printed = cli(*arguments).out
    assert cli(*arguments, "--output", tmp_path / "report").out == ""
    assert (tmp_path / "report").read_text() == printed


def test_a_base_model_that_many_share_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built = []
    real = load._build
    monkeypatch.setattr(load, "_build", lambda *given: built.append(given[1]) or real(*given))
    copies = [write_adapter(tmp_path / str(at)) for at in range(5)]
    assert [report.status for report in lora_packer.check_many(copies, base_config=TINY_BASE, jobs=1)] == ["ok"] * 5
    once = len(built)
    built.clear()
    lora_packer.check(TINY, base_config=TINY_BASE)
    assert once == len(built)


def test_what_one_config_calls_for_on_one_base_model_is_worked_out_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what is found is what is found of each alone: nobody changes what they share."""
    asked: list[Any] = []
    real = reading.expect

    def expect(config: LoraConfig, *rest: Any, **named: Any) -> Expectation:
        asked.append(config.r)
        return real(config, *rest, **named)

    monkeypatch.setattr(reading, "expect", expect)
    other = write_adapter(tmp_path / "other", None, tiny_config(r=8))
    grown = write_adapter(tmp_path / "grown", {**tiny_tensors(), f"{PREFIX}model.embed_tokens.weight": ones(120, 48)})
    named = [TINY, grown, BROKEN / "nan", other, TINY, BROKEN / "missing-lora-b", grown, other]
    together = list(lora_packer.check_many(named, base_config=TINY_BASE, jobs=1, weights=False))
    # Those with a grown vocabulary have a base model of their own, each.
    assert (asked.count(4), asked.count(8)) == (1 + 2, 1)
    alone = [lora_packer.check(name, base_config=TINY_BASE, weights=False) for name in named]
    assert [report.to_dict() for report in together] == [report.to_dict() for report in alone]


@pytest.mark.parametrize("weights", [True, False])
def test_any_executor_gives_the_same(weights: bool, tmp_path: Path) -> None:
    named = [*(write_adapter(tmp_path / str(at)) for at in range(70)), BROKEN / "nan", "gone"]
    told = []
    for executor in (None, ThreadPoolExecutor(2), ProcessPoolExecutor(2, get_context("spawn"))):
        results = lora_packer.check_many(named, executor=executor, base_config=TINY_BASE, weights=weights)
        told.append([item.to_dict() for item in results])
        if executor is not None:
            executor.shutdown()
    assert told[0] == told[1] == told[2]
    assert [item["adapter"]["source"] for item in told[0]] == [str(name) for name in named]


def test_processes_do_the_work_of_many(cli_process: Cli, tmp_path: Path) -> None:
    named = [write_adapter(tmp_path / str(at)) for at in range(9)]
    result = cli_process("check", *named, "gone", "--base-config", TINY_BASE, "--jobs", "2", "--quiet")
    assert result.code == 1
    assert sorted(line.split(": ")[0] for line in result.out.splitlines()) == sorted([*map(str, named), "gone"])
    assert result.err == ""


def test_what_is_unreadable_is_never_ok_and_can_be_sent_from_a_worker() -> None:
    (found,) = lora_packer.check_many(["gone"])
    assert isinstance(found, lora_packer.Unreadable)
    assert (found.status, found.ok, found.findings, found.adapter.source) == ("unreadable", False, (), "gone")
    assert isinstance(found.error, InputError)
    assert pickle.loads(pickle.dumps(found)).error.hint == found.error.hint
    (good,) = lora_packer.check_many([TINY], base_config=TINY_BASE)
    assert pickle.loads(pickle.dumps(good)) == good


def test_a_bug_over_one_adapter_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real = many.check

    def check(adapter: Any, **options: Any) -> Any:
        if adapter == "bug":
            raise ZeroDivisionError("here")
        return real(adapter, **options)

    monkeypatch.setattr(many, "check", check)
    told = list(lora_packer.check_many([TINY, "bug", TINY], base_config=TINY_BASE))
    assert [item.status for item in told] == ["ok", "unreadable", "ok"]
    assert "ZeroDivisionError: here" in str(told[1].error)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": "mars"}, "no target 'mars'"),
        ({"select": ["XX"]}, "no rule's code"),
        ({"base_config": "gone.json"}, "no file 'gone.json'"),
        ({"fail_on": "info"}, "fail_on"),
    ],
)
def test_what_is_wrong_for_all_is_told_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(LoraPackerError, match=says):
        list(lora_packer.check_many([TINY, TINY], **arguments))


def test_a_single_text_is_no_list_of_adapters() -> None:
    with pytest.raises(InputError, match="single one"):
        lora_packer.check_many("adapter")


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "adapter,base_config\na,base.json\nb,base.json\n",
        "\ufeffadapter,base_config\r\na,base.json\r\n\r\nb,base.json\r\n",
        'base_config, adapter\nbase.json,"a"\nbase.json,b',
        '{"adapter": "a", "base_config": "base.json"}\n\n{"adapter": "b", "base_config": "base.json", "target": null}\n',
    ],
)
def test_a_manifest_s_paths_are_beside_it(cli: Cli, tmp_path: Path, text: str) -> None:
    for name in "ab":
        write_adapter(tmp_path / name)
    (tmp_path / "base.json").write_bytes(TINY_BASE.read_bytes())
    listing = tmp_path / "list"
    listing.write_text(text, newline="")
    body = json.loads(cli("check", "--manifest", listing, "--format", "json").out)
    assert [item["adapter"]["source"] for item in body["reports"]] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert body["status"] == "ok"


def test_a_manifest_on_standard_input_and_from_the_working_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(tmp_path / "here")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "list.csv").write_text("adapter\nhere\n")
    monkeypatch.chdir(tmp_path)
    options = ["--base-config", TINY_BASE, "--quiet"]
    told = "here: ok: 0 errors, 0 warnings\n"
    assert cli("check", "--manifest", "-", *options, input="adapter\nhere\n").out == told
    assert cli("check", "--manifest", "below/list.csv", *options).out == told


def test_what_a_row_says_goes_before_what_holds_for_all(cli: Cli, tmp_path: Path) -> None:
    listing = tmp_path / "list.jsonl"
    rows = [
        {"adapter": str(TINY)},
        {"adapter": str(TINY), "target": "peft"},
        {"adapter": str(TINY), "base_config": str(ROOT / "fixtures/base-configs/Qwen--Qwen3-8B.json")},
    ]
    listing.write_text("\n".join(map(json.dumps, rows)))
    result = cli("check", TINY, "--manifest", listing, "--base-config", TINY_BASE, "--format", "json")
    told = [(item["target"], item["status"]) for item in json.loads(result.out)["reports"]]
    assert told == [("together", "ok"), ("together", "ok"), ("peft", "ok"), ("together", "failed")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no adapter"),
        ("adapter,base_model\n", "lists no adapter"),
        ("name,base\na,b\n", "no column adapter; it has name, base"),
        ("adapter,basemodel\na,b\n", "column 'basemodel', which means nothing"),
        ("adapter,adapter\na,b\n", "column adapter twice"),
        ("adapter;base_model\na;b\n", "no column adapter; it has adapter;base_model"),
        ("adapter,target\n,peft\n", "Line 2 of the manifest"),
        ("adapter\na,b\n", "has 2 cells, and the header 1"),
        ('adapter\n"a\n', "is not CSV"),
        ('{"adapter": "a"}\n{"adapter"}\n', "Line 2 of the manifest"),
        ('[{"adapter": "a"}]', "is no JSON object"),
        ('{"adapter": 3}', "adapter is no text"),
        ('{"adapter": "a", "adapter": "b"}', "stands twice"),
        ('{"base_model": "a"}', "no column adapter"),
        ("adapter\n\x1b[31m\n::error::x\n", None),
    ],
)
def test_a_manifest_that_is_none(cli: Cli, tmp_path: Path, text: str, says: str | None) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text(text)
    result = cli("check", "--manifest", listing, "--base-config", TINY_BASE)
    assert result.code == (2 if says else 1)
    assert (says or "unreadable") in result.text
    assert "\x1b" not in result.text
    assert "Traceback" not in result.text


def test_a_manifest_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "utf16").write_bytes("adapter\na\n".encode("utf-16"))
    for name, says in (("gone", "No such file"), (".", "Is a directory"), ("utf16", "not UTF-8")):
        result = cli("check", "--manifest", tmp_path / name)
        assert (result.code, says.lower() in result.err.lower()) == (2, True), result.err


def test_a_manifest_is_bounded(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert manifests.MAX_ADAPTERS == 100_000
    monkeypatch.setattr(manifests, "MAX_ADAPTERS", 2)
    result = cli("check", "--manifest", "-", input="adapter\na\nb\nc\n")
    assert (result.code, "lists more than 2 adapters" in result.err) == (2, True)
    monkeypatch.setattr(manifests, "MAX_BYTES", 10)
    result = cli("check", "--manifest", "-", input="adapter\nabcdefgh\n")
    assert (result.code, "more than 10 bytes" in result.err) == (2, True)


def test_an_adapter_that_is_given_twice_has_two_reports(cli: Cli) -> None:
    body = json.loads(cli("check", TINY, TINY, "--base-config", TINY_BASE, "--format", "json").out)
    assert body["summary"]["adapters"] == len(body["reports"]) == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("dask://127.0.0.1:1", "distributed"),
        ("ray://127.0.0.1:1", "ray"),
        ("spark://x", "names no executor"),
        ("dask://", "names no executor"),
    ],
)
def test_a_cluster_that_is_not_to_be_had(cli: Cli, url: str, says: str) -> None:
    result = cli("check", TINY, "--base-config", TINY_BASE, "--executor", url)
    assert result.code == 2
    assert says in result.err


def test_jobs_are_at_least_one(cli: Cli) -> None:
    assert cli("check", TINY, TINY, "--jobs", "0").code == 2
