"""Waiting for a job: what is a change, what is an end, what is ridden out, what is told of one that stands still."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from together_support import FakeTime, mock_client
from v1_answers import JOB_ON_PAGE, answering

from lora_packer.errors import JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.together import STALE_AFTER, Job, v1, wait_for_job

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
            ended = wait_for_job(
                v1,
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
        wait_for_job(v1, client, "job-1", timeout=timedelta(hours=1), on_change=lambda _: None, sleep=interrupt)


def test_the_callbacks_may_be_left_out() -> None:
    quiet: Callable[[Job], None] = lambda _: None  # noqa: E731
    answers = [httpx2.Response(503), httpx2.Response(200, json=JOB_ON_PAGE)]
    time = FakeTime()
    with mock_client(lambda _: answers.pop(0)) as client:
        job = wait_for_job(
            v1, client, "job-1", timeout=timedelta(hours=1), on_change=quiet, sleep=time.sleep, clock=time.clock
        )
    assert job.is_complete


def test_a_job_that_stands_still_is_told_once_for_each_state() -> None:
    time, told = FakeTime(), list[tuple[str, timedelta]]()

    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"status": "Queued" if time.now < 3000 else "Processing"})

    with mock_client(handler) as client, pytest.raises(WaitTimeoutError):
        wait_for_job(
            v1,
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
