"""Killed at a request, before the service carries it out or after, and run again: one job, one endpoint, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from builders import TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter
from fault_proxy import Fault, proxy_to
from kill_support import start, start_told
from service_support import V1_ENDPOINTS

from lora_packer.errors import ServiceError, WaitTimeoutError
from lora_packer.sandbox import Sandbox
from lora_packer.sandbox import service as service_module
from lora_packer.sandbox.answers import Refused, Request

Cli = Callable[..., Any]
Route = Callable[[Any, Request], tuple[int, Any]]


class Trap:
    """Stands before the service's routes: counts requests, and keeps the answer to one of them back for good."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.seen: list[str] = []
        self.at, self.carried_out = 0, False
        self.caught, self.released = threading.Event(), threading.Event()

    def set(self, at: int, *, carried_out: bool) -> None:
        """Catch request number ``at`` (from 1; 0 is none), after it was carried out or before."""
        self.seen.clear()
        self.caught.clear()
        self.at, self.carried_out = at, carried_out

    def __call__(self, service: Any, request: Request) -> tuple[int, Any]:
        service.jobs.join()  # what is looked at has ended: every run makes the same requests, and none waits
        service.imports.join()
        self.seen.append(f"{request.method} /{'/'.join(request.path)}")
        if len(self.seen) != self.at:
            return self.route(service, request)
        if self.carried_out:
            self.route(service, request)
        self.caught.set()
        self.released.wait(60)
        return 204, None


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0, faults=V1_ENDPOINTS) as started:
        yield started


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    trap = Trap(service_module._route)
    monkeypatch.setattr(service_module, "_route", trap)
    yield trap
    trap.released.set()


