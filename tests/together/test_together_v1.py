"""Version 1 of the API: the requests byte for byte as the vendor's SDK sends them, the answers, and the wait."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from together_support import (
    BASE_MODEL,
    HF_TOKEN,
    TOKEN,
    assert_no_secret,
    mock_client,
    presigned,
    recording,
    submission,
)
from v1_answers import CREATED_IN_SPEC, CREATED_ON_PAGE, JOB_IN_SPEC, JOB_ON_PAGE, answering

from lora_packer.errors import InputError, JobFailedError, ServiceError
from lora_packer.redact import Secret
from lora_packer.together import APIS, Api, Client, HubRepo, Job, StatusUpdate, v1, wait_for_job


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
    answers = [(200, json.dumps(answer).encode()) for answer in (CREATED_IN_SPEC, JOB_IN_SPEC, [])]
    with recording(answers * 2) as (address, requests):
        with together.Together(api_key=TOKEN, base_url=address + "/v1", max_retries=0) as sdk:
            sdk.models.upload(**arguments)
            sdk.models.uploads.status("job-1")
            sdk.models.list(dedicated=True)
        with Client(Secret(TOKEN), address + "/v1") as client:
            v1.submit(client, submission(url, description=description, **source))
            v1.job(client, "job-1")
            v1.hosts(client, BASE_MODEL)
    theirs, ours = requests[:3], requests[3:]
    assert len(ours) == len(theirs) == 3
    for their, our in zip(theirs, ours, strict=True):
        assert (our.method, our.path) == (their.method, their.path)
        for name in ("authorization", "accept"):
            assert our.headers[name] == their.headers[name]
    assert ours[0].json == theirs[0].json == arguments
    assert ours[0].headers["content-type"] == theirs[0].headers["content-type"]
    assert [our.body for our in ours[1:]] == [their.body for their in theirs[1:]] == [b"", b""]


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
                source="unsloth/Qwen2.5-72B-Instruct",
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
            wait_for_job(v1, client, "job-1", timeout=timedelta(0), on_change=lambda _: None)
    assert_no_secret(caught.value, caught.value.hint)


def test_every_version_is_an_chosen_api() -> None:
    chosen: Api = APIS["v1"]
    assert chosen is v1
