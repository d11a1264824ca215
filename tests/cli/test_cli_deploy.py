"""From an upload to an answer on the command line: ``hardware``, ``deploy``, ``ask``, ``stop`` and ``release --deploy``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE
from service_support import start, start_v1
from together_support import FILES, presigned, serving_folder, zip_of

from lora_packer.sandbox import Sandbox, catalogue
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.sandbox.weights import base_id

__all__ = ["start", "start_v1"]

Cli = Callable[..., Any]
MODEL = "tiny/llama"


def only_endpoint(service: Service) -> str:
    (endpoint,) = service.endpoints.describe_all()
    found = endpoint["id"]
    assert isinstance(found, str)
    return found


def test_hardware_deploy_ask_stop(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1()
    listed = cli("hardware", MODEL)
    assert listed.code == 0, listed.text
    assert [line.split()[:3] for line in listed.out.splitlines()] == [
        ["1x_nvidia_a100_80gb_sxm", "$2.70/h", "insufficient"],
        ["1x_nvidia_h100_80gb_sxm", "$3.90/h", "available"],
        ["2x_nvidia_a100_80gb_sxm", "$5.40/h", "available"],
        ["8x_nvidia_h200_140gb_sxm", "$39.60/h", "unavailable"],
    ]
    deployed = cli("deploy", MODEL, "--wait", "--display-name", "mine")
    endpoint = only_endpoint(service)
    assert deployed.code == 0, deployed.text
    assert "state     STARTED" in deployed.out
    assert "cost      costs $3.90 an hour" in deployed.out
    assert f"lora-packer stop {endpoint}" in deployed.out
    assert service.endpoints.describe_all()[0]["display_name"] == "mine"
    again = cli("deploy", MODEL)
    assert "was there already" in again.err
    assert only_endpoint(service) == endpoint
    for name in (endpoint, MODEL):
        asked = cli("ask", name, "Is it you?")
        assert asked.code == 0
        assert asked.out.startswith(f"The sandbox answers for {MODEL}")
    stopped = cli("stop", endpoint)
    assert stopped.code == 0
    assert "nothing of it costs money" in stopped.out
    assert cli("ask", endpoint, "Still there?").code == 5
    assert cli("stop", endpoint, "--delete").code == 0
    assert service.endpoints.describe_all() == []


def test_json(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1()
    hardware = json.loads(cli("hardware", MODEL, "--format", "json").out)
    assert hardware["hardware"][0]["cents_per_minute"] == 4.5
    deployed = json.loads(cli("deploy", MODEL, "--hardware", "2x_nvidia_a100_80gb_sxm", "--format", "json").out)
    assert deployed["endpoint"]["id"] == only_endpoint(service)
    assert deployed["endpoint"]["cents_per_minute"] == 9.0
    answer = json.loads(cli("ask", MODEL, "Hello", "--format", "json").out)
    assert answer["answer"]["model"] == MODEL
    stopped = json.loads(cli("stop", only_endpoint(service), "--format", "json").out)
    assert stopped["endpoint"]["state"] == "STOPPED"
    assert {part["schema_version"] for part in (hardware, deployed, answer, stopped)} == {1}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hardware", "org/none"), 5, "not found"),
        (("hardware", "a b"), 2, "not the name of a model"),
        (("deploy", MODEL, "--hardware", "none"), 2, "lora-packer hardware"),
        (("deploy", MODEL, "--timeout", "soon"), 2, "not a duration"),
        (("deploy", "org/none"), 5, "not found"),
        (("deploy", MODEL, "--api", "v9"), 2, "is not one of 'auto', 'v1', 'v2'"),
        (("ask", MODEL, "Hello"), 5, "non-serverless"),
        (("ask", "endpoint-none", "Hello"), 5, "not found"),
        (("stop", "endpoint-none"), 5, "not found"),
        (("stop", "a b"), 2, "not the name of a model"),
        (("stop", "a/b"), 5, "no endpoint that is called a/b"),
        (("stop",), 2, "not clear what to stop"),
        (("stop", MODEL, "--all"), 2, "not both"),
        (("stop", MODEL, "--delete", "--no-wait"), 2, "without --no-wait"),
        (("deploy", MODEL, "--min-replicas", "3", "--max-replicas", "2"), 2, "is not possible"),
        (("deploy", MODEL, "--inactive-timeout", "90s"), 2, "whole minutes"),
        (("deploy", MODEL, "--attach", "endpoint-1", "--hardware", "x"), 2, "without options of a new endpoint"),
        (("endpoints", "nobody"), 5, "no endpoint nobody"),
        (("models", "nobody"), 5, "no upload of nobody"),
        (("models", "--delete"), 2, "not clear which model"),
    ],
)
def test_refusals(arguments: tuple[str, ...], code: int, said: str, cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1()
    result = cli(*arguments)
    assert result.code == code, result.text
    assert said in result.err
    assert result.out == ""
    assert service.endpoints.describe_all() == []


def test_a_wait_that_takes_too_long_says_what_it_costs(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1(delay=3600)
    result = cli("deploy", MODEL, "--wait", "--timeout", "0s")
    assert result.code == 6
    assert "was still PENDING" in result.err
    assert "costs $3.90 an hour" in result.err
    assert f"lora-packer stop {only_endpoint(service)}" in result.err


def test_the_closed_door(cli: Cli, start_v1: Callable[..., Service]) -> None:
    start_v1(faults=Faults(v1_endpoints_closed=True))
    result = cli("deploy", MODEL)
    assert result.code == 5
    assert "endpoints_v1_create_access_disabled" in result.err
    assert "version 2" in result.err


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_the_sandbox_runs_out_of_hardware_and_its_endpoints_fail(
    api: str, cli: Cli, start: Callable[..., Service], url: str
) -> None:
    for kind, code, said in [
        ("no-hardware", 5, "all of it is taken"),
        ("endpoint", 5, "End it with `lora-packer stop"),
    ]:
        service = start(faults=replace(Faults.named(kind), v1_endpoints_closed=False))
        names = ["--model-name", "my-adapter", "--base-model", "tiny/llama", "--api", api]
        assert cli("submit", "-", *names, input=url).code == 0
        service.jobs.join()
        service.imports.join()
        result = cli("deploy", "devuser/my-adapter", "--api", api, "--wait")
        assert result.code == code, result.text
        assert said in result.err
    assert ("is ERROR" if api == "v1" else "is FAILED") in result.err


# --- release ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.fixture
def env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The sandbox's environment, and a working directory of its own."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return sandbox.environment()


def release_arguments(name: str, sandbox: Sandbox) -> list[str]:
    to = f"s3://{sandbox.s3.bucket}/{name}/"
    return [
        "release", str(TINY), "--base-config", str(TINY_BASE), "--model-name", name,
        "--base-model", "tiny/llama", "--to", to, "--receipt", f"{name}.json",
    ]  # fmt: skip


def test_the_whole_page_in_one_command(cli: Cli, env: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    arguments = [*release_arguments("answers", sandbox), "--deploy", "--ask", "What is the capital of France?"]
    first = cli(*arguments)
    assert first.code == 0, first.text
    assert "answer   The sandbox answers for devuser/answers" in first.out
    receipt = json.loads((tmp_path / "answers.json").read_text())
    endpoint = receipt["endpoint"]["id"]
    assert receipt["endpoint"]["state"] == "READY"
    assert receipt["release"]["api"] == "v2"
    assert receipt["answer"]["prompt"] == "What is the capital of France?"
    assert f"lora-packer stop {endpoint}" in first.out
    assert "costs $3.90 an hour" in first.out
    again = cli(*arguments)
    assert again.code == 0
    assert again.out == first.out
    assert "is there already" in again.err
    other = cli(*arguments[:-1], "And of Spain?")
    assert "question of 13 characters" in other.out
    mine = [one["id"] for one in sandbox.service.deployments.describe_all() if one["name"] == "devuser/answers"]
    assert mine == [endpoint]
    assert cli("stop", endpoint, "--delete").code == 0


@pytest.mark.parametrize("more", [["--ask", "Hello"], ["--deploy", "--no-wait"]])
def test_asking_needs_a_deployment_and_that_a_complete_job(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, more: list[str]
) -> None:
    result = cli(*release_arguments("unasked", sandbox), *more)
    assert result.code == 2
    assert "--deploy" in result.err
    assert "pack " not in result.err


def test_a_deployment_that_is_refused_keeps_the_upload(cli: Cli, env: dict[str, str], sandbox: Sandbox) -> None:
    arguments = release_arguments("kept", sandbox)
    refused = cli(*arguments, "--deploy", "--hardware", "none")
    assert refused.code == 2
    assert "lora-packer hardware devuser/kept" in refused.err
    assert "status   Complete" in cli(*arguments).out


# --- version 2 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    with serving_folder(tmp_path) as address:
        yield presigned(host=address, path="/a.zip")


def test_version_2_from_submit_to_deleted(cli: Cli, start: Callable[..., Service], url: str) -> None:
    service = start()
    names = ["--model-name", "my-adapter", "--base-model", "tiny/llama"]
    submitted = cli("submit", "-", *names, input=url)
    assert submitted.code == 0, submitted.text
    (job,) = service.imports.records()
    assert f"lora-packer wait {job.id}\n" in submitted.out
    service.imports.join()
    assert cli("wait", job.id).code == 0
    assert "Complete" in cli("status", job.id).out
    assert cli("status", job.id, "--api", "v1").code == 5  # it does not know it
    listed = cli("hardware", "devuser/my-adapter")
    assert listed.out.split()[1:3] == ["$3.90/h", "available"]
    deployed = cli("deploy", "devuser/my-adapter", "--wait")
    assert deployed.code == 0, deployed.text
    (endpoint,) = service.deployments.describe_all()
    assert f"lora-packer stop {endpoint['id']}\n" in deployed.out
    assert "state     READY" in deployed.out
    asked = cli("ask", endpoint["id"], "Is it you?")
    assert asked.out.startswith("The sandbox answers for devuser/my-adapter")
    stopped = cli("stop", endpoint["id"])
    assert "nothing of it costs money" in stopped.out
    assert cli("ask", endpoint["id"], "Still there?").code == 5
    assert cli("stop", endpoint["id"], "--delete").code == 0
    assert service.deployments.describe_all() == []


def test_version_2_shows_what_the_validation_found(cli: Cli, start: Callable[..., Service], url: str) -> None:
    service = start(faults=Faults(fail_job="rank 512 is not supported"))
    names = ["--model-name", "my-adapter", "--base-model", "tiny/llama", "--api", "v2"]
    result = cli("submit", "-", *names, "--wait", input=url)
    assert result.code == 5
    assert "adapter_files: rank 512 is not supported" in result.err
    (job,) = service.imports.records()
    looked = cli("status", job.id)
    assert looked.code == 5
    assert "rank 512" in looked.out


def test_release_to_the_first_answer_on_a_sandbox_of_its_own(cli: Cli) -> None:
    arguments = [
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "demo", "--base-model", "tiny/llama",
        "--sandbox", "--deploy", "--ask", "What is the capital of France?",
    ]  # fmt: skip
    closed = cli(*arguments, "--api", "v1")
    assert closed.code == 5, closed.text
    assert "endpoints_v1_create_access_disabled" in closed.err
    result = cli(*arguments, "--api", "v2")
    assert result.code == 0, result.text
    assert "answer   The sandbox answers for devuser/demo" in result.out
    assert "cost     nothing: the sandbox has stopped" in result.out


def test_where_version_1_creates_no_endpoint_version_2_does(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(delay=0, faults=Faults(v1_endpoints_closed=True)) as closed:
        for name, value in closed.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        arguments = [*release_arguments("closed", closed), "--deploy", "--ask", "Hello"]
        refused = cli(*arguments, "--api", "v1")
        assert refused.code == 5
        assert "endpoints_v1_create_access_disabled" in refused.err
        assert "--api v2 --deploy" in refused.err
        arguments[arguments.index("closed.json")] = "again.json"
        answered = cli(*arguments)
        assert answered.code == 0, answered.text
        again = cli(*arguments)
        assert again.out == answered.out
        (only,) = closed.service.deployments.describe_all()
        assert len(only["deployments"]) == 1
        assert len(closed.service.imports.records()) == 1


# --- what is asked before anything is sent ---------------------------------------------------------------------------


def test_a_taken_name_and_a_refused_key_are_told_before_the_upload(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = release_arguments("early", sandbox)
    assert cli(*arguments, "--no-wait").code == 0
    arguments[-1] = "another.json"
    taken = cli(*arguments)
    assert taken.code == 5
    assert "'early' already exists" in taken.err
    assert "pack " not in taken.err
    monkeypatch.setenv("TOGETHER_API_KEY", "another")
    refused = cli(*release_arguments("keyed", sandbox))
    assert refused.code == 5
    assert "HTTP 401" in refused.err
    assert "pack " not in refused.err


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_base_model_that_is_not_listed_is_a_warning(
    api: str, cli: Cli, env: dict[str, str], sandbox: Sandbox
) -> None:
    arguments = release_arguments(f"unlisted-{api}", sandbox)
    arguments[arguments.index("tiny/llama")] = "nobody/llama"
    result = cli(*arguments, "--api", api)
    assert result.code == 5
    assert "does not list nobody/llama" in result.err
    assert "pack " in result.err


def test_a_question_without_an_answer_is_a_note(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_packer.errors import ServiceError
    from lora_packer.together import v2

    def refuse(*_: object) -> bool:
        raise ServiceError("Could not list the models: access was denied (HTTP 403).", status=403)

    monkeypatch.setattr(v2, "hosts", refuse)
    result = cli(*release_arguments("noted", sandbox))
    assert result.code == 0, result.text
    assert "access was denied (HTTP 403). The submission will tell." in result.err


# --- release --attach ------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(sandbox: Sandbox) -> str:
    """An endpoint of the base model, which runs."""
    service = sandbox.service
    endpoint = service.deployments.create(f"shared-{len(service.deployments.describe_all())}")["id"]
    config = catalogue.configurations([MODEL])[0]
    made = service.deployments.deploy(
        endpoint, name="base", model=catalogue.model_path(base_id(MODEL)), config=f"projects/x/configs/{config['id']}",
        hardware="1xnvidia-h100-80gb", autoscaling={"minReplicas": 1, "maxReplicas": 1},
    )["id"]  # fmt: skip
    service.deployments.route(endpoint, [{"deploymentId": made, "weight": 1}], None)
    return str(endpoint)


def test_release_attaches_to_what_runs_already(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, shared: str, tmp_path: Path
) -> None:
    before = len(sandbox.service.deployments.describe_all())
    arguments = [*release_arguments("attached", sandbox), "--attach", shared, "--ask", "Is it you?"]
    first = cli(*arguments)
    assert first.code == 0, first.text
    assert f"endpoint {shared} READY, with devuser/attached attached" in first.out
    assert "the adapter costs nothing more" in first.out
    assert "answer   The sandbox answers for devuser/attached" in first.out
    receipt = json.loads((tmp_path / "attached.json").read_text())
    assert (receipt["endpoint"]["id"], receipt["endpoint"]["attached"]) == (shared, "devuser/attached")
    again = cli(*arguments)
    assert again.code == 0, again.text
    assert again.out == first.out
    (deployment,) = sandbox.service.deployments.below(shared)
    assert len(sandbox.service.deployments.attached(shared, deployment["id"])) == 1
    assert len(sandbox.service.deployments.describe_all()) == before


def test_an_interrupt_while_it_is_being_attached(
    cli: Cli, env: dict[str, str], sandbox: Sandbox, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_packer.together import v2

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = [*release_arguments("half-attached", sandbox), "--attach", shared]
    with monkeypatch.context() as patch:
        patch.setattr(v2, "attach", interrupt)
        stopped = cli(*arguments)
    assert stopped.code == 130, stopped.text
    assert (
        f"The adapter may be attached to {shared} by now, and then stays so: the next run looks first." in stopped.err
    )
    assert "Go on with: lora-packer release " in stopped.err
    done = cli(*arguments)
    assert done.code == 0, done.text
    assert "with devuser/half-attached attached" in done.out


@pytest.mark.parametrize("more", [["--deploy"], ["--hardware", "x"], ["--no-wait"]])
def test_what_does_not_go_with_attach(cli: Cli, env: dict[str, str], sandbox: Sandbox, more: list[str]) -> None:
    result = cli(*release_arguments("unattached", sandbox), "--attach", "ep_1", *more)
    assert result.code == 2, result.text
    assert "--attach" in result.err
    assert "pack " not in result.err
