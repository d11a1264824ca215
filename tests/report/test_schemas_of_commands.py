"""The JSON of every command against its published schema, in which each field that is printed has to be described."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE, ones, tiny_config, tiny_tensors, write_adapter
from schemas import schema_of, strict
from service_support import V1_ENDPOINTS

from lora_packer.sandbox import Sandbox

Asked = Callable[..., Any]
NAMES = ("--base-model", "tiny/llama", "--base-config", TINY_BASE)


@pytest.fixture
def asked(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Run a command with ``--format json``, hold what it printed against its schema, and return it."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, code: int = 0) -> Any:
        result = cli(*words, "--format", "json")
        assert result.code == code, result.text
        value = json.loads(result.out)
        name = schema_of([str(word) for word in words], value)
        assert name is not None
        strict(name).validate(value)
        return value

    return run


def test_commands_of_this_machine(asked: Asked, tmp_path: Path) -> None:
    tensors = {name: tensor * 2 for name, tensor in tiny_tensors().items() if "layers.1" not in name}
    other = write_adapter(tmp_path / "other", tensors, tiny_config(lora_alpha=16, bias=...))
    changed = asked("diff", TINY, other)
    assert {item["change"] for item in changed["modules"]} == {"changed", "removed"}
    assert changed["config"][0] == {"field": "lora_alpha", "old": 8, "new": 16}
    assert asked("diff", TINY, TINY)["status"] == "same"
    assert asked("pack", TINY, "--base-config", TINY_BASE, "--output", "a.zip")["check"]["status"] == "ok"
    assert asked("pack", TINY, "--no-check", "--output", "b.tar.gz", "--compress")["check"] is None
    assert asked("identify", TINY, code=1)["candidates"] == []
    q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    sizes = {"A": (1, 1024), "B": (2048, 1)}  # of Qwen3-0.6B, which has 28 layers
    shaped = {q.format(layer, half): ones(*size) for layer in range(28) for half, size in sizes.items()}
    known = write_adapter(tmp_path / "known", shaped, tiny_config(r=1, target_modules=["q_proj"]))
    assert asked("identify", known)["candidates"][0]["id"] == "Qwen/Qwen3-0.6B"
    assert asked("rule", "LP306")["rule"]["code"] == "LP306"
    assert asked("rule")["rules"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0, faults=V1_ENDPOINTS) as running:
        yield running


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_commands_that_talk_to_the_service(
    asked: Asked, sandbox: Sandbox, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    sandbox.hub.add("me/mine", TINY)
    to, chosen = sandbox.destination, ("--api", api)
    stored = asked("publish", TINY, *NAMES, "--to", to, "--show-url")
    where = f"s3://{stored['object']['bucket']}/{stored['object']['key']}"
    assert asked("publish", "--clean", "--to", to)["removed"] == []
    assert asked("presign", where, "--url-file", "it.url")["object"]["uploaded"] is False
    named = ("--model-name", f"schema-{api}")
    job = asked("submit", "--url-file", "it.url", *NAMES[:2], *named, *chosen)["job"]
    assert asked("wait", job["id"])["job"]["status"] == "Complete"
    assert asked("status", job["id"])["job"]["updates"]
    model = job["model_name"]
    assert asked("submit", "hf://me/mine", *NAMES, "--model-name", f"hub-{api}", *chosen)["commit"]
    assert asked("hardware", model, *chosen)["hardware"]
    assert asked("deploy", model, "--dry-run", *chosen)["dry_run"]["there"] is None
    endpoint = asked("deploy", model, "--wait", *chosen)["endpoint"]["id"]
    assert endpoint in [one["id"] for one in asked("endpoints", *chosen)["endpoints"]]
    assert asked("endpoints", endpoint, *chosen)["endpoint"]["cents_per_hour"]
    assert model in [one["name"] for one in asked("models", *chosen)["models"]]
    assert asked("models", model, *chosen)["model"]["name"] == model
    assert asked("ask", endpoint, "Hi", *chosen)["answer"]["text"]
    assert asked("ask", endpoint, "Hi", "--expect", "nothing like it", *chosen, code=7)["smoke"]["failures"]
    assert asked("stop", endpoint, "--delete", *chosen)["endpoint"]["id"] == endpoint
    assert asked("stop", "--all", *chosen)["endpoints"] == []
    if api == "v2":
        assert asked("models", model, "--delete", *chosen)["deleted"] is True
    again = ("release", TINY, *NAMES, "--model-name", f"done-{api}", "--to", to, *chosen)
    verdict, code = {"v1": ("not compared", 3), "v2": ("passed", 0)}[api]
    asked(*again, "--receipt", "r.json", "--deploy", "--ask", "Hi", "--compare-base", code=code)
    receipt = json.loads(Path("r.json").read_text())
    strict("receipt").validate(receipt)
    assert receipt["smoke"]["verdict"] == verdict
    assert asked(*again, "--receipt", "other.json", "--skip-existing")["submission"]["skipped"] is True
    asked("stop", "--all", *chosen)
