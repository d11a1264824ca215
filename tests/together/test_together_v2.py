"""Version 2 of the API: jobs with their validation, endpoints with deployments; against the sandbox and against answers
as they may come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx2
import pytest
from together_support import (
    BASE_MODEL,
    TOKEN,
    FakeTime,
    assert_no_secret,
    mock_client,
    presigned,
    submission,
)
from v2_answers import CONFIG, INSTANCE, MODEL, SUPPORTED, UPLOAD, P, page

from lora_packer.errors import InputError, JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.together import APIS, Client, HubRepo, v1, v2, wait_for_job
from lora_packer.together.refusal import Purpose
from lora_packer.together.v2.offers import offers_for
from lora_packer.together.v2.told_models import model_in


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.together.ai/v1", "https://api-inference.together.ai/v1/chat/completions"),
        ("https://api.together.ai", "https://api-inference.together.ai/v1/chat/completions"),  # as SDK 3 is given it
        ("https://api.together.ai/", "https://api-inference.together.ai/v1/chat/completions"),
        ("https://api.together.xyz/v1", "https://api-inference.together.ai/v1/chat/completions"),
        ("https://proxy.example/v1", "https://proxy.example/v1/chat/completions"),
    ],
)
def test_questions_go_to_the_inference_host_unless_the_address_is_anothers(base_url: str, host: str) -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, json={"choices": [{"message": {"content": "Hello"}}]})

    with mock_client(handler, base_url=base_url) as client:
        v2.ask(client, "slug/my-adapter", "Hi")
        v1.ask(client, "slug/my-adapter", "Hi")
    assert asked == [host, f"{base_url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"]


def test_every_version_has_the_same_functions() -> None:
    assert {"v1": v1, "v2": v2} == APIS
    assert v1.__all__ == v2.__all__


# ---- project, base model, pages


def test_the_project_is_that_of_the_key_unless_told() -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if request.url.path == "/v3/whoami":
            return httpx2.Response(200, json={"project": {"id": "proj_y", "slug": "slug"}})
        return httpx2.Response(200, json=UPLOAD)

    with mock_client(handler) as client:
        v2.job(client, "up-1")
        v2.job(client, "up-1")
    looked = ["/v2/projects/proj_y/models/uploads/up-1", "/v2/projects/proj_y/models/uploads/up-1/events"]
    assert asked == ["/v3/whoami", *looked, *looked]
    asked.clear()
    with mock_client(handler, project_id="proj_x") as client:
        v2.job(client, "up-1")
    assert asked == [f"{P}/models/uploads/up-1", f"{P}/models/uploads/up-1/events"]


@pytest.mark.parametrize("answer", [{"type": "org_api_key"}, {"project": None}, {"project": {"id": ""}}])
def test_a_key_without_a_project(answer: Any) -> None:
    with mock_client(lambda _: httpx2.Response(200, json=answer)) as client, pytest.raises(ServiceError) as caught:
        v2.job(client, "up-1")
    assert "TOGETHER_PROJECT_ID" in (caught.value.hint or "")


@pytest.mark.parametrize("project", ["a b", "../x", "x" * 300])
def test_a_project_id_that_is_none(project: str) -> None:
    with pytest.raises(InputError, match="TOGETHER_PROJECT_ID"):
        Client.from_environment({"TOGETHER_API_KEY": TOKEN, "TOGETHER_PROJECT_ID": project})


MADE_OF = "projects/proj_cat/models/"
FP8 = {"modelName": BASE_MODEL, "model": MADE_OF + "ml_fp8", "quantization": "fp8"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([SUPPORTED], "ml_b"),
        ([{**SUPPORTED, "name": "x", "deploymentProfiles": [{"modelName": BASE_MODEL}]}], "ml_b"),
        ([SUPPORTED, {**SUPPORTED, "name": f"{BASE_MODEL}-large", "baseModelId": "ml_c"}], "ml_b"),
        ([SUPPORTED, {**SUPPORTED, "baseModelId": "ml_c"}], "several have that name: ml_b, ml_c"),
        ([{**SUPPORTED, "name": f"{BASE_MODEL}-large"}], "similar: tiny/llama-large"),
        ([], "does not support it"),
        # A name of a deployment means its weights, whatever base is linked, and also where none is.
        ([{**SUPPORTED, "name": "x", "deploymentProfiles": [FP8]}], "ml_fp8"),
        ([{**SUPPORTED, "deploymentProfiles": [FP8, {**FP8, "modelName": "y", "model": MADE_OF + "ml_y"}]}], "ml_fp8"),
        ([{**SUPPORTED, "baseModelId": "", "deploymentProfiles": [FP8]}], "ml_fp8"),
        ([{**SUPPORTED, "deploymentProfiles": [{**FP8, "model": MADE_OF + "ml_fp8/revisions/rev_1"}]}], "ml_fp8"),
        # The catalogue's own name means its base model, and the only weights there are.
        ([{**SUPPORTED, "deploymentProfiles": [{**FP8, "modelName": "y"}]}], "ml_b"),
        ([{**SUPPORTED, "baseModelId": "", "deploymentProfiles": [{**FP8, "modelName": "y"}]}], "ml_fp8"),
        (
            [{**SUPPORTED, "deploymentProfiles": [FP8, {**FP8, "model": MADE_OF + "ml_z", "quantization": "nvfp4"}]}],
            r"several have that name: tiny/llama \(ml_fp8, fp8\), tiny/llama \(ml_z, nvfp4\)",
        ),
        (
            [{**SUPPORTED, "name": "x", "deploymentProfiles": [{**FP8, "modelName": "y"}]}],
            r"does not support it on dedicated endpoints; similar: y \(ml_fp8, fp8\)",
        ),
        (
            [{**SUPPORTED, "name": "x", "baseModelId": "", "deploymentProfiles": [None, 3, {}]}],
            "similar: no|similar: x",
        ),
    ],
)
def test_the_base_model_by_its_name(found: list[Any], expected: str) -> None:
    from lora_packer.together.v2.supported import base_model_id

    with mock_client(lambda _: httpx2.Response(200, json=page(*found))) as client:
        if expected.startswith("ml_"):
            assert base_model_id(client, BASE_MODEL) == expected
        else:
            with pytest.raises(ServiceError, match=expected) as caught:
                base_model_id(client, BASE_MODEL)
            assert "--base-model" in (caught.value.hint or "")


def test_lists_are_read_to_their_last_page() -> None:
    from lora_packer.together.v2.project import own_model

    def handler(request: httpx2.Request) -> httpx2.Response:
        after = request.url.params.get("after")
        more = {None: "2", "2": "3", "3": "3"}[after]
        return httpx2.Response(
            200, json=page({**MODEL, "id": f"ml_{after}", "name": f"slug/{after}"}, next_cursor=more)
        )

    with mock_client(handler, project_id="proj_x") as client:
        for name, expected in (("3", ("ml_3", "slug/3")), ("ml_2", ("ml_2", "slug/2"))):
            found = own_model(client, name)
            assert found is not None
            assert (found.id, found.name) == expected
        assert own_model(client, "none") is None


# ---- jobs


def revision(status: str, *errors: Any, at: str = "2026-01-02T03:04:05Z") -> dict[str, Any]:
    return {
        "revisionId": "rev_1",
        "createdAt": at,
        "validationStatus": f"REVISION_VALIDATION_STATUS_{status}",
        "validationErrors": list(errors),
    }


RANK = {"rule": "adapter_rank", "severity": "ERROR", "message": "rank 512 is not supported"}


@pytest.mark.parametrize(
    ("upload", "revisions", "status", "messages"),
    [
        ("PENDING", None, "Queued", []),
        ("RUNNING", None, "Running", []),
        ("ERROR", None, "Error", []),
        ("FAILED", None, "Failed", []),
        ("SOMETHING_NEW", None, "SOMETHING_NEW", []),
        ("SUCCEEDED", [], "Validating", []),
        ("SUCCEEDED", [revision("PENDING")], "Validating", []),
        ("SUCCEEDED", [revision("UNSPECIFIED")], "Validating", []),
        ("SUCCEEDED", [{"revisionId": "rev_1"}], "Validating", []),
        ("SUCCEEDED", [revision("SUCCESS")], "Complete", []),
        ("SUCCEEDED", [revision("FAILED", RANK)], "Failed", ["adapter_rank: rank 512 is not supported"]),
        (
            "SUCCEEDED",
            [revision("FAILED", RANK, {"message": "b"}, {}, None)],
            "Failed",
            ["adapter_rank: rank", "b", "no me"],
        ),
        ("SUCCEEDED", [revision("ERROR")], "Error", ["internal error of its own"]),
        ("SUCCEEDED", [revision("ERROR", RANK)], "Error", ["adapter_rank: rank 512", "internal error of its own"]),
        ("SUCCEEDED", [revision("FAILED", RANK), revision("SUCCESS", at="2026-02-02T00:00:00Z")], "Complete", []),
    ],
)
def test_a_job_is_complete_once_its_revision_is_validated(
    upload: str, revisions: list[Any] | None, status: str, messages: list[str]
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == f"{P}/models/ml_a/revisions":
            assert revisions is not None
            return httpx2.Response(200, json=page(*revisions))
        if request.url.path.endswith("/events"):
            return httpx2.Response(200, json=page())
        return httpx2.Response(200, json={**UPLOAD, "status": f"REMOTE_UPLOAD_STATUS_{upload}"})

    with mock_client(handler, project_id="proj_x") as client:
        job = v2.job(client, "up-1")
    assert (job.id, job.model_id, job.status) == ("up-1", "ml_a", status)
    assert_no_secret(job, job.to_dict())
    assert len(job.updates) == len(messages)
    for update, message in zip(job.updates, messages, strict=True):
        assert message in update.message


def event(number: int, message: str, level: str = "INFO") -> dict[str, Any]:
    return {
        "id": f"evt_{number}",
        "createdAt": f"2026-01-02T03:04:{number:02}Z",
        "level": f"LEVEL_{level}",
        "message": message,
        "type": "download.started",
    }


def test_the_wait_goes_on_through_the_validation_and_tells_the_events_as_they_come() -> None:
    succeeded = {**UPLOAD, "status": "REMOTE_UPLOAD_STATUS_SUCCEEDED"}
    began, half, done = event(1, "began"), event(2, "half"), event(3, f"fetched {presigned()}")
    answers = [
        *[UPLOAD, page(began, event(4, "of no interest", "DEBUG"))],
        *[UPLOAD, page(half, began)],  # in any order
        *[UPLOAD, httpx2.Response(503)],  # they decide nothing
        *[succeeded, page(began, half, done), page(revision("PENDING"))],
        *[succeeded, page(began, half, done), page(revision("FAILED", RANK))],
    ]
    time, seen = FakeTime(), list[tuple[str, list[str]]]()

    def handler(_: httpx2.Request) -> httpx2.Response:
        answer = answers.pop(0)
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    with (
        mock_client(handler, project_id="proj_x") as client,
        pytest.raises(JobFailedError, match=r"as Failed: adapter_rank: rank 512 is not supported\."),
    ):
        wait_for_job(
            v2,
            client,
            "up-1",
            timeout=timedelta(hours=1),
            on_change=lambda job: seen.append((job.status, [update.message for update in job.updates])),
            sleep=time.sleep,
            clock=time.clock,
        )
    assert_no_secret(seen)
    assert [status for status, _ in seen] == ["Queued", "Queued", "Queued", "Validating", "Failed"]
    assert [messages[:2] for _, messages in seen] == [["began"], ["began", "half"], [], *[["began", "half"]] * 2]


def test_a_validation_that_broke_off_is_looked_at_again_until_the_time_is_up() -> None:
    """docs.together.ai/docs/dedicated-endpoints/adapter: "due to an internal error. Retry later or contact support"."""
    states = ["PENDING", "ERROR", "ERROR", "PENDING", "SUCCESS"]

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/revisions"):
            return httpx2.Response(200, json=page(revision(states.pop(0) if len(states) > 1 else states[0])))
        if request.url.path.endswith("/events"):
            return httpx2.Response(200, json=page())
        return httpx2.Response(200, json={**UPLOAD, "status": "REMOTE_UPLOAD_STATUS_SUCCEEDED"})

    def wait(minutes: int) -> tuple[str, list[str]]:
        time, seen = FakeTime(), list[str]()
        with mock_client(handler, time, project_id="proj_x") as client:
            ended = wait_for_job(
                v2,
                client,
                "job_1",
                timeout=timedelta(minutes=minutes),
                on_change=lambda job: seen.append(job.status),
                sleep=time.sleep,
                clock=time.clock,
            )
        return ended.status, seen

    assert wait(60) == ("Complete", ["Validating", "Error", "Validating", "Complete"])
    states[:] = ["ERROR"]
    with pytest.raises(WaitTimeoutError) as caught:
        wait(10)
    assert "was still Error after 10 min: the service's validation could not complete" in caught.value.message
    assert "Where it stays so, ask the service's support" in caught.value.message
    assert "lora-packer wait job_1`." in (caught.value.hint or "")
    assert "source can no longer be read" not in (caught.value.hint or "")


def test_a_wait_that_takes_too_long_names_the_version() -> None:
    with (
        mock_client(lambda _: httpx2.Response(200, json=UPLOAD), project_id="proj_x") as client,
        pytest.raises(WaitTimeoutError) as caught,
    ):
        wait_for_job(v2, client, "up-1", timeout=timedelta(0), on_change=lambda _: None)
    assert "lora-packer wait up-1 --api v2" in (caught.value.hint or "")


@pytest.mark.parametrize("answer", [{}, [], {"status": 5}, {"status": ""}])
def test_a_job_without_a_status(answer: Any) -> None:
    with (
        mock_client(lambda _: httpx2.Response(200, json=answer), project_id="proj_x") as client,
        pytest.raises(ServiceError, match="names no status"),
    ):
        v2.job(client, "up-1")


def test_a_revision_of_a_hub_repo_is_not_dropped() -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing may be sent")

    with mock_client(handler) as client, pytest.raises(InputError, match="revision"):
        v2.submit(client, submission(source=HubRepo("org/repo", "v2")))


PROFILE = {
    "modelName": BASE_MODEL,
    "model": MADE_OF + "ml_b",
    "config": "projects/proj_cat/configs/cr_9",
    "certifiedConfigRevisionId": "cr_9",
    "gpuType": "nvidia-h100-80gb",
    "gpuCount": 1,
}


@pytest.mark.parametrize(
    ("listed", "profiles", "paths"),
    [
        ({"ml_b": [CONFIG]}, [PROFILE], ["projects/proj_cat/configs/cr_1"]),
        ({"ml_a": [CONFIG]}, [PROFILE], ["projects/proj_cat/configs/cr_1"]),
        ({}, [PROFILE], ["projects/proj_cat/configs/cr_9"]),
        ({}, [{**PROFILE, "config": ""}], ["projects/proj_cat/configs/cr_9"]),
        ({}, [{**PROFILE, "model": MADE_OF + "ml_other"}, PROFILE], ["projects/proj_cat/configs/cr_9"]),
        ({}, [{**PROFILE, "model": ""}], ["projects/proj_cat/configs/cr_9"]),
        ({}, [{**PROFILE, "config": "", "certifiedConfigRevisionId": ""}], []),
        ({}, [], []),
    ],
)
def test_configurations_come_from_the_catalogue_where_the_list_is_empty(
    listed: dict[str, list[Any]], profiles: list[Any], paths: list[str]
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        match request.url.path:
            case "/v2/supported-models":
                return httpx2.Response(200, json=page({**SUPPORTED, "deploymentProfiles": profiles}))
            case "/v2/public/inference-instance-types":
                return httpx2.Response(200, json=page(INSTANCE))
            case _:
                return httpx2.Response(200, json=page(*listed.get(request.url.params["referenceModelId"], [])))

    with mock_client(handler, project_id="proj_x") as client:
        offers = offers_for(client, model_in(MODEL, Purpose("look at a model")))
    assert [path for _, path in offers] == paths
    assert [(offer.instance_type, offer.cents_per_minute) for offer, _ in offers] == [
        ("1xnvidia-h100-80gb", 6.5) for _ in paths
    ]