@pytest.fixture
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return {**sandbox.environment(), "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}


def arguments_of(name: str, way: str, sandbox: Sandbox) -> list[str]:
    place = ["--direct"] if way == "direct" else ["--to", f"s3://{sandbox.s3.bucket}/kills/"]
    return [
        "release", str(TINY), "--base-config", str(TINY_BASE), "--model-name", name, "--base-model", "tiny/llama",
        *place, "--receipt", f"{name}.json", "--api", "v1" if way == "v1" else "v2",
        "--deploy", "--ask", "Is it you?",
    ]  # fmt: skip


def made(sandbox: Sandbox, name: str) -> dict[str, list[str]]:
    """What the service has of one release."""
    service, full = sandbox.service, f"devuser/{name}"
    jobs = [*service.jobs.records(), *service.imports.records()]
    models = [one["id"] for one in service.models.values() if one["name"] == full]
    sent = [model for model in models for _ in service.direct.revisions(model)]
    endpoints = [one["id"] for one in service.endpoints.describe_all() if one["model"] == full]
    two = [one for one in service.deployments.describe_all() if one["name"] == full]
    return {
        "jobs": [job.id for job in jobs if job.model_name == full] + sent,
        "models": models,
        "endpoints": endpoints + [one["id"] for one in two],
        "deployments": [below["id"] for one in two for below in one["deployments"]],
    }


KEPT = "Kept in {name}.json: the check, the upload (s3://sandbox/kills/tiny-llama-qv-d1b9eb1047368032.zip)."
COMPLETE = KEPT[:-1] + ", the job ({job}, Complete)."
CHANGES = {
    "v1": ["models", "endpoints", "completions"],
    # A deployment is judged by the service first, and then created.
    "v2": ["models", "uploads", "endpoints", "deployments", "deployments", "ep_", "completions"],
    "direct": ["models", "create", "complete", "endpoints", "deployments", "deployments", "ep_", "completions"],
}


@pytest.mark.parametrize("way", CHANGES)
def test_killed_at_any_request_and_run_again(
    way: str, cli: Cli, trap: Trap, sandbox: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    whole = cli(*arguments_of(f"{way}-whole", way, sandbox))
    assert whole.code == 0, whole.text
    requests = trap.seen.copy()
    creates = [number for number, request in enumerate(requests, 1) if not request.startswith("GET")]
    for number, last in zip(creates, CHANGES[way], strict=True):
        assert requests[number - 1].rpartition("/")[2].startswith(last)
    # Before each change, after it, and once the receipt has it: looks in between change nothing.
    before = sorted({1, *creates, *(number + 1 for number in creates if number < len(requests))})
    moments = [(number, False) for number in before] + [(number, True) for number in creates]
    for number, carried_out in moments:
        name = f"{way}-{number}{'-done' if carried_out else ''}"
        arguments = arguments_of(name, way, sandbox)
        trap.set(number, carried_out=carried_out)
        process = start(arguments, environment, tmp_path)
        try:
            assert trap.caught.wait(60), f"request {number} of {len(requests)} was not made"
        finally:
            process.kill()
            process.join()
        what = f"killed at {requests[number - 1]} {'after' if carried_out else 'before'} it was carried out"
        trap.set(0, carried_out=False)
        again = cli(*arguments)
        assert again.code == 0, f"{what}: {again.text}"
        found = made(sandbox, name)
        expected = {"jobs": 1, "models": int(way != "v1"), "endpoints": 1, "deployments": int(way != "v1")}
        assert {kind: len(ids) for kind, ids in found.items()} == expected, what
        receipt = json.loads((tmp_path / f"{name}.json").read_text())
        assert receipt["submission"]["state"] == "submitted", what
        assert [receipt["submission"]["job_id"]] == found["jobs"], what
        assert receipt["job"]["status"] == "Complete", what
        assert [receipt["endpoint"]["id"]] == found["endpoints"], what
        assert receipt["answer"]["text"].startswith("The sandbox answers for"), what


# At which request, the first or the last of its form -> what is said of what was begun; {job} and {endpoint} are ids,
# which a later look tells.
SUBMITTING = "The job may have been submitted: the next run looks for it before it submits."
GOES_ON = "Job {job} goes on at the service."
CREATING = "An endpoint may have been created, and then it costs money: the next run finds it and takes it."
COSTS = (
    "Endpoint {endpoint} goes on, and costs $3.90 an hour (6.5 cents a minute) for each replica until "
    "`lora-packer stop {endpoint}`."
)
PROJECT = "/v2/projects/proj-sandbox"
STAGES: dict[str, list[tuple[str, int, list[str]]]] = {
    "v1": [
        ("GET /v1/jobs", 0, ["Nothing was sent."]),
        ("POST /v1/models", 0, [SUBMITTING, KEPT]),
        ("GET /v1/jobs/.*", 0, [GOES_ON, KEPT]),
        ("POST /v1/endpoints", 0, [CREATING, COMPLETE]),
        ("GET /v1/endpoints/.*", 0, [COSTS, COMPLETE]),
        ("POST /v1/chat/completions", 0, [COSTS, COMPLETE]),
    ],
    "v2": [
        (f"GET {PROJECT}/models", 0, ["Nothing was sent."]),
        (f"POST {PROJECT}/models", 0, [SUBMITTING, KEPT]),
        (f"POST {PROJECT}/models/uploads", 0, [SUBMITTING, KEPT]),
        (f"GET {PROJECT}/models/uploads/[^/]*", 0, [GOES_ON, KEPT]),
        (f"POST {PROJECT}/endpoints", 0, [CREATING, COMPLETE]),
        (f"POST {PROJECT}/endpoints/.*/deployments", 0, [CREATING, COMPLETE]),  # the dry run
        (f"POST {PROJECT}/endpoints/.*/deployments", -1, [CREATING, COMPLETE]),
        (f"PATCH {PROJECT}/endpoints/.*", 0, [CREATING, COMPLETE]),
        (f"GET {PROJECT}/endpoints/.*", -1, [COSTS, COMPLETE]),
        ("POST /v1/chat/completions", 0, [COSTS, COMPLETE]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("way", STAGES)
def test_interrupted_at_each_stage_of_a_release(
    way: str,
    number: signal.Signals,
    cli: Cli,
    trap: Trap,
    sandbox: Sandbox,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    trap.set(0, carried_out=False)
    assert cli(*arguments_of(f"whole-{way}-{number.name}", way, sandbox)).code == 0
    requests = trap.seen.copy()
    for index, (stage, which, lines) in enumerate(STAGES[way]):
        at = [number for number, request in enumerate(requests, 1) if re.fullmatch(stage, request)][which]
        name = f"{way}-{number.name.lower()}-{index}"
        arguments = [*arguments_of(name, way, sandbox), "--description", "it's mine"]
        # Before the service carries it out with one signal, and after with the other.
        trap.set(at, carried_out=number is signal.SIGTERM)
        process = start_told(arguments, environment, tmp_path, "said")
        try:
            assert trap.caught.wait(60), f"{stage} was not asked"
            os.kill(process.pid, number)
        finally:
            process.join(60)
        trap.set(0, carried_out=False)
        found = made(sandbox, name)
        ids = {"job": "".join(found["jobs"]), "endpoint": "".join(found["endpoints"]), "name": name}
        again = go_on(cli, process, tmp_path, arguments, [line.format(**ids) for line in lines])
        assert again.code == 0, again.text
        found = made(sandbox, name)
        expected = {"jobs": 1, "models": int(way != "v1"), "endpoints": 1, "deployments": int(way != "v1")}
        assert {kind: len(ids) for kind, ids in found.items()} == expected, stage


def go_on(cli: Cli, process: Any, folder: Path, arguments: list[str], lines: list[str]) -> Any:
    """What a run said that was interrupted, line by line as these begin; then the command that it printed, run."""
    said = (folder / "said.err").read_text()
    assert process.exitcode == 130, said
    assert (folder / "said.out").read_text() == ""
    assert "Traceback" not in said
    told = said.partition("interrupted\n")[2].splitlines()
    assert len(told) == len(lines) + 1, said
    for line, start_of in zip(told, lines, strict=False):
        assert line.startswith(f"  {start_of}"), said
    assert told[-1] == f"  Go on with: {shlex.join(['lora-packer', *arguments])}"
    return cli(*shlex.split(told[-1].partition("lora-packer ")[2]))


# How many parts of 8 MiB the archive has -> the request whose answer never comes, how many of its kind went through
# before, what is said to be kept, and how many parts the next run sends at the most.
CHECKED = "Kept in {name}.json: the check."
PARTS = CHECKED[:-1] + ", the parts that the store has."
SENDING = {
    "in one request": (0, "PutObject", 0, PARTS, 0),
    "before the first part": (3, "CreateMultipartUpload", 0, CHECKED, 3),
    "the second part": (3, "UploadPart", 1, PARTS, 3),
    "at its end": (3, "CompleteMultipartUpload", 0, PARTS, 0),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("way", ["v1", "v2"])
@pytest.mark.parametrize("stage", SENDING)
def test_interrupted_in_the_middle_of_the_upload(
    stage: str,
    way: str,
    number: signal.Signals,
    cli: Cli,
    sandbox: Sandbox,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, operation, skip, kept, most = SENDING[stage]
    name = f"sent-{way}-{number.name.lower()}-{[*SENDING].index(stage)}"
    adapter = larger(tmp_path / name, parts)
    arguments = arguments_of(name, way, sandbox)
    arguments[1] = str(adapter)
    arguments[arguments.index("--to") + 1] = f"s3://{sandbox.s3.bucket}/{name}/"
    with proxy_to(environment["AWS_ENDPOINT_URL_S3"]) as proxy:
        through = {**environment, "AWS_ENDPOINT_URL_S3": proxy.url}
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        struck = threading.Event()
        proxy.add(Fault(operation, "hang", skip=skip, times=1, meanwhile=struck.set))
        process = start_told(arguments, through, tmp_path, "said")
        try:
            assert struck.wait(60), f"{operation} was not asked"
            os.kill(process.pid, number)
        finally:
            process.join(60)
        found = made(sandbox, name)
        assert {kind: len(ids) for kind, ids in found.items()} == dict.fromkeys(found, 0)
        proxy.heal()
        proxy.seen.clear()
        again = go_on(cli, process, tmp_path, arguments, [kept.format(name=name)])
        assert again.code == 0, again.text
        seen = proxy.seen[proxy.seen.index("HeadBucket") :]  # what the first run sent may come in late
        assert seen.count("UploadPart") <= most
        assert "CreateMultipartUpload" not in seen  # what was begun is found, and goes on
    found = made(sandbox, name)
    expected = {"jobs": 1, "models": int(way != "v1"), "endpoints": 1, "deployments": int(way != "v1")}
    assert {kind: len(ids) for kind, ids in found.items()} == expected


def larger(folder: Path, parts: int) -> Path:
    """The tiny adapter, so large that its upload has this many parts; with none it goes in one request."""
    rank = parts * 4096 or 4
    tensors = {
        name: np.resize(tensor, (rank, tensor.shape[1]) if "lora_A" in name else (tensor.shape[0], rank))
        for name, tensor in tiny_tensors().items()
    }
    return write_adapter(folder, tensors, tiny_config(r=rank))


@pytest.mark.parametrize(
    ("step", "error", "code", "lines"),
    [
        ("wait_for_job", WaitTimeoutError("Still Running."), 6, ["Job {job} goes on at the service.", KEPT]),
        ("serve", WaitTimeoutError("Still STARTING."), 6, ["Endpoint {endpoint} goes on, and costs $3.90", COMPLETE]),
        ("serve", ServiceError("It is FAILED.", hint="Why?"), 5, ["Why?", "Endpoint {endpoint} goes on, and costs"]),
    ],
)
def test_time_that_is_up_and_a_failure_say_what_still_costs(
    cli: Cli,
    sandbox: Sandbox,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: Exception,
    code: int,
    lines: list[str],
) -> None:
    def ends(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(f"lora_packer.together.{step}", ends)
    name = f"ends-{step.replace('_', '-')}-{code}"
    arguments = [*arguments_of(name, "v1", sandbox), "--timeout", "10m"]
    ended = cli(*arguments)
    assert ended.code == code, ended.text
    found = made(sandbox, name)
    ids = {"job": "".join(found["jobs"]), "endpoint": "".join(found["endpoints"]), "name": name}
    told = ended.err.partition(f"error: {error}"[:20])[2].splitlines()[1:]
    for line, start_of in zip(told, lines, strict=False):
        assert line.startswith(f"  {start_of.format(**ids)}"), ended.err
    if code == 6:
        assert told[len(lines) :] == [f"  Go on with: {shlex.join(['lora-packer', *arguments])}"]
    else:
        assert len(told) == len(lines)


@pytest.mark.parametrize(("api", "create"), [("v1", "models"), ("v2", "uploads")])
def test_a_job_whose_answer_was_none_is_found_again(
    api: str,
    create: str,
    cli: Cli,
    sandbox: Sandbox,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service carries the request out, and a gateway gives up on it: that is no refusal."""
    route = service_module._route

    def gateway(service: Any, request: Request) -> tuple[int, Any]:
        answer = route(service, request)
        if request.method == "POST" and request.path[-1] == create:
            raise Refused(504, "gateway timeout")
        return answer

    arguments = arguments_of(f"{api}-gateway", api, sandbox)
    with monkeypatch.context() as patch:
        patch.setattr(service_module, "_route", gateway)
        refused = cli(*arguments)
        assert refused.code == 5
        assert "HTTP 504" in refused.err
        assert "The job may exist: the request was not repeated" in refused.err
    again = cli(*arguments)
    assert again.code == 0, again.text
    assert "the earlier run's request arrived: job" in again.err
    found = made(sandbox, f"{api}-gateway")
    assert len(found["jobs"]) == 1
    assert json.loads((tmp_path / f"{api}-gateway.json").read_text())["submission"]["job_id"] == found["jobs"][0]
