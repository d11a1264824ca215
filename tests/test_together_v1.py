"""Version 1 of the API: the requests byte for byte as the vendor's SDK sends them, the answers, and the wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from together_support import (
    BASE_MODEL,
    HF_TOKEN,
    TOKEN,
    FakeTime,
    assert_no_secret,
    mock_client,
    presigned,
    recording,
    submission,
)

from lora_packer.errors import InputError, JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.redact import Secret
from lora_packer.together import APIS, STALE_AFTER, Api, Client, HubRepo, Job, StatusUpdate, v1

# The examples of docs.together.ai/docs/dedicated-endpoints/v1/adapter and of openapi.yaml.
CREATED_ON_PAGE = {
    "data": {
        "job_id": "job-b641db51-38e8-40f2-90a0-5353aeda6f21",
        "model_name": "devuser/test-lora-model-creation-8b",
        "model_source": "remote_archive",
    },
    "message": "job created",
}
CREATED_IN_SPEC = {
    "data": {
        "job_id": "job-a15dad11-8d8e-4007-97c5-a211304de284",
        "model_name": "necolinehubner/Qwen2.5-72B-Instruct",
        "model_id": "model-c0e32dfc-637e-47b2-bf4e-e9b2e58c9da7",
        "model_source": "huggingface",
    },
    "message": "Processing model weights. Job created.",
}
JOB_ON_PAGE = {
    "type": "adapter_upload",
    "job_id": "job-b641db51-38e8-40f2-90a0-5353aeda6f21",
    "status": "Complete",
    "status_updates": [],
}
JOB_IN_SPEC = {
    "type": "model_upload",
    "job_id": "job-a15dad11-8d8e-4007-97c5-a211304de284",
    "status": "Complete",
    "status_updates": [{"status": "Complete", "message": "Job is Complete", "timestamp": "2025-03-11T22:36:12Z"}],
    "args": {
        "description": "Finetuned Qwen2.5-72B-Instruct by Unsloth",
        "modelName": "necolinehubner/Qwen2.5-72B-Instruct",
        "modelSource": "unsloth/Qwen2.5-72B-Instruct",
    },
    "created_at": "2025-03-11T22:05:43Z",
    "updated_at": "2025-03-11T22:36:12Z",
}


def answering(body: Any) -> Client:
    return mock_client(lambda _: httpx2.Response(200, json=body))


@pytest.mark.parametrize("from_hub", [False, True])
@pytest.mark.parametrize("description", [None, 'tuned on tickets \u2713 "quoted" \\ back'])
def test_the_sdk_sends_the_same(from_hub: bool, description: str | None) -> None:
    import together

    url = presigned()
    source: dict[str, Any] = {"source": HubRepo("org/repo"), "hf_token": Secret(HF_TOKEN)} if from_hub else {}
    arguments: dict[str, Any] = {
        "model_name": "my-adapter",
        "model_source": "https://huggingface.co/org/repo" if from_hub else url,
        "model_type": "adapter",
        "base_model": BASE_MODEL,
    }
    if from_hub:
        arguments["hf_token"] = HF_TOKEN
    if description:
        arguments["description"] = description
    answers = [(200, json.dumps(CREATED_IN_SPEC).encode()), (200, json.dumps(JOB_IN_SPEC).encode())]
    with recording(answers * 2) as (address, requests):
        with together.Together(api_key=TOKEN, base_url=address + "/v1", max_retries=0) as sdk:
            sdk.models.upload(**arguments)
            sdk.models.uploads.status("job-1")
        with Client(Secret(TOKEN), address + "/v1") as client:
            v1.submit(client, submission(url, description=description, **source))
            v1.job(client, "job-1")
    theirs, ours = requests[:2], requests[2:]
    assert len(ours) == len(theirs) == 2
    for their, our in zip(theirs, ours, strict=True):
        assert (our.method, our.path) == (their.method, their.path)
        for name in ("authorization", "accept"):
            assert our.headers[name] == their.headers[name]
    assert ours[0].json == theirs[0].json == arguments
    assert ours[0].headers["content-type"] == theirs[0].headers["content-type"]
    assert ours[1].body == theirs[1].body == b""


def test_the_hub_token_is_sent_only_where_there_is_one() -> None:
    with (
        recording([(200, json.dumps(CREATED_ON_PAGE).encode())]) as (address, requests),
        Client(Secret(TOKEN), address + "/v1") as client,
    ):
        v1.submit(client, submission(source=HubRepo("org/repo", "main")))
    assert "hf_token" not in requests[0].json
    assert requests[0].json["model_source"] == "https://huggingface.co/org/repo"


def test_a_revision_v1_cannot_express_is_not_dropped() -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing may be sent")

    with mock_client(handler) as client, pytest.raises(InputError, match="revision"):
        v1.submit(client, submission(source=HubRepo("org/repo", "v2")))


@pytest.mark.parametrize("body", [CREATED_ON_PAGE, CREATED_IN_SPEC])
def test_the_documented_answers_to_a_submission(body: dict[str, Any]) -> None:
    with answering(body) as client:
        job = v1.submit(client, submission())
    assert job == Job(
        id=body["data"]["job_id"],
        status="Submitted",
        model_name=body["data"]["model_name"],
        model_id=body["data"].get("model_id"),
    )


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Model name already exists"},
        {"data": None, "message": "Model name already exists"},
        {"data": {}, "message": "Model name already exists"},
        {"data": {"job_id": ""}, "message": "Model name already exists"},
        {"data": {"job_id": 7}, "message": "Model name already exists"},
        {"data": "job-1", "message": "Model name already exists"},
        {"error": {"message": "Model name already exists"}},
    ],
)
def test_a_success_without_a_job_is_a_refusal(body: dict[str, Any]) -> None:
    with answering(body) as client, pytest.raises(ServiceError) as caught:
        v1.submit(client, submission())
    assert caught.value.exit_code == 5
    assert "Model name already exists" in caught.value.message
    assert "new --model-name" in (caught.value.hint or "")


@pytest.mark.parametrize("job_id", ["job/../x", "../jobs", "a b", "job\n1", "-x", "x" * 300])
def test_a_job_id_that_is_none(job_id: str) -> None:
    with answering({"data": {"job_id": job_id}}) as client, pytest.raises(ServiceError, match="names no job"):
        v1.submit(client, submission())
    with answering(JOB_ON_PAGE) as client, pytest.raises(InputError, match="not a job id"):
        v1.job(client, job_id)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (JOB_ON_PAGE, Job("job-1", "Complete", raw_status="Complete")),
        (
            JOB_IN_SPEC,
            Job(
                "job-1",
                "Complete",
                model_name="necolinehubner/Qwen2.5-72B-Instruct",
                updates=(StatusUpdate("Complete", "Job is Complete", "2025-03-11T22:36:12Z"),),
                raw_status="Complete",
            ),
        ),
        ({"status": "complete"}, Job("job-1", "Complete", raw_status="complete")),
        ({"status": "FAILED"}, Job("job-1", "Failed", raw_status="FAILED")),
        ({"status": "cancelled"}, Job("job-1", "Cancelled", raw_status="cancelled")),
        ({"status": "Processing"}, Job("job-1", "Processing", raw_status="Processing")),
        ({"status": "\x1b[2J"}, Job("job-1", "\\x1b[2J", raw_status="\\x1b[2J")),
        (
            {
                "status": "Running",
                "status_updates": [None, "x", {"message": 5}, {"message": "a\nb"}],
                "args": [],
                "type": None,
            },
            Job(
                "job-1",
                "Running",
                updates=(StatusUpdate("", "", ""), StatusUpdate("", "a\\x0ab", "")),
                raw_status="Running",
            ),
        ),
        ({"status": "Running", "status_updates": "none"}, Job("job-1", "Running", raw_status="Running")),
    ],
)
def test_jobs_are_read_leniently(body: dict[str, Any], expected: Job) -> None:
    with answering(body) as client:
        assert v1.job(client, "job-1") == expected


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": " "}, {"status": ["Running"]}, [JOB_ON_PAGE]])
def test_a_job_without_a_status(body: Any) -> None:
    with answering(body) as client, pytest.raises(ServiceError, match="names no status"):
        v1.job(client, "job-1")


def test_a_job_that_echoes_secrets_shows_none() -> None:
    echo = f"could not fetch {presigned()} with {HF_TOKEN} for Bearer {TOKEN} {TOKEN}"
    body = {
        "status": "Failed",
        "status_updates": [{"status": "Failed", "message": echo, "timestamp": echo}],
        "args": {"modelName": echo},
    }
    with answering(body) as client:
        job = v1.job(client, "job-1")
        assert_no_secret(job, job.to_dict())
        with pytest.raises(JobFailedError) as caught:
            v1.wait(client, "job-1", timeout=timedelta(0), on_change=lambda _: None)
    assert_no_secret(caught.value, caught.value.hint)


def test_every_version_is_an_chosen_api() -> None:
    chosen: Api = APIS["v1"]
    assert chosen is v1


Script = list[dict[str, Any] | Exception | httpx2.Response]


def run_wait(
    script: Script, *, timeout: float = 3600.0
) -> tuple[Job | Exception, list[Job], list[ServiceError], FakeTime]:
    """Wait against a service that answers from a script, its last entry again and again."""
    time, changes, troubles = FakeTime(), list[Job](), list[ServiceError]()
    asked = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        assert (request.method, request.url.path) == ("GET", "/v1/jobs/job-1")
        entry = script[min(asked, len(script) - 1)]
        asked += 1
        if isinstance(entry, Exception):
            raise entry
        return entry if isinstance(entry, httpx2.Response) else httpx2.Response(200, json=entry)

    with mock_client(handler, FakeTime()) as client:
        ended: Job | Exception
        try:
            ended = v1.wait(
                client,
                "job-1",
                timeout=timedelta(seconds=timeout),
                on_change=changes.append,
                on_trouble=troubles.append,
                sleep=time.sleep,
                clock=time.clock,
            )
        except (ServiceError, WaitTimeoutError) as error:
            ended = error
    return ended, changes, troubles, time


def update(status: str, message: str) -> dict[str, str]:
    return {"status": status, "message": message, "timestamp": "2026-01-02T03:04:05Z"}


def test_wait_until_complete() -> None:
    step = update("Running", "downloading")
    ended, changes, troubles, time = run_wait(
        [
            {"status": "Queued"},
            {"status": "Queued"},
            {"status": "Running"},
            {"status": "Running", "status_updates": [step]},
            {"status": "Running", "status_updates": [step]},
            {"status": "complete", "status_updates": [step]},
        ]
    )
    assert isinstance(ended, Job)
    assert ended.is_complete
    assert [job.status for job in changes] == ["Queued", "Running", "Running", "Complete"]
    assert troubles == []
    assert time.slept == [1.0, 1.5, 2.25, 3.375, 5.0625]


def test_the_interval_grows_to_twenty_seconds() -> None:
    ended, _, _, time = run_wait([{"status": "Running"}], timeout=200)
    assert isinstance(ended, WaitTimeoutError)
    assert max(time.slept) == 20.0
    assert time.slept == sorted(time.slept[:-1]) + time.slept[-1:]
    assert sum(time.slept) == pytest.approx(200)


@pytest.mark.parametrize("status", ["Processing", "Paused", "running", "Error", "Completed", "Succeeded"])
def test_unknown_states_are_under_way(status: str) -> None:
    ended, changes, _, _ = run_wait([{"status": status}], timeout=60)
    assert isinstance(ended, WaitTimeoutError)
    assert ended.exit_code == 6
    assert "job-1" in ended.message
    assert changes[0].status in ended.message
    assert "lora-packer wait job-1" in (ended.hint or "")
    assert len(changes) == 1


def test_a_wait_of_no_time_looks_once() -> None:
    ended, changes, _, time = run_wait([{"status": "Running"}], timeout=0)
    assert isinstance(ended, WaitTimeoutError)
    assert len(changes) == 1
    assert time.slept == []


@pytest.mark.parametrize(
    ("updates", "reason", "hint"),
    [
        ([], "the service gives no reason", "support"),
        ([update("Running", "started"), update("Failed", "disk on fire")], "disk on fire", "support"),
        ([update("Running", "only this")], "only this", "support"),
        ([update("Failed", "Missing required files: adapter_config.json")], "Missing required", "at the root"),
        ([update("failed", "base model incompatibility")], "incompatibility", "--base-model"),
        ([update("Failed", "could not download model_source: HTTP 403")], "HTTP 403", "presigned URL is alive"),
        ([update("Failed", "one"), update("Failed", "two"), update("Failed", "one")], "one; two", "support"),
    ],
)
@pytest.mark.parametrize("status", ["Failed", "failed", "Cancelled"])
def test_a_failed_job(status: str, updates: list[dict[str, str]], reason: str, hint: str) -> None:
    if status == "Cancelled":
        updates = [{**entry, "status": status} if entry["status"] == "Failed" else entry for entry in updates]
    ended, changes, _, _ = run_wait([{"status": "Running"}, {"status": status, "status_updates": updates}])
    assert isinstance(ended, JobFailedError)
    assert ended.exit_code == 5
    assert ended.message.startswith(f"Job job-1 ended as {status.capitalize()}: ")
    assert reason in ended.message or status == "Cancelled"
    assert hint in (ended.hint or "") or status == "Cancelled"
    assert changes[-1].has_failed


@pytest.mark.parametrize(
    "trouble",
    [
        httpx2.ReadTimeout(""),
        httpx2.ReadError("reset"),
        httpx2.Response(429),
        httpx2.Response(500),
        httpx2.Response(503, text="<html>"),
        httpx2.Response(200, text="<html>maintenance"),
        httpx2.Response(200, text=""),
    ],
)
def test_trouble_in_between_is_no_end(trouble: Exception | httpx2.Response) -> None:
    ended, changes, troubles, _ = run_wait([{"status": "Queued"}, trouble, trouble, {"status": "Complete"}])
    assert isinstance(ended, Job)
    assert [job.status for job in changes] == ["Queued", "Complete"]
    assert len(troubles) == 2


def test_trouble_until_the_end_is_a_timeout_that_says_so() -> None:
    ended, changes, troubles, _ = run_wait([httpx2.ReadError("reset")], timeout=300)
    assert isinstance(ended, WaitTimeoutError)
    assert "could not be looked at after 5 min" in ended.message
    assert "The last look failed" in ended.message
    assert "lora-packer wait job-1" in (ended.hint or "")
    assert not changes
    assert troubles


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 301])
def test_what_cannot_get_better_ends_the_wait(status: int) -> None:
    ended, _, troubles, time = run_wait([{"status": "Queued"}, httpx2.Response(status)])
    assert isinstance(ended, ServiceError)
    assert ended.status == status
    assert not troubles
    assert time.slept == [1.0]


def test_a_wrong_address_is_told_at_once() -> None:
    ended, _, _, time = run_wait([httpx2.Response(200, text="<html>hello")])
    assert isinstance(ended, ServiceError)
    assert "is HTML" in ended.message
    assert time.slept == []


def test_an_interrupt_is_passed_on() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with answering({"status": "Running"}) as client, pytest.raises(KeyboardInterrupt):
        v1.wait(client, "job-1", timeout=timedelta(hours=1), on_change=lambda _: None, sleep=interrupt)


def test_the_callbacks_may_be_left_out() -> None:
    quiet: Callable[[Job], None] = lambda _: None  # noqa: E731
    answers = [httpx2.Response(503), httpx2.Response(200, json=JOB_ON_PAGE)]
    time = FakeTime()
    with mock_client(lambda _: answers.pop(0)) as client:
        job = v1.wait(client, "job-1", timeout=timedelta(hours=1), on_change=quiet, sleep=time.sleep, clock=time.clock)
    assert job.is_complete


def test_a_job_that_stands_still_is_told_once_for_each_state() -> None:
    time, told = FakeTime(), list[tuple[str, timedelta]]()

    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"status": "Queued" if time.now < 3000 else "Processing"})

    with mock_client(handler) as client, pytest.raises(WaitTimeoutError):
        v1.wait(
            client,
            "job-1",
            timeout=timedelta(hours=2),
            on_change=lambda _: None,
            on_stale=lambda job, still: told.append((job.status, still)),
            sleep=time.sleep,
            clock=time.clock,
        )
    assert [status for status, _ in told] == ["Queued", "Processing"]
    assert all(STALE_AFTER <= still < STALE_AFTER + timedelta(seconds=20) for _, still in told)
