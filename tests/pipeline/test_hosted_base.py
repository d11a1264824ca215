"""The base model that is hosted decides: whatever --base-config says, and in every command that checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter

from lora_packer.hub import Hub, HubRepo
from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]

LISTED = "meta-llama/Llama-3.3-70B-Instruct"
TINY_FIELDS = json.loads(TINY_BASE.read_text())


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """With two bases on its Hub: the adapter's own, and a wider one."""
    folder = tmp_path_factory.mktemp("bases")
    names = ("org/tiny", "org/wider", "org/brand-new", "nowhere/at-all", LISTED)
    with Sandbox(base_models=names, delay=0.01) as started:
        for name, changes in (("tiny", {}), ("wider", {"hidden_size": 64}), ("brand-new", {"model_type": "not_yet"})):
            place = folder / name
            place.mkdir()
            (place / "config.json").write_text(json.dumps(TINY_FIELDS | changes))
            started.hub.add(f"org/{name}", place)
        yield started


@pytest.fixture
def run(
    cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Run a command on an adapter, and return its result and the report in its JSON."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    to = ["--to", f"s3://{sandbox.s3.bucket}/{tmp_path.name}/"]
    more = {
        "check": [],
        "pack": ["--output", "a.zip"],
        "publish": to,
        "release": [*to, "--model-name", "m-" + tmp_path.name.replace("_", "-")],
    }

    def go(command: str, *arguments: object, adapter: Path = TINY) -> tuple[Any, dict[str, Any]]:
        result = cli(command, adapter, *arguments, *more[command], "--format", "json")
        said = json.loads(result.out)
        return result, said if command == "check" else said["check"]

    return go


WIDER = "wider.json"


def config_arguments(given: str, folder: Path) -> list[str]:
    if given == "absent":
        return []
    if given == "right":
        return ["--base-config", str(TINY_BASE)]
    (folder / WIDER).write_text(json.dumps(TINY_FIELDS | {"hidden_size": 64}))
    return ["--base-config", WIDER]


# What is hosted -> what is given as the base config -> the exit code, and the rules of what is found or not checked.
TABLE = [
    (LISTED, "right", 1, {"LP301"}),
    (LISTED, "wrong", 1, {"LP301"}),
    (LISTED, "absent", 1, {"LP301"}),
    ("org/wider", "right", 1, {"LP301"}),
    ("org/wider", "wrong", 1, {"LP301"}),
    ("org/wider", "absent", 1, {"LP301"}),
    ("nowhere/at-all", "right", 0, {"LP503"}),
    ("nowhere/at-all", "wrong", 1, {"LP301", "LP503"}),
    ("nowhere/at-all", "absent", 3, set()),
    ("org/brand-new", "right", 0, {"LP503"}),
    ("org/brand-new", "wrong", 1, {"LP301", "LP503"}),
    ("org/brand-new", "absent", 3, set()),
    ("org/tiny", "right", 0, set()),
    ("org/tiny", "wrong", 1, {"LP301"}),
    ("org/tiny", "absent", 0, set()),
]


@pytest.mark.parametrize("command", ["check", "pack", "publish", "release"])
@pytest.mark.parametrize(("hosted", "given", "code", "rules"), TABLE)
def test_what_is_hosted_decides(
    run: Callable[..., Any], tmp_path: Path, command: str, hosted: str, given: str, code: int, rules: set[str]
) -> None:
    result, report = run(command, "--base-model", hosted, *config_arguments(given, tmp_path))
    assert result.code == code, result.text
    assert {finding["code"] for finding in report["findings"]} - {"LP501"} == rules
    assert bool(report["unchecked"]) == (code == 3)


@pytest.mark.parametrize("command", ["check", "pack", "publish", "release"])
def test_could_not_check_is_said_once_with_the_way_out(run: Callable[..., Any], cli: Cli, command: str) -> None:
    _, report = run(command, "--base-model", "nowhere/at-all")
    reasons = {item["reason"] for item in report["unchecked"]}
    assert sum("nowhere/at-all does not exist, or is private" in reason for reason in reasons) == 1
    # What is not going to be packed is not read whole, either.
    assert len(reasons) == (1 if command == "check" else 2)
    assert {"LP301", "LP503"} <= {item["code"] for item in report["unchecked"]}
    text = cli("check", TINY, "--base-model", "nowhere/at-all")
    assert text.out.count("could not be had") == 1
    assert "Give the base model's config.json with --base-config." in text.out


def test_no_hint_leads_around_a_known_misfit(run: Callable[..., Any], tmp_path: Path) -> None:
    for hosted, given in ((LISTED, "right"), (LISTED, "absent"), ("org/wider", "wrong"), ("org/wider", "right")):
        _, report = run("check", "--base-model", hosted, *config_arguments(given, tmp_path))
        hints = [finding["hint"] for finding in report["findings"] if finding["severity"] == "error"]
        assert hints
        assert not [hint for hint in hints if "--base-config" in hint or "the config of the base" in hint]
        assert all("--base-model" in hint for hint in hints)


def test_a_base_config_that_is_not_the_hosted_one_says_so(run: Callable[..., Any], tmp_path: Path) -> None:
    result, report = run("check", "--base-model", "org/tiny", *config_arguments("wrong", tmp_path))
    assert result.code == 1
    error = next(finding for finding in report["findings"] if finding["severity"] == "error")
    assert error["hint"] == "It fits org/tiny, which is hosted: leave --base-config out."
    followed, _ = run("check", "--base-model", "org/tiny")
    assert followed.code == 0


def test_the_report_says_what_the_check_was_made_against(run: Callable[..., Any]) -> None:
    import hashlib

    _, report = run("check", "--base-model", "org/tiny")
    assert report["base_model"] == {
        "id": "org/tiny",
        "config_source": "org/tiny",
        "model_type": "llama",
        "config_sha256": hashlib.sha256(json.dumps(TINY_FIELDS).encode()).hexdigest(),
    }
    _, report = run("check", "--base-config", TINY_BASE)
    assert report["base_model"]["config_sha256"] == hashlib.sha256(TINY_BASE.read_bytes()).hexdigest()
    _, report = run("check", "--base-model", f"{LISTED}-Turbo")
    assert report["base_model"]["config_source"] == f"catalogue:{LISTED}"
    assert len(report["base_model"]["config_sha256"]) == 64


def test_the_hubs_cache_has_what_the_hub_does_not_tell(run: Callable[..., Any], tmp_path: Path) -> None:
    place = tmp_path / "hub" / "models--private--base" / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    (place / "config.json").write_text(TINY_BASE.read_text())
    adapter = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=str(place)))
    result, report = run("check", "--base-model", "private/base", adapter=adapter)
    assert (result.code, report["findings"]) == (0, [])
    assert report["base_model"]["config_source"] == str(place / "config.json")
    result, report = run("check", "--base-model", "another/base", adapter=adapter)
    assert result.code == 3


