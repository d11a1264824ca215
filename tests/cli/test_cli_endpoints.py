"""The life of models and endpoints on the command line: listed, deployed, attached, asked, stopped, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
from lora_packer.together import Client
from lora_packer.together.v2 import deployments

__all__ = ["start", "start_v1"]

Cli = Callable[..., Any]
MODEL, BASE = "devuser/my-adapter", "tiny/llama"
REPLICAS = {"minReplicas": 1, "maxReplicas": 1}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    with serving_folder(tmp_path) as address:
        yield presigned(host=address, path="/a.zip")


@pytest.fixture
def uploaded(cli: Cli, start: Callable[..., Service], url: str) -> Callable[..., Service]:
    """A service with an adapter on it."""

    def upload(**options: Any) -> Service:
        service = start(**options)
        sent = cli("submit", "-", "--model-name", "my-adapter", "--base-model", BASE, input=url)
        assert sent.code == 0, sent.text
        service.imports.join()
        return service

    return upload


def base_deployment(service: Service) -> tuple[str, str]:
    """A deployment of the base model with traffic, as somebody made it by other means: endpoint and deployment."""
    base = base_id(BASE)
    endpoint = service.deployments.create("shared")["id"]
    config = catalogue.configurations([BASE])[0]
    made = service.deployments.deploy(
        endpoint, name="base", model=catalogue.model_path(base), config=f"projects/x/configs/{config['id']}",
        hardware="1xnvidia-h100-80gb", autoscaling=REPLICAS,
    )["id"]  # fmt: skip
    service.deployments.route(endpoint, [{"deploymentId": made, "weight": 1}], None)
    return endpoint, made


# ---- models


def test_models(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    (model,) = service.models.values()
    listed = cli("models")
    assert listed.out == f"{MODEL}  {model['id']}  on {BASE}\n"
    for name in (MODEL, "my-adapter", model["id"]):
        shown = cli("models", name)
        assert shown.code == 0, shown.text
        assert "SUCCESS" in shown.out
        assert f"adapter_config.json  {len(FILES['adapter_config.json']):,} bytes" in shown.out
    data = json.loads(cli("models", MODEL, "--format", "json").out)
    assert {file["path"] for file in data["model"]["revisions"][0]["files"]} == set(FILES)
    assert cli("deploy", MODEL).code == 0
    refused = cli("models", MODEL, "--delete")
    assert refused.code == 5
    assert "the model is referenced by a live deployment" in refused.err
    assert "lora-packer stop" in refused.err
    assert cli("stop", MODEL, "--delete").code == 0
    assert cli("models", MODEL, "--delete").out == f"deleted   {MODEL}\n"
    assert cli("models").out == "no adapters\n"
    assert cli("models", MODEL).code == 5


def test_a_revision_that_failed_shows_what_the_validation_found(cli: Cli, uploaded: Callable[..., Service]) -> None:
    uploaded(faults=Faults(fail_job="rank 512 is not supported"))
    shown = cli("models", MODEL)
    assert "FAILED" in shown.out
    assert "adapter_files: rank 512 is not supported" in shown.out


def test_version_1_lists_what_was_uploaded(cli: Cli, start_v1: Callable[..., Service], url: str) -> None:
    service = start_v1()
    assert cli("submit", "-", "--model-name", "my-adapter", "--base-model", BASE, input=url).code == 0
    service.jobs.join()
    assert cli("models").out == f"{MODEL}  Complete\n"
    assert "status    Complete" in cli("models", "my-adapter").out
    refused = cli("models", MODEL, "--delete")
    assert refused.code == 5
    assert "no call that deletes" in refused.err


# ---- endpoints


def test_endpoints(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    assert cli("endpoints").out == "no endpoints\n"
    assert cli("deploy", MODEL, "--max-replicas", "3", "--inactive-timeout", "2h").code == 0
    (endpoint,) = service.deployments.describe_all()
    (deployment,) = service.deployments.below(endpoint["id"])
    assert deployment["autoscaling"] == {"minReplicas": 1, "maxReplicas": 3}
    assert deployment["inactiveTimeout"] == 120
    listed = cli("endpoints")
    assert listed.code == 0, listed.text
    row = listed.out.splitlines()[1]
    assert row.split()[:2] == [endpoint["id"], "READY"]
    assert "$3.90 to $11.70/h" in row
    assert MODEL in row
    assert listed.out.splitlines()[-1] == "in all: $3.90 to $11.70/h"
    for name in (endpoint["id"], endpoint["name"], "my-adapter", deployment["id"]):
        shown = cli("endpoints", name)
        assert shown.code == 0, shown.text
        assert f"deployed  {deployment['id']}  READY  $3.90 to $11.70/h" in shown.out
        assert "1 to 3 replicas (1 ready), traffic weight 1" in shown.out
    data = json.loads(cli("endpoints", "--format", "json").out)
    assert data["endpoints"][0]["cents_per_hour"] == pytest.approx([390, 1170])
    assert cli("stop", "--all").code == 0
    assert cli("endpoints").out.splitlines()[-1] == "in all: nothing runs, so nothing costs money"


def test_version_1_tells_hardware_and_price_too(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1()
    assert cli("deploy", BASE, "--min-replicas", "2").code == 0
    (endpoint,) = service.endpoints.describe_all()
    assert endpoint["autoscaling"] == {"min_replicas": 2, "max_replicas": 2}
    assert "$7.80/h  1x_nvidia_h100_80gb_sxm" in cli("endpoints").out
    assert "replicas  2 to 2" in cli("endpoints", BASE).out
    assert cli("stop", "--all", "--delete").code == 0
    assert service.endpoints.describe_all() == []


# ---- deploy


def test_the_price_comes_before_anything_is_created(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    told = cli("deploy", MODEL, "--min-replicas", "2", "--max-replicas", "4")
    lines = told.err.splitlines()
    price = next(number for number, line in enumerate(lines) if "$7.80 to $15.60 an hour for 2 to 4 replicas" in line)
    assert price < next(number for number, line in enumerate(lines) if "created" in line)
    assert len(service.deployments.describe_all()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--min-replicas", "0", "--max-replicas", "2"], "takes no minimum of 0 replicas"),
        (["--inactive-timeout", "10"], "10 minutes is not possible"),
    ],
)
def test_what_version_2_does_not_take(
    options: list[str], said: str, cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded()
    refused = cli("deploy", MODEL, *options)
    assert refused.code == 2
    assert said in refused.err
    assert service.deployments.describe_all() == []


def test_what_was_created_is_taken_back_where_the_traffic_is_refused(
    cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded(faults=Faults.named("split"))
    refused = cli("deploy", MODEL)
    assert refused.code == 5
    assert "an A/B experiment of this endpoint is running" in refused.err
    assert refused.err.splitlines()[-1].endswith("was deleted again, so nothing of it costs money.")
    assert service.deployments.describe_all() == []


def test_what_the_dry_run_refuses_is_not_created(cli: Cli, start: Callable[..., Service]) -> None:
    """A model without files: the service says so before anything costs money, and the endpoint is gone again."""
    service = start()
    service.models["ml_empty"] = {"id": "ml_empty", "name": MODEL, "projectId": "proj-sandbox"} | {
        "baseModelId": base_id(BASE)
    }
    refused = cli("deploy", MODEL)
    assert refused.code == 5
    assert "a dry run, nothing was created" in refused.err
    assert "the model has no revisions to deploy" in refused.err
    assert "was deleted again, so nothing of it costs money" in refused.err.splitlines()[-1]
    assert service.deployments.describe_all() == []


@pytest.mark.parametrize("deaf", [False, True])
def test_a_service_that_creates_in_a_dry_run_creates_once(
    deaf: bool, cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded(faults=Faults(deaf_to_dry_runs=deaf))
    assert cli("deploy", MODEL).code == 0
    (endpoint,) = service.deployments.describe_all()
    assert len(endpoint["deployments"]) == 1
    assert cli("ask", endpoint["id"], "Is it you?").code == 0


# ---- attach


@pytest.mark.parametrize("by", ["endpoint", "name", "deployment"])
def test_an_adapter_is_attached_and_asked(by: str, cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    endpoint, deployment = base_deployment(service)
    where = {"endpoint": endpoint, "name": "shared", "deployment": deployment}[by]
    attached = cli("deploy", MODEL, "--attach", where)
    assert attached.code == 0, attached.text
    assert f"attached  {MODEL} to {deployment}" in attached.out
    assert "cluster cluster-1: READY, valid" in attached.out
    assert "an attached adapter costs nothing more" in attached.err
    again = cli("deploy", MODEL, "--attach", where)
    assert again.code == 0
    assert len(service.deployments.attached(endpoint, deployment)) == 1
    assert cli("ask", MODEL, "Is it you?").out.startswith(f"The sandbox answers for {MODEL}")
    assert "adapter" in cli("endpoints", endpoint).out
    assert cli("ask", MODEL, "Is it you?", "--compare-base").code == 0
    assert cli("models", MODEL, "--delete").code == 5  # it is in use


def test_an_adapter_that_is_not_valid_is_told_with_the_reason_and_detached(
    cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded(faults=Faults.named("adapter-invalid"))
    endpoint, deployment = base_deployment(service)
    refused = cli("deploy", MODEL, "--attach", endpoint)
    assert refused.code == 5
    assert "cluster cluster-1: READY, not valid (the probe's answer was empty)" in refused.err
    assert "It was detached again." in refused.err
    assert service.deployments.attached(endpoint, deployment) == []


def test_an_adapter_is_waited_for_until_the_time_is_up(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    endpoint, _ = base_deployment(service)
    service.deployments._delay = 3600
    service.deployments._clock = lambda: 0.0
    late = cli("deploy", MODEL, "--attach", endpoint, "--timeout", "0s")
    assert late.code == 6, late.text
    assert "stays attached" in late.err


def test_nothing_to_attach_to(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    service.deployments.create("empty")
    assert cli("deploy", MODEL, "--attach", "empty").code == 2
    assert cli("deploy", MODEL, "--attach", "nobody").code == 5


def test_version_1_attaches_too(cli: Cli, start_v1: Callable[..., Service], url: str) -> None:
    service = start_v1()
    assert cli("submit", "-", "--model-name", "my-adapter", "--base-model", BASE, input=url).code == 0
    service.jobs.join()
    assert cli("deploy", BASE).code == 0
    (endpoint,) = service.endpoints.describe_all()
    attached = cli("deploy", MODEL, "--attach", endpoint["id"])
    assert attached.code == 0, attached.text
    assert cli("ask", MODEL, "Is it you?").out.startswith(f"The sandbox answers for {MODEL}")
    refused = cli("deploy", "devuser/other", "--attach", endpoint["id"])
    assert "Could not find model" in refused.err


# ---- stop


def test_stop_ends_with_what_may_still_cost_money(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded(faults=Faults(never_stopped=True))
    assert cli("deploy", MODEL).code == 0
    (endpoint,) = service.deployments.describe_all()
    (deployment,) = endpoint["deployments"]
    late = cli("stop", endpoint["id"], "--timeout", "0s")
    assert late.code == 6
    assert late.err.splitlines()[-1].strip() == (
        f"Scaled to zero, and at no cost any more once stopped: {deployment['id']}."
    )
    quick = cli("stop", MODEL, "--no-wait")
    assert quick.code == 0
    assert "until it is STOPPED" in quick.out.splitlines()[-1]


def test_an_endpoint_that_is_there_keeps_its_replicas_and_says_so(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    assert cli("deploy", MODEL).code == 0
    again = cli("deploy", MODEL, "--max-replicas", "3")
    assert "was there already" in again.err
    assert "does not change it" in again.err
    (endpoint,) = service.deployments.describe_all()
    assert endpoint["deployments"][0]["autoscaling"]["maxReplicas"] == 1


def test_what_others_run_on_the_endpoint_is_the_last_line(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded()
    assert cli("deploy", MODEL).code == 0
    (endpoint,) = service.deployments.describe_all()
    made = service.deployments.deploy(
        endpoint["id"], name="theirs", model=catalogue.model_path(base_id(BASE)), config="projects/x/configs/c",
        hardware="h", autoscaling=REPLICAS,
    )["id"]  # fmt: skip
    stopped = cli("stop", MODEL, "--delete")
    assert stopped.code == 0, stopped.text
    assert "until `lora-packer stop ep_" in stopped.out.splitlines()[-1]
    assert [one["id"] for one in service.deployments.below(endpoint["id"])] == [made]


def test_stop_all_keeps_going(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded(faults=Faults.named("split"))
    base = catalogue.model_path(base_id(BASE))
    for name in ("one", "two"):
        endpoint = service.deployments.create(name)["id"]
        made = service.deployments.deploy(
            endpoint, name="d", model=base, config="projects/x/configs/c", hardware="h", autoscaling=REPLICAS
        )["id"]
        service.deployments.route(endpoint, [{"deploymentId": made, "weight": 1}], None)
    refused = cli("stop", "--all", "--delete")
    assert refused.code == 5
    assert "an A/B experiment" in refused.err
    assert refused.err.splitlines()[-1].count("Nothing of it runs, so nothing of it costs money.") == 2
    done = cli("stop", "--all")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "nothing of it runs, so nothing of it costs money"


# ---- the smoke test


def test_ask_judges(cli: Cli, uploaded: Callable[..., Service], tmp_path: Path) -> None:
    service = uploaded()
    assert cli("deploy", MODEL).code == 0
    (endpoint,) = service.deployments.describe_all()
    met = cli("ask", endpoint["id"], "Is it you?", "--expect", "answers for .*my-adapter")
    assert met.code == 0, met.text
    assert met.out.splitlines()[-1] == "verdict   passed: 1 of 1 answers as expected"
    unmet = cli("ask", endpoint["id"], "Is it you?", "--expect", "^Paris$")
    assert unmet.code == 7
    assert "expect    NOT met: ^Paris$" in unmet.out
    assert "The answer to prompt 1 is not what is expected" in unmet.err
    compared = cli("ask", MODEL, "Is it you?", "--compare-base")
    assert compared.code == 0, compared.text
    assert "differs   another text" in compared.out
    assert "does not show that the adapter is the right one" in compared.err
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one", "expect": "sandbox"}\n{"prompt": "two", "expect": "Paris"}\n')
    both = cli("ask", MODEL, "--prompts", file, "--format", "json")
    assert both.code == 7
    data = json.loads(both.out)["smoke"]
    assert [one["met"] for one in data["prompts"]] == [True, False]
    assert data["verdict"] == "failed"
    plain = cli("ask", MODEL, "Hi", "--completions", "--max-tokens", "5", "--temperature", "0", "--system", "Be kind.")
    assert plain.out.startswith("The sandbox answers for")
    assert cli("ask", MODEL).code == 2
    assert cli("ask", MODEL, "Hi", "--compare-base", "--temperature", "1").code == 2


def release(cli: Cli, *more: str, receipt: str = "r.json") -> Any:
    return cli(
        "release", TINY, "--base-config", TINY_BASE, "--model-name", "judged", "--base-model", BASE,
        "--receipt", receipt, *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code", "verdict"),
    [("", 0, "passed"), ("adapter-ignored", 7, "failed"), ("no-serverless", 3, "not compared")],
)
def test_release_goes_on_to_a_verdict(
    kind: str, code: int, verdict: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(delay=0, faults=Faults.named(kind) if kind else None) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        more = ["--to", sandbox.destination, "--deploy", "--ask", "Is it you?", "--compare-base", "--expect", "sandbox"]
        done = release(cli, *more)
        assert done.code == code, done.text
        receipt = json.loads((tmp_path / "r.json").read_text())
        assert receipt["smoke"]["verdict"] == verdict
        (prompt,) = receipt["smoke"]["prompts"]
        assert len(prompt["sha256"]) == 64
        assert "prompt" not in prompt
        assert prompt["answer"] == receipt["answer"]["text"]
        assert verdict in done.text
        if code:
            assert "for each replica until `lora-packer stop ep_" in done.err.splitlines()[-1]
        again = release(cli, *more)
        assert again.code == code
        assert ("done in an earlier run: passed" in again.err) == (code == 0)


def test_a_release_whose_traffic_is_refused_costs_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(delay=0, faults=Faults.named("split")) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        refused = release(cli, "--to", sandbox.destination, "--deploy")
        assert refused.code == 5
        assert refused.err.splitlines()[-1].endswith("was deleted again, so nothing of it costs money.")
        assert sandbox.service.deployments.describe_all() == []


def test_what_is_asked_needs_a_deployment(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = release(cli, "--sandbox", "--ask", "x", "--expect", "y")
    assert refused.code == 2
    assert "--deploy" in refused.err
    assert release(cli, "--sandbox", "--deploy", "--compare-base").code == 2  # nothing is asked


# ---- the end of what costs money


def more_deployments(service: Service, count: int) -> str:
    """An endpoint that serves the adapter with this many deployments, all with traffic."""
    (endpoint,) = service.deployments.describe_all()
    first = endpoint["deployments"][0]
    below = [first["id"]]
    for number in range(1, count):
        made = service.deployments.deploy(
            endpoint["id"], name=f"more-{number}", model=first["model"], config="projects/x/configs/c",
            hardware=first["hardware"], autoscaling=REPLICAS,
        )  # fmt: skip
        below.append(made["id"])
    service.deployments.route(endpoint["id"], [{"deploymentId": one, "weight": 1} for one in below], None)
    return str(endpoint["id"])


@pytest.mark.parametrize("count", [1, 12])
def test_stop_and_delete_against_a_server_that_deletes_nothing_that_runs(
    count: int, cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded()
    assert cli("deploy", MODEL).code == 0
    endpoint = more_deployments(service, count)
    assert len(service.deployments.below(endpoint)) == count
    stopped = cli("stop", endpoint, "--delete")
    assert stopped.code == 0, stopped.text
    assert stopped.out.splitlines()[-1] == "cost      nothing of it runs, so nothing of it costs money"
    assert service.deployments.describe_all() == []


@pytest.mark.parametrize("count", [1, 12])
def test_a_split_that_is_refused_comes_after_the_scaling(
    count: int, cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded()
    assert cli("deploy", MODEL).code == 0
    endpoint = more_deployments(service, count)
    service.faults = Faults(refuse_split=True)
    refused = cli("stop", endpoint, "--delete")
    assert refused.code == 5, refused.text
    assert "an A/B experiment of this endpoint is running" in refused.err
    assert refused.err.splitlines()[-1].strip() == "Nothing of it runs, so nothing of it costs money."
    left = service.deployments.below(endpoint)
    assert [one["autoscaling"]["maxReplicas"] for one in left] == [0] * count
    service.faults = Faults()
    assert cli("stop", endpoint, "--delete").code == 0
    assert service.deployments.describe_all() == []


# ---- a dry run


def test_a_dry_run_tells_the_price_has_the_service_judge_and_creates_nothing(
    cli: Cli, uploaded: Callable[..., Service]
) -> None:
    service = uploaded()
    alone = cli("deploy", MODEL, "--dry-run")
    assert alone.code == 0, alone.text
    assert "cost      costs $3.90 an hour" in alone.out
    assert "the service was not asked: the service judges below an endpoint only, and the project has none" in alone.out
    assert service.deployments.describe_all() == []
    shared, _ = base_deployment(service)
    judged = cli("deploy", MODEL, "--dry-run", "--max-replicas", "2")
    assert judged.code == 0, judged.text
    assert "dry run   the service would take it" in judged.out
    assert "$3.90 to $7.80 an hour for 1 to 2 replicas" in judged.out
    data = json.loads(cli("deploy", MODEL, "--dry-run", "--format", "json").out)["dry_run"]
    assert (data["judged"], data["there"], data["hardware"]["cents_per_minute"]) == (True, None, 6.5)
    refused = cli("deploy", MODEL, "--dry-run", "--hardware", "none")
    assert refused.code == 2
    assert [one["id"] for one in service.deployments.describe_all()] == [shared]
    assert len(service.deployments.below(shared)) == 1
    assert cli("deploy", MODEL).code == 0
    there = cli("deploy", MODEL, "--dry-run")
    assert "has the model: `deploy` takes it, and creates nothing" in there.out


def test_a_dry_run_that_the_service_refuses(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded(faults=Faults(fail_job="rank 512 is not supported"))
    base_deployment(service)
    refused = cli("deploy", MODEL, "--dry-run")
    assert refused.code == 5, refused.text
    assert "a dry run, nothing was created" in refused.err
    assert "no revision that passed validation" in refused.err


def test_what_a_service_creates_in_a_dry_run_is_taken_back(cli: Cli, uploaded: Callable[..., Service]) -> None:
    service = uploaded(faults=Faults(deaf_to_dry_runs=True))
    shared, base = base_deployment(service)
    made = cli("deploy", MODEL, "--dry-run")
    assert made.code == 5, made.text
    assert "where it should only judge it" in made.err
    assert "was deleted again, so nothing of it costs money" in made.err
    assert [one["id"] for one in service.deployments.below(shared)] == [base]


def test_version_1_has_no_dry_run_and_says_so(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1()
    told = cli("deploy", BASE, "--dry-run")
    assert told.code == 0, told.text
    assert "cost      costs $3.90 an hour" in told.out
    assert "the service was not asked: version 1 of the API has no dry run" in told.out
    assert service.endpoints.describe_all() == []


@pytest.mark.parametrize("more", [["--wait"], ["--attach", "ep_1"]])
def test_a_dry_run_has_nothing_to_wait_for(more: list[str], cli: Cli, start: Callable[..., Service]) -> None:
    start()
    assert cli("deploy", MODEL, "--dry-run", *more).code == 2


# ---- base models


def test_a_base_model_is_deployed_asked_and_stopped(cli: Cli, start: Callable[..., Service]) -> None:
    service = start()
    assert cli("hardware", BASE).out.split()[1:3] == ["$3.90/h", "available"]
    deployed = cli("deploy", BASE, "--wait")
    assert deployed.code == 0, deployed.text
    (endpoint,) = service.deployments.describe_all()
    assert endpoint["deployments"][0]["model"] == catalogue.model_path(base_id(BASE))
    assert "was there already" in cli("deploy", BASE).err
    asked = cli("ask", endpoint["id"], "Is it you?")
    assert asked.code == 0, asked.text
    stopped = cli("stop", BASE, "--delete")
    assert stopped.code == 0, stopped.text
    assert service.deployments.describe_all() == []


def test_a_name_that_neither_the_project_nor_the_catalogue_has(cli: Cli, start: Callable[..., Service]) -> None:
    start()
    refused = cli("deploy", "nobody/nothing")
    assert refused.code == 5
    assert "Neither the project nor the service's catalogue has a model nobody/nothing" in refused.err


# ---- many prompts


def test_an_endpoint_is_looked_up_once_for_all_prompts(
    cli: Cli, uploaded: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded()
    assert cli("deploy", MODEL, "--wait").code == 0
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "{word}", "expect": "."}}\n' for word in "abc"))
    looked: list[str] = []
    look = deployments.look_at

    def looking(client: Client, name: str) -> dict[str, Any]:
        looked.append(name)
        return look(client, name)

    monkeypatch.setattr(deployments, "look_at", looking)
    endpoint = json.loads(cli("endpoints", "--format", "json").out)["endpoints"][0]["id"]
    asked = cli("ask", endpoint, "--prompts", str(tmp_path / "prompts.jsonl"))
    assert asked.code == 0, asked.text
    assert looked == [endpoint]


def test_the_name_of_a_deleted_model_is_free_again(cli: Cli, uploaded: Callable[..., Service], url: str) -> None:
    service = uploaded()
    assert cli("models", MODEL, "--delete").code == 0
    again = cli("submit", "-", "--model-name", "my-adapter", "--base-model", BASE, "--wait", input=url)
    assert again.code == 0, again.text
    assert len(service.models) == 1
