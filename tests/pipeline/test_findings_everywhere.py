"""What ``check`` says of an adapter, ``pack``, ``publish`` and ``release`` say too: on screen, in JSON, in the receipt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]

COMMANDS = ["check", "pack", "publish", "release"]
EMBED, HEAD = PREFIX + "model.embed_tokens.weight", PREFIX + "lm_head.weight"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0.01) as started:
        yield started


@pytest.fixture
def run(cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    to = ["--to", f"s3://{sandbox.s3.bucket}/{tmp_path.name}/"]
    name = "m-" + tmp_path.name.replace("_", "-")
    more = {
        "check": [],
        "pack": ["--output", "a.zip"],
        "publish": to,
        "release": [*to, "--model-name", name, "--base-model", "tiny/llama", "--receipt", "r.json"],
    }
    return lambda command, adapter, *rest: cli(command, adapter, "--base-config", TINY_BASE, *rest, *more[command])


@pytest.fixture
def resized(tmp_path: Path) -> Path:
    """Trained on a base with one more token: a warning, for nobody knows what the service does with it."""
    grown = {name: np.full((113, 48), 0.01, np.float32) for name in (EMBED, HEAD)}
    return write_adapter(tmp_path / "resized", {**tiny_tensors(), **grown}, tiny_config())


SAYS = "LP318 resized-vocabulary: the adapter was trained on a base resized from 112 to 113 tokens: PEFT raises"
NEXT = "Merge the adapter into the resized base and upload that as a model"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_warning_is_said_with_its_next_step(run: Callable[..., Any], resized: Path, command: str) -> None:
    result = run(command, resized)
    assert result.code == 0, result.text
    said = result.out if command == "check" else result.err
    assert SAYS in said
    assert NEXT in said
    assert "tensors are those that" not in result.text
    if command != "check":
        assert said.index(SAYS) < said.index("pack     ")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_warning_is_in_the_json(run: Callable[..., Any], resized: Path, command: str) -> None:
    said = json.loads(run(command, resized, "--format", "json").out)
    report = said if command == "check" else said["check"]
    found = next(finding for finding in report["findings"] if finding["code"] == "LP318")
    assert (found["severity"], found["count"], found["tensor"]) == ("warning", 2, EMBED)
    assert found["hint"].startswith(NEXT)
    if command != "release":  # the receipt has the first one and the count
        assert found["tensors"] == [EMBED, HEAD]


def test_the_receipt_has_every_finding_and_what_it_was_made_against(
    run: Callable[..., Any], resized: Path, tmp_path: Path
) -> None:
    import hashlib

    assert run("release", resized).code == 0
    checked = json.loads((tmp_path / "r.json").read_text())["check"]
    assert [finding["code"] for finding in checked["findings"]] == ["LP503", "LP318"]
    assert all(finding["message"] and finding["hint"] for finding in checked["findings"])
    assert (checked["errors"], checked["warnings"], checked["fail_on"]) == (0, 2, "error")
    assert checked["lora_packer"] == lora_packer.__version__
    assert checked["base_model"] == {
        "id": "tiny/llama",
        "config_source": str(TINY_BASE),
        "model_type": "llama",
        "config_sha256": hashlib.sha256(TINY_BASE.read_bytes()).hexdigest(),
    }
    again = run("release", resized)
    assert again.code == 0
    assert "done in an earlier run" in again.err
    assert SAYS in again.err
    assert NEXT in again.err


@pytest.mark.parametrize("command", COMMANDS)
def test_fail_on_warning_stops_every_command(
    run: Callable[..., Any], resized: Path, tmp_path: Path, command: str
) -> None:
    result = run(command, resized, "--fail-on", "warning")
    assert result.code == 1, result.text
    assert SAYS in result.out
    assert not (tmp_path / "a.zip").exists()
    if command != "check":
        assert "The adapter failed its check with" in result.err
        assert "warning" in result.err
    ignored = run(command, resized, "--fail-on", "warning", "--ignore", "LP318,LP503")
    assert ignored.code == 0, ignored.text
    assert "LP318" not in ignored.text


@pytest.mark.parametrize("command", COMMANDS)
def test_only_the_selected_rules_are_asked(run: Callable[..., Any], resized: Path, command: str) -> None:
    result = run(command, resized, "--select", "LP1,LP4", "--fail-on", "warning")
    assert result.code == 0, result.text
    wrong = run(command, resized, "--select", "LP9")
    assert (wrong.code, "no rule's code begins with 'LP9'" in wrong.err) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_infos_are_for_who_wants_details(run: Callable[..., Any], tmp_path: Path, command: str) -> None:
    padded = {name: (tensor.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, tensor in tiny_tensors().items()}
    adapter = write_adapter(tmp_path / "padded", padded)
    result = run(command, adapter, "--verbose")
    assert result.code == 0
    assert "LP406 padded-float32" in result.text
    if command != "check":
        assert "LP406" not in run(command, adapter).text


def test_verbose_lists_every_tensor(run: Callable[..., Any], resized: Path) -> None:
    brief, all_of_them = run("check", resized), run("check", resized, "--verbose")
    assert f"    tensor    {EMBED} (and 1 more)\n" in brief.out
    assert HEAD not in brief.out
    assert f"    tensor    {EMBED}\n              {HEAD}\n" in all_of_them.out
    published = run("publish", resized, "--verbose")
    assert HEAD in published.err


def test_every_tensor_of_a_cause_is_in_the_json(run: Callable[..., Any], tmp_path: Path) -> None:
    narrow = {name: tensor[:, :32].copy() if "lora_A" in name else tensor for name, tensor in tiny_tensors().items()}
    adapter = write_adapter(tmp_path / "narrow", narrow)
    for command in ("check", "pack"):
        said = json.loads(run(command, adapter, "--format", "json").out)
        finding = (said if command == "check" else said["check"])["findings"][0]
        assert (finding["code"], finding["count"]) == ("LP301", 4)
        assert sorted(finding["tensors"]) == sorted(name for name in narrow if "lora_A" in name)
        assert finding["tensors"][0] == finding["tensor"]


def test_a_target_that_is_known_to_refuse_it_makes_it_an_error(
    run: Callable[..., Any], resized: Path, tmp_path: Path
) -> None:
    result = run("check", resized, "--target", "peft")
    assert result.code == 1
    assert f"error {SAYS} a size mismatch on the base as it is\n" in result.out
    assert "Call resize_token_embeddings(113) on the base before the adapter is loaded" in result.out
    base = json.loads(TINY_BASE.read_text()) | {"vocab_size": 113}
    (tmp_path / "resized.json").write_text(json.dumps(base))
    followed = lora_packer.check(resized, base_config=tmp_path / "resized.json", target="peft")
    assert (followed.status, [finding.code for finding in followed.findings]) == ("ok", ["LP320"])


def test_nothing_of_a_good_adapter_is_doubted(run: Callable[..., Any]) -> None:
    for command in ("pack", "publish"):
        result = run(command, TINY)
        assert "8 tensors are those that llama and the config call for\n" in result.err
        assert "warning" not in result.err