def test_a_cache_path_of_another_machine_names_a_repository(run: Callable[..., Any], tmp_path: Path) -> None:
    named = "/home/x/.cache/huggingface/hub/models--org--tiny/snapshots/0123456789abcdef"
    for name in (named, named.replace("/", "\\").replace("\\home", "C:")):
        adapter = write_adapter(tmp_path / name[:1], None, tiny_config(base_model_name_or_path=name))
        result, report = run("check", adapter=adapter)
        assert (result.code, report["base_model"]["config_source"]) == (0, "org/tiny")


@pytest.mark.parametrize(
    ("given", "tries", "code", "said"), [("right", 1, 0, "LP503"), ("absent", 6, 3, "could not be had")]
)
def test_a_hub_that_does_not_answer_is_not_waited_for_where_a_config_is_given(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, tries: int, code: int, said: str
) -> None:
    """The hosted base's own config is then only compared; it has two names, and the Hub may have either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("lora_packer.hub.client._FIRST_PAUSE", 0)
    asked = []

    def silent(_hub: Hub, _repo: HubRepo, path: str, *_: object) -> bytes:
        asked.append(path)
        raise httpx2.ReadTimeout("no answer")

    monkeypatch.setattr(Hub, "_once", silent)
    result = cli("check", TINY, "--base-model", "nowhere/at-all-Turbo", *config_arguments(given, tmp_path))
    assert (result.code, said in result.text) == (code, True), result.text
    assert len(asked) == tries
