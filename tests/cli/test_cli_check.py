"""``check`` and ``rule`` from the outside: exit codes, text, JSON, and what they must not import."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import PREFIX, ROOT, TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter

BROKEN = ROOT / "fixtures" / "broken"
Cli = Callable[..., Any]


def test_a_good_adapter(cli: Cli) -> None:
    result = cli("check", TINY, "--base-config", TINY_BASE)
    assert result.code == 0
    assert result.out == (
        f"adapter     {TINY}\n"
        "            8 tensors, 1,536 parameters, F32, rank 4, 8,254 bytes\n"
        f"base model  llama ({TINY_BASE})\n"
        "target      together\n"
        "\n"
        "ok: 0 errors, 0 warnings\n"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "wrong-hidden-size",
            "error LP301 wrong-shape: 4 tensors do not fit this base model (llama): hidden size 32 instead of 48\n"
            f"    tensor    {PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight (and 3 more)\n"
            "    expected  4 x 48\n"
            "    actual    4 x 32\n"
            "    next      Give the config of the base model that the adapter was trained on.\n"
            "failed: 1 error, 0 warnings\n",
        ),
        (
            "missing-lora-b",
            "error LP306 half-pair: lora_B is missing for 1 module, whose other half is in the file\n"
            f"    tensor    {PREFIX}model.layers.0.self_attn.q_proj.lora_B.weight\n"
            "    expected  64 x 4\n"
            "    actual    missing\n"
            "    next      Save the adapter again; half of it was lost.\n"
            "failed: 1 error, 0 warnings\n",
        ),
        (
            "nan",
            "error LP401 not-finite: 1 tensor with NaN or infinite values\n"
            f"    tensor    {PREFIX}model.layers.0.self_attn.q_proj.lora_B.weight\n"
            "    expected  finite values\n"
            "    actual    1 value NaN or infinite\n"
            "    next      Go back to a checkpoint from before the loss diverged.\n"
            "failed: 1 error, 0 warnings\n",
        ),
    ],
)
def test_broken_adapters_say_what_and_where(cli: Cli, name: str, text: str) -> None:
    result = cli("check", BROKEN / name, "--base-config", TINY_BASE, "--quiet")
    assert (result.code, result.out) == (1, text)


def test_json_is_one_object_with_the_documented_fields(cli: Cli) -> None:
    result = cli("check", BROKEN / "missing-lora-b", "--base-config", TINY_BASE, "--format", "json")
    assert result.code == 1
    report = json.loads(result.out)
    assert report == {
        "schema_version": 1,
        "status": "failed",
        "adapter": {
            "source": str(BROKEN / "missing-lora-b"),
            "tensors": 7,
            "parameters": 1280,
            "bytes": report["adapter"]["bytes"],
            "dtypes": ["F32"],
            "ranks": [4],
        },
        "base_model": {
            "id": None,
            "config_source": str(TINY_BASE),
            "model_type": "llama",
            "config_sha256": hashlib.sha256(TINY_BASE.read_bytes()).hexdigest(),
        },
        "target": "together",
        "findings": [
            {
                "code": "LP306",
                "name": "half-pair",
                "severity": "error",
                "message": "lora_B is missing for 1 module, whose other half is in the file",
                "file": "adapter_model.safetensors",
                "tensor": PREFIX + "model.layers.0.self_attn.q_proj.lora_B.weight",
                "field": None,
                "count": 1,
                "expected": [64, 4],
                "actual": "missing",
                "hint": "Save the adapter again; half of it was lost.",
                "fixable": False,
                "targets": None,
                "tensors": [PREFIX + "model.layers.0.self_attn.q_proj.lora_B.weight"],
            }
        ],
        "unchecked": [],
        "summary": {"errors": 1, "warnings": 0, "infos": 0},
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["check", "no-such-folder"], 2, "no folder or archive"),
        (["check", str(TINY), "--base-config", "gone.json"], 2, "no file 'gone.json'"),
        (["check", str(TINY), "--base-config", str(TINY / "adapter_config.json")], 2, "adapter_config.json"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--target", "mars"], 2, "no target 'mars'"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--select", "XX1"], 2, "no rule's code"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--fail-on", "info"], 2, "--fail-on"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--output", "gone/report.txt"], 2, "cannot be written"),
        (["check", str(TINY), "--format", "xml"], 2, "--format"),
        (["check", str(TINY), "--nonsense"], 2, "--nonsense"),
        (["check"], 2, "ADAPTER"),
        (["rule", "LP999"], 2, "no rule"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_2(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == code
    assert says in result.err
    assert "Traceback" not in result.text


def test_could_not_check_is_exit_3(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None))
    result = cli("check", folder)
    assert result.code == 3
    assert "not checked" in result.out
    assert "inconclusive" in result.out
    unknown = cli("check", TINY, "--base-config", tmp_path / "base", "--format", "json")
    assert unknown.code == 2
    assert json.loads(unknown.out)["error"]["exit_code"] == 2


def test_fail_on_warning(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(brand_new=1))
    assert cli("check", folder, "--base-config", TINY_BASE).code == 0
    assert cli("check", folder, "--base-config", TINY_BASE, "--fail-on", "warning").code == 1
    assert cli("check", folder, "--base-config", TINY_BASE, "--fail-on", "warning", "--ignore", "LP203,LP1").code == 0


def test_output_goes_to_the_file(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    result = cli("check", TINY, "--base-config", TINY_BASE, "--format", "json", "--output", target)
    assert (result.code, result.out) == (0, "")
    assert json.loads(target.read_text())["status"] == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_text_from_inside_a_file_is_escaped(cli: Cli, tmp_path: Path) -> None:
    hostile = "x\x1b[31m\n::error::\u202e[red]" + "y" * 300
    tensors = {**tiny_tensors(), hostile: tiny_tensors().popitem()[1]}
    config = tiny_config(base_model_name_or_path=hostile, **{hostile: 1})
    folder = write_adapter(tmp_path / "a", tensors, config)
    for how in ([], ["--format", "json"]):
        result = cli("check", folder, "--base-config", TINY_BASE, "--base-model", "org/other", *how)
        assert result.code == 1
        assert "\x1b" not in result.text
        assert "\u202e" not in result.text
        assert not any(line.startswith("::") for line in result.text.splitlines())
        assert "y" * 200 not in result.text


def test_rules_are_listed_and_explained(cli: Cli) -> None:
    from lora_packer.inspector import RULES

    listed = cli("rule")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == list(RULES)
    for code, rule in RULES.items():
        explained = cli("rule", code.lower())
        assert explained.code == 0
        assert explained.out.startswith(f"{code} {rule.name} ({rule.severity})\n")
        assert cli("rule", rule.name).out == explained.out
    assert json.loads(cli("rule", "LP306", "--format", "json").out)["rule"]["code"] == "LP306"


IMPORTED = """
import sys
from lora_packer.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
heavy = ("boto3", "botocore", "huggingface_hub", "torch", "httpx2", "numpy", "pydantic", "rich")
print("IMPORTED", code, *[name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", str(TINY), "--base-config", str(TINY_BASE)], "0"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--no-weights"], "0"),
        (["check", str(TINY), "--base-config", str(TINY_BASE), "--format", "json"], "0"),
        (["check", str(BROKEN / "missing-lora-b"), "--base-config", str(TINY_BASE), "--no-weights"], "1"),
        (["rule"], "0"),
        (["--help"], "0"),
        (["--version"], "0"),
    ],
)
def test_nothing_heavy_is_imported_that_is_not_needed(arguments: list[str], expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"IMPORTED {expected}"


SPARED = """
import atexit, gc, os, sys
from lora_packer.cli import main
def spared():
    print("SPARED", os.environ.get("OPENBLAS_NUM_THREADS"), gc.get_freeze_count() > 0, gc.get_threshold()[0] > 100000)
atexit.register(spared)
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("arguments", "given", "expected"),
    [([], None, "1"), ([], "3", "3"), (["--stats"], None, "1"), (["--stats"], "3", "3")],
)
def test_what_a_command_has_no_use_for_is_left_out(arguments: list[str], given: str | None, expected: str) -> None:
    """One BLAS thread; few walks through all objects, and no last one."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"OPENBLAS_NUM_THREADS": given} if given else {}
    command = [sys.executable, "-c", SPARED, "check", str(TINY), "--base-config", str(TINY_BASE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"SPARED {expected} True True"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, lora_packer; print([n for n in ('boto3','huggingface_hub','torch','numpy','typer') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import lora_packer

    for name in lora_packer.__all__:
        assert getattr(lora_packer, name) is not None
    assert set(lora_packer.__all__) <= set(dir(lora_packer))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = lora_packer.nonsense


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "20"}]
)
def test_any_locale_and_width(cli_process: Cli, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = write_adapter(tmp_path / "ädapter", None, tiny_config(base_model_name_or_path="öäü/x"))
    result = cli_process("check", folder, "--base-config", TINY_BASE, "--base-model", "a/b", env=environment)
    assert result.code == 0
    assert "Traceback" not in result.text
    assert "LP501" in result.out


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m lora_packer rule | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.stdout.startswith("LP101")
    assert "Traceback" not in done.stderr


def test_the_reading_of_large_weights_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("check", TINY, "--base-config", TINY_BASE, "--format", "json").err == ""
    monkeypatch.setattr("lora_packer.cli.check._LARGE", 1)
    done = cli("check", TINY, "--base-config", TINY_BASE, "--format", "json")
    events = [json.loads(line) for line in done.err.splitlines()]
    size = (TINY / "adapter_model.safetensors").stat().st_size
    assert events[0] == {"event": "progress", "stage": "check", "done": 0, "total": size}
    assert events[-1] == {"event": "progress", "stage": "check", "done": size, "total": size}
    assert json.loads(done.out)["status"] == "ok"


def test_the_folder_of_the_trained_adapter_is_what_the_screen_proposes(cli: Cli, tmp_path: Path) -> None:
    for name in ("reference", "train"):
        write_adapter(tmp_path / "dpo" / name)
    result = cli("check", tmp_path / "dpo", "--base-config", TINY_BASE)
    assert result.code == 1
    told = "next      It is in the folder 'train' ('reference' is the copy that training is compared with): give that folder."
    assert result.out.count(told) == 1
    assert cli("check", tmp_path / "dpo" / "train", "--base-config", TINY_BASE).code == 0


def test_warnings_of_advice_do_not_fail_a_check_unless_told_to(cli: Cli, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", config=tiny_config(target_modules=["q_proj", "v_proj", "k_porj"]))
    (folder / "non_lora_trainables.bin").write_bytes(b"never opened")
    result = cli("check", folder, "--base-config", TINY_BASE)
    assert result.code == 0
    assert "warning LP107 weights-beside: non_lora_trainables.bin by its name holds trained weights" in result.out
    assert "warning LP211 unmatched-name: target_modules names k_porj" in result.out
    assert "(nearest: k_proj)" in result.out
    assert cli("check", folder, "--base-config", TINY_BASE, "--fail-on", "warning").code == 1
