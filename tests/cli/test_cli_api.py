"""``--api auto`` on the command line: said in one line, the same in every command, and kept in the receipt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE
from together_support import FILES, presigned, serving_folder, zip_of

from lora_packer.sandbox import Sandbox
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.weights import base_id

Cli = Callable[..., Any]

V1_LINE = "version 1 of the API: the key has no project (version 1 ends with 2026"
V2_LINE = "version 2 of the API: the key is one of the project devuser"


def started(monkeypatch: pytest.MonkeyPatch, folder: Path, **faults: bool) -> Iterator[Sandbox]:
    with Sandbox(delay=0, faults=Faults(**faults)) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("TOGETHER_PROJECT_ID")  # so that the key is asked about
        monkeypatch.chdir(folder)
        yield sandbox


@pytest.fixture
def with_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    yield from started(monkeypatch, tmp_path)


@pytest.fixture
def without_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    yield from started(monkeypatch, tmp_path, no_project=True)


def release(cli: Cli, sandbox: Sandbox, *more: str) -> Any:
    return cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "mine", "--base-model", "tiny/llama",
        "--to", sandbox.destination, "--receipt", "mine.json", *more,
    )  # fmt: skip


def kept_version() -> str:
    found = json.loads(Path("mine.json").read_text())["release"]["api"]
    assert isinstance(found, str)
    return found


def test_a_key_without_a_project_does_version_1_to_complete(cli: Cli, without_project: Sandbox) -> None:
    done = release(cli, without_project)
    assert done.code == 0, done.text
    assert "status   Complete" in done.out
    assert V1_LINE in done.err
    assert kept_version() == "v1"
    assert len(without_project.service.jobs.records()) == 1


def test_a_key_of_a_project_does_version_2(cli: Cli, with_project: Sandbox) -> None:
    done = release(cli, with_project, "--deploy", "--ask", "Hello")
    assert done.code == 0, done.text
    assert "answer   The sandbox answers for devuser/mine" in done.out
    assert V2_LINE in done.err
    assert "ends with 2026" not in done.err
    assert kept_version() == "v2"
    assert with_project.service.jobs.records() == []


def test_the_receipt_of_an_earlier_run_decides(cli: Cli, with_project: Sandbox) -> None:
    assert release(cli, with_project, "--api", "v1", "--no-wait").code == 0
    done = release(cli, with_project)
    assert done.code == 0, done.text
    assert "as the receipt of an earlier run says" in done.err
    assert "ends with 2026" in done.err
    assert kept_version() == "v1"
    (job,) = with_project.service.jobs.records()
    assert job.id in done.out
    other = release(cli, with_project, "--api", "v2")
    assert other.code == 2
    assert "api differ" in other.err


def test_every_command_finds_its_version_by_itself(cli: Cli, with_project: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    names = ("--model-name", "mine", "--base-model", "tiny/llama", "--format", "json")
    with serving_folder(tmp_path) as address:
        url = presigned(host=address, path="/a.zip")
        first = json.loads(cli("submit", "-", *names, "--wait", input=url).out)
        second = json.loads(cli("submit", "-", *names, "--wait", "--api", "v1", input=url).out)
    assert (first["api"], second["api"]) == ("v2", "v1")
    for told in (first, second):
        for command in ("status", "wait"):
            looked = cli(command, told["job"]["id"], "--format", "json")
            assert json.loads(looked.out)["api"] == told["api"]
            assert f"{told['job']['id']} is an id of it" in looked.err
    hardware = cli("hardware", "devuser/mine", "--format", "json")
    assert json.loads(hardware.out)["api"] == "v2"
    deployed = json.loads(cli("deploy", "devuser/mine", "--wait", "--format", "json").out)
    assert deployed["api"] == "v2"
    answer = cli("ask", deployed["endpoint"]["id"], "Hello", "--format", "json", "--quiet")
    assert json.loads(answer.out)["api"] == "v2"
    assert answer.err == ""
    assert json.loads(cli("stop", deployed["endpoint"]["id"], "--format", "json").out)["api"] == "v2"


@pytest.mark.parametrize("base", ["Qwen/Qwen3.5-9B-FP8", "mistralai/Mixtral-8x7B-Instruct-v0.1"])
def test_a_base_model_in_several_quantizations_or_without_a_link_is_served(
    base: str, cli: Cli, with_project: Sandbox
) -> None:
    done = cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "mine", "--base-model", base,
        "--to", with_project.destination, "--receipt", "mine.json", "--deploy", "--ask", "Hello",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert "does not list" not in done.err
    (model,) = with_project.service.models.values()
    assert model["baseModelId"] == base_id(base)


@pytest.mark.parametrize("plain", [False, True])
def test_the_reason_is_told_wherever_the_service_puts_it(
    plain: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for sandbox in started(monkeypatch, tmp_path, plain_errors=plain):
        service = sandbox.service
        refused = cli("submit", "org/repo", "--no-check", "--model-name", "a", "--base-model", "ml_none")
        assert refused.code == 5
        assert "base model not found" in refused.err
        assert "Check --base-model" in refused.err
        body = httpx2.post(
            service.base_url.replace("/v1", "/v2/projects/proj-sandbox/models"),
            json={"name": "a"},
            headers={"Authorization": f"Bearer {service.api_key.reveal()}"},
        ).json()
        assert body == (
            {
                "error": {
                    "message": "base_model_id is required",
                    "type": "invalid_request_error",
                    "param": "baseModelId",
                    "code": None,
                }
            }
            if plain
            else {"message": "invalid argument", "code": 3, "details": [{"detail": "base_model_id is required"}]}
        )


def test_a_validation_that_breaks_off_is_told_as_the_services_own_fault(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for sandbox in started(monkeypatch, tmp_path, validation_breaks=True):
        done = release(cli, sandbox, "--timeout", "2s")
        assert done.code == 6, done.text
        assert "was still Error after 2 s: the service's validation could not complete" in done.err
        assert "ask the service's support" in done.err
        (job,) = sandbox.service.imports.records()
        looked = cli("status", job.id)
        assert looked.code == 0
        assert "an internal error of its own" in looked.out


def test_a_folder_is_sent_directly_where_the_key_has_a_project(cli: Cli, with_project: Sandbox) -> None:
    done = cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "mine", "--base-model", "tiny/llama",
        "--receipt", "mine.json", "--direct",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert kept_version() == "v2"


def test_a_folder_is_not_sent_directly_without_a_project(cli: Cli, without_project: Sandbox) -> None:
    done = cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "mine", "--base-model", "tiny/llama",
        "--receipt", "mine.json", "--direct",
    )  # fmt: skip
    assert done.code == 2, done.text
    assert "version 1 was chosen" in done.err
    assert "key of a project" in done.err


@pytest.mark.parametrize("base", ["someone/base-of-my-own", "just-a-name", "ml_CbJNwQC2ZqCU2iFT3mrCh"])
def test_a_rehearsal_hosts_the_base_model_that_it_names(base: str, cli: Cli) -> None:
    done = cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "demo", "--base-model", base,
        "--sandbox", "--deploy", "--ask", "Hello",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert "answer   The sandbox answers" in done.out
    assert "does not list" not in done.err
