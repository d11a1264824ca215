"""Options, destination, credentials, name and base model are judged before the weights are read.

The adapter has a NaN: whoever reads its weights finds that first, and fails with 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE

from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]

NAN = ROOT / "fixtures" / "broken" / "nan"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0.01) as started:
        yield started


@pytest.fixture(autouse=True)
def _env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def arguments(command: str, to: str, adapter: Path = NAN, name: str = "first") -> list[str]:
    named = ["--model-name", name, "--base-model", "tiny/llama"] if command == "release" else []
    return [command, str(adapter), "--base-config", str(TINY_BASE), "--to", to, *named]


BOTH = pytest.mark.parametrize("command", ["publish", "release"])


@BOTH
@pytest.mark.parametrize(
    ("to", "more", "code", "says"),
    [
        ("s3://no-such-bucket/a/", [], 4, "no-such-bucket"),
        ("https://bucket/a/", [], 2, "is not an S3 destination"),
        ("s3://sandbox/a.zip", [], 2, "names an object"),
        ("s3://sandbox/a/", ["--expires-in", "99m"], 2, "100 minutes"),
        ("s3://sandbox/a/", ["--expires-in", "8d"], 2, "7 days"),
    ],
)
def test_the_destination_comes_first(cli: Cli, command: str, to: str, more: list[str], code: int, says: str) -> None:
    result = cli(*arguments(command, to), *more)
    assert (result.code, says in result.err) == (code, True), result.text
    assert "LP401" not in result.text


@BOTH
def test_credentials_come_first(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    result = cli(*arguments(command, "s3://sandbox/a/"))
    assert (result.code, "credentials" in result.err) == (4, True), result.text
    assert "LP401" not in result.text


def test_the_name_comes_first(cli: Cli) -> None:
    to = "s3://sandbox/taken/"
    assert cli(*arguments("release", to, TINY, "taken"), "--receipt", "a.json").code == 0
    result = cli(*arguments("release", to, NAN, "taken"), "--receipt", "b.json")
    assert (result.code, "'taken' already exists" in result.err) == (5, True), result.text
    assert "LP401" not in result.text


@pytest.mark.parametrize("command", ["pack", "publish", "release"])
def test_the_base_model_comes_first(cli: Cli, command: str) -> None:
    more = {
        "pack": [],
        "publish": ["--to", "s3://sandbox/a/"],
        "release": ["--to", "s3://sandbox/a/", "--model-name", "x"],
    }
    result = cli(command, NAN, "--base-model", "nowhere/at-all", *more[command])
    assert result.code == 3, result.text
    assert "LP401 not-finite" not in result.text
    alone = cli(command, NAN, "--base-model", "nowhere/at-all", "--select", "LP4", *more[command])
    assert (alone.code, "LP401 not-finite" in alone.text) == (1, True), alone.text


@BOTH
def test_what_is_well_is_checked_and_goes_on(cli: Cli, command: str) -> None:
    assert cli(*arguments(command, "s3://sandbox/well/", NAN, "well")).code == 1
    assert cli(*arguments(command, "s3://sandbox/well/", TINY, f"well-{command}")).code == 0


def test_a_receipt_is_named_after_adapter_and_model(cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = cli(*arguments("release", "s3://sandbox/two/", TINY, name))
        assert result.code == 0, result.text
        assert f"receipt  tiny-llama-qv.{name}.receipt.json" in result.out
    found = sorted(path.name for path in tmp_path.glob("*.json"))
    assert found == ["tiny-llama-qv.one.receipt.json", "tiny-llama-qv.two.receipt.json"]
    assert cli(*arguments("release", "s3://sandbox/two/", TINY, TINY.name)).code == 0
    assert (tmp_path / f"{TINY.name}.receipt.json").exists()
