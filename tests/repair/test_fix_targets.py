"""``fix --target``: the form that a target needs, whose data file says what it does not take as it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE, tiny_config, write_adapter

Cli = Callable[..., Any]
CONFIG = "adapter_config.json"

RSLORA = {"use_rslora": True}
ALPHAS = {"alpha_pattern": {"q_proj": 16}}
PATTERN = {"target_modules": ".*(q_proj|v_proj)"}
FOLDED = {"use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
LISTED = {"target_modules": ["q_proj", "v_proj"]}

# What the adapter has, who reads it otherwise, and what is written for them.
NEEDS = [
    (RSLORA, ("sglang", "llama-cpp", "lmdeploy", "portable", "vllm,sglang", "sglang@0.5.23"), FOLDED, "rslora"),
    (ALPHAS, ("sglang", "tgi", "lorax", "tensorrt-llm", "llama-cpp", "vllm@0.31.0", "portable"), FOLDED, "patterns"),
    (PATTERN, ("sglang", "lmdeploy", "fireworks", "portable"), LISTED, "listed-targets"),
]
# What these targets read as it is.
NEEDLESS = [
    (RSLORA, ("together", "peft", "vllm", "tgi", "lorax", "tensorrt-llm")),
    (ALPHAS, ("together", "peft", "vllm", "vllm@0.32.0")),
    (PATTERN, ("together", "peft", "vllm", "tgi", "llama-cpp")),
]


def run(cli: Cli, command: str, adapter: Path, target: str, *more: object) -> dict[str, Any]:
    options = ("--base-config", TINY_BASE, "--target", target, "--format", "json")
    told: dict[str, Any] = json.loads(cli(command, adapter, *options, *more).out)
    return told


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return found


@pytest.mark.parametrize(
    ("has", "target", "wanted", "name"),
    [(has, target, wanted, name) for has, targets, wanted, name in NEEDS for target in targets],
)
def test_what_a_target_does_not_take_is_written_otherwise(
    has: dict[str, Any], target: str, wanted: dict[str, Any], name: str, cli: Cli, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(**has))
    told = run(cli, "fix", adapter, target)
    assert [item["name"] for item in told["repairs"]] == [name], told["skipped"]
    after = config_of(tmp_path / "a-fixed")
    assert {field: after[field] for field in wanted} == wanted
    codes = {item["code"] for item in told["check"]["findings"]}
    assert not codes & {"LP505", "LP506"}
    assert run(cli, "fix", tmp_path / "a-fixed", target)["repairs"] == []


@pytest.mark.parametrize(("has", "target"), [(has, target) for has, targets in NEEDLESS for target in targets])
def test_what_a_target_takes_stays(has: dict[str, Any], target: str, cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(**has))
    assert run(cli, "fix", adapter, target)["repairs"] == []
    assert (tmp_path / "a-fixed" / CONFIG).read_bytes() == (adapter / CONFIG).read_bytes()


@pytest.mark.parametrize(("has", "target"), [(RSLORA, "vllm,sglang"), (PATTERN, "portable"), (PATTERN, "sglang")])
def test_check_ends_with_the_command_for_all_of_the_targets(
    has: dict[str, Any], target: str, cli: Cli, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(**has))
    report = run(cli, "check", adapter, target)
    fixable = {item["code"] for item in report["findings"] if item["fixable"]}
    assert fixable & {"LP505", "LP506"}
    last = cli("check", adapter, "--base-config", TINY_BASE, "--target", target).out.splitlines()[-1]
    assert last == f"fixable: lora-packer fix {adapter} --base-config {TINY_BASE} --target {target}"
    assert cli(*shlex.split(last)[2:]).code == 0
    again = run(cli, "check", tmp_path / "a-fixed", target)
    assert not [item for item in again["findings"] if item["fixable"]]


def test_patterns_are_not_said_to_be_fixable_and_the_hint_says_what_to_try(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(alpha_pattern={"q_proj": 24}))
    report = run(cli, "check", adapter, "sglang")
    told = [(item["code"], item["fixable"], item["hint"]) for item in report["findings"] if item["severity"] == "error"]
    assert [item[:2] for item in told] == [("LP506", False)]
    assert told[0][2].startswith("Try `lora-packer fix` with this target")
    assert "no power of two" in run(cli, "fix", adapter, "sglang")["skipped"][0]["reason"]


def test_a_list_needs_the_base_model(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", config=tiny_config(base_model_name_or_path=None, **PATTERN))
    report = json.loads(cli("check", adapter, "--target", "sglang", "--format", "json").out)
    assert [item["fixable"] for item in report["findings"] if item["code"] == "LP505"] == [False]
    told = json.loads(cli("fix", adapter, "--target", "sglang", "--format", "json").out)
    assert [item["name"] for item in told["skipped"]] == ["listed-targets", "refused-feature"]


def test_the_mlx_target_gets_its_own_layout(cli: Cli, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a")
    told = run(cli, "fix", adapter, "mlx")
    assert (told["status"], [item["name"] for item in told["repairs"]]) == ("fixed", ["mlx"])
    assert sorted(path.name for path in (tmp_path / "a-fixed").iterdir()) == [CONFIG, "adapters.safetensors"]
    both = run(cli, "fix", adapter, "mlx,vllm", "--output", tmp_path / "both")
    assert "mlx" not in {item["name"] for item in both["repairs"]}  # one of them takes PEFT's
