"""Version 2 of the API: requests as the vendor's SDK 3.1.1 was recorded to send them, jobs with their validation,
endpoints with deployments; against the sandbox and against answers as they may come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from together_support import (
    BASE_MODEL,
    FILES,
    HF_TOKEN,
    TOKEN,
    FakeTime,
    assert_no_secret,
    mock_client,
    presigned,
    serving_folder,
    submission,
    zip_of,
)

from lora_packer.errors import InputError, JobFailedError, ServiceError, WaitTimeoutError
from lora_packer.redact import Secret
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.together import APIS, Client, HubRepo, ensure_endpoint, v1, v2

P = "/v2/projects/proj_x"
UPLOAD = {
    "id": "up-1",
    "createdAt": "2026-01-02T03:04:05Z",
    "modelId": "ml_a",
    "projectId": "proj_x",
    "remoteUrl": presigned(),
    "status": "REMOTE_UPLOAD_STATUS_PENDING",
}
SUPPORTED = {"id": "arch_b", "name": BASE_MODEL, "baseModelId": "ml_b", "deploymentProfiles": []}
MODEL = {"id": "ml_a", "name": "slug/my-adapter", "projectId": "proj_x", "baseModelId": "ml_b"}
CONFIG = {
    "id": "cr_1",
    "projectId": "proj_cat",
    "selectors": [
        {"key": "accelerator_type", "value": "nvidia-h100-80gb"},
        {"key": "accelerator_count", "value": "1"},
    ],
}
INSTANCE = {"id": "it_1", "name": "1xnvidia-h100-80gb", "priceCentsPerHour": 390, "regions": []}
DEPLOYMENT = {"id": "dep_1", "modelId": "ml_a", "state": "DEPLOYMENT_STATE_READY", "hardware": "1xnvidia-h100-80gb"}
ENDPOINT: dict[str, Any] = {
    "id": "ep_1",
    "name": "slug/my-adapter",
    "etag": "e1",
    "trafficSplit": [],
    "deployments": [],
}
SERVING = {**ENDPOINT, "deployments": [DEPLOYMENT], "trafficSplit": [{"deploymentId": "dep_1", "weight": 1}]}

# What together 3.1.1 sent for the same calls (an httpx event hook on its client), with its ids put in their places.
RECORDED = [
    ("POST", f"{P}/models", '{"baseModelId":"ml_b","name":"my-adapter","type":"adapter","description":"d"}'),
    ("POST", f"{P}/models/uploads", '{"modelId":"ml_a","remoteUrl":"https://huggingface.co/org/repo","token":"TOKEN"}'),
    ("POST", f"{P}/endpoints", '{"name":"my-adapter"}'),
    (
        "POST",
        f"{P}/endpoints/ep_1/deployments",
        '{"autoscaling":{"minReplicas":1,"maxReplicas":1},"name":"my-adapter-ml_a",'
        '"config":"projects/proj_cat/configs/cr_1","model":"projects/proj_x/models/ml_a"}',
    ),
    (
        "PATCH",
        f"{P}/endpoints/ep_1?updateMask=trafficSplit",
        '{"etag":"e1","trafficSplit":[{"deploymentId":"dep_1","weight":1}]}',
    ),
    (
        "POST",
        "/v1/chat/completions",
        '{"messages":[{"role":"user","content":"Hi"}],"model":"slug/my-adapter","max_tokens":128}',
    ),
    ("PATCH", f"{P}/endpoints/ep_1?updateMask=trafficSplit", '{"trafficSplit":[]}'),
    (
        "PATCH",
        f"{P}/endpoints/ep_1/deployments/dep_1?updateMask=autoscaling",
        '{"autoscaling":{"minReplicas":0,"maxReplicas":0}}',
    ),
    ("DELETE", f"{P}/endpoints/ep_1/deployments/dep_1", ""),
    ("DELETE", f"{P}/endpoints/ep_1", ""),
]
LOOKS = {
    "/v2/supported-models?search=tiny%2Fllama",
    f"{P}/models",
    f"{P}/models/uploads",
    f"{P}/configs?referenceModelId=ml_b",
    "/v2/public/inference-instance-types",
    f"{P}/endpoints",
    f"{P}/endpoints/ep_1",
}


def page(*items: Any, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(items), **more}


def test_the_sdk_sends_the_same() -> None:
    sent: list[tuple[str, str, str]] = []
    state: dict[str, Any] = {"models": [], "endpoint": None}

    def handler(request: httpx2.Request) -> httpx2.Response:
        where = request.url.raw_path.decode()
        sent.append((request.method, where, request.content.decode()))
        match (request.method, where.partition("?")[0].removeprefix(P)):
            case ("GET", "/v2/supported-models"):
                return httpx2.Response(200, json=page(SUPPORTED))
            case ("GET", "/models"):
                return httpx2.Response(200, json=page(*state["models"]))
            case ("POST", "/models"):
                state["models"] = [MODEL]
                return httpx2.Response(200, json=MODEL)
            case ("POST", "/models/uploads"):
                return httpx2.Response(200, json=UPLOAD)
            case ("GET", "/configs"):
                return httpx2.Response(200, json=page(CONFIG))
            case ("GET", "/v2/public/inference-instance-types"):
                return httpx2.Response(200, json=page(INSTANCE))
            case ("GET", "/endpoints"):
                return httpx2.Response(200, json=page())
            case ("POST", "/endpoints"):
                return httpx2.Response(200, json=ENDPOINT)
            case ("POST", "/endpoints/ep_1/deployments"):
                return httpx2.Response(200, json={**DEPLOYMENT, "status": {"state": "DEPLOYMENT_STATE_PROVISIONING"}})
            case ("PATCH", "/endpoints/ep_1"):
                state["endpoint"] = SERVING
                return httpx2.Response(200, json=SERVING)
            case ("GET", "/endpoints/ep_1"):
                return httpx2.Response(200, json=state["endpoint"] or ENDPOINT)
            case ("POST", "/v1/chat/completions"):
                return httpx2.Response(200, json={"choices": [{"message": {"content": "Hello"}}]})
            case _:
                return httpx2.Response(200, json={})

    with mock_client(handler, project_id="proj_x") as client:
        source: dict[str, Any] = {"source": HubRepo("org/repo"), "hf_token": Secret(HF_TOKEN)}
        assert v2.submit(client, submission(description="d", **source)).id == "up-1"
        endpoint = v2.deploy(client, "slug/my-adapter")
        assert (endpoint.id, endpoint.is_serving, endpoint.cents_per_minute) == ("ep_1", True, 6.5)
        assert v2.ask(client, "ep_1", "Hi").text == "Hello"
        assert v2.stop(client, "ep_1", delete=True).is_stopped
    changed = [entry for entry in sent if entry[0] != "GET"]
    assert [entry[:2] for entry in changed] == [entry[:2] for entry in RECORDED]
    for (_, _, ours), (_, _, theirs) in zip(changed, RECORDED, strict=True):
        expected = json.loads(theirs.replace("TOKEN", HF_TOKEN)) if theirs else None
        assert (json.loads(ours) if ours else None) == expected
    assert {entry[1] for entry in sent if entry[0] == "GET"} <= LOOKS


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.together.ai/v1", "https://api-inference.together.ai/v1/chat/completions"),
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
    assert asked == [host, f"{base_url}/chat/completions"]


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
    assert asked == ["/v3/whoami", *["/v2/projects/proj_y/models/uploads/up-1"] * 2]
    asked.clear()
    with mock_client(handler, project_id="proj_x") as client:
        v2.job(client, "up-1")
    assert asked == [f"{P}/models/uploads/up-1"]


@pytest.mark.parametrize("answer", [{}, {"project": None}, {"project": {"id": ""}}, []])
def test_a_key_without_a_project(answer: Any) -> None:
    with mock_client(lambda _: httpx2.Response(200, json=answer)) as client, pytest.raises(ServiceError) as caught:
        v2.job(client, "up-1")
    assert "TOGETHER_PROJECT_ID" in (caught.value.hint or "")


@pytest.mark.parametrize("project", ["a b", "../x", "x" * 300])
def test_a_project_id_that_is_none(project: str) -> None:
    with pytest.raises(InputError, match="TOGETHER_PROJECT_ID"):
        Client.from_environment({"TOGETHER_API_KEY": TOKEN, "TOGETHER_PROJECT_ID": project})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([SUPPORTED], "ml_b"),
        ([{**SUPPORTED, "name": "x", "deploymentProfiles": [{"modelName": BASE_MODEL}]}], "ml_b"),
        ([SUPPORTED, {**SUPPORTED, "name": f"{BASE_MODEL}-large", "baseModelId": "ml_c"}], "ml_b"),
        ([SUPPORTED, {**SUPPORTED, "baseModelId": "ml_c"}], "several have that name: ml_b, ml_c"),
        ([{**SUPPORTED, "name": f"{BASE_MODEL}-large"}], "similar: tiny/llama-large"),
        ([], "does not support it"),
    ],
)
def test_the_base_model_by_its_name(found: list[Any], expected: str) -> None:
    from lora_packer.together.v2.project import base_model_id

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
        assert own_model(client, "3") == {**MODEL, "id": "ml_3", "name": "slug/3"}
        assert own_model(client, "ml_2") == {**MODEL, "id": "ml_2", "name": "slug/2"}
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
            [revision("FAILED", RANK, {"message": "b"}, None)],
            "Failed",
            ["adapter_rank: rank", "b", "no me"],
        ),
        ("SUCCEEDED", [revision("ERROR")], "Failed", ["ended as REVISION_VALIDATION_STATUS_ERROR"]),
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
        return httpx2.Response(200, json={**UPLOAD, "status": f"REMOTE_UPLOAD_STATUS_{upload}"})

    with mock_client(handler, project_id="proj_x") as client:
        job = v2.job(client, "up-1")
    assert (job.id, job.model_id, job.status) == ("up-1", "ml_a", status)
    assert_no_secret(job, job.to_dict())
    assert len(job.updates) == len(messages)
    for update, message in zip(job.updates, messages, strict=True):
        assert message in update.message


def test_the_wait_goes_on_through_the_validation() -> None:
    answers = [
        UPLOAD,
        {**UPLOAD, "status": "REMOTE_UPLOAD_STATUS_SUCCEEDED"},
        page(revision("PENDING")),
        {**UPLOAD, "status": "REMOTE_UPLOAD_STATUS_SUCCEEDED"},
        page(revision("FAILED", RANK)),
    ]
    time, seen = FakeTime(), list[str]()
    with (
        mock_client(lambda _: httpx2.Response(200, json=answers.pop(0)), project_id="proj_x") as client,
        pytest.raises(JobFailedError, match="adapter_rank: rank 512"),
    ):
        v2.wait(
            client,
            "up-1",
            timeout=timedelta(hours=1),
            on_change=lambda job: seen.append(job.status),
            sleep=time.sleep,
            clock=time.clock,
        )
    assert seen == ["Queued", "Validating", "Failed"]


def test_a_wait_that_takes_too_long_names_the_version() -> None:
    with (
        mock_client(lambda _: httpx2.Response(200, json=UPLOAD), project_id="proj_x") as client,
        pytest.raises(WaitTimeoutError) as caught,
    ):
        v2.wait(client, "up-1", timeout=timedelta(0), on_change=lambda _: None)
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


# ---- against the sandbox


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    (tmp_path / "nested.zip").write_bytes(zip_of({f"x/{name}": data for name, data in FILES.items()}))
    with serving_folder(tmp_path) as url:
        yield url


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0) as running:
        yield running


def client_of(service: Service) -> Client:
    return Client(service.api_key, service.base_url, sleep=lambda _: None)


def upload(service: Service, client: Client, url: str) -> str:
    job = v2.submit(client, submission(url))
    service.imports.join()
    v2.wait(client, job.id, timeout=timedelta(0), on_change=lambda _: None)
    assert job.model_name is not None
    return job.model_name


def test_from_upload_to_answer_to_deleted(service: Service, files: str) -> None:
    with client_of(service) as client:
        name = upload(service, client, presigned(host=files, path="/a.zip"))
        offers = v2.hardware(client, name)
        assert [(offer.cents_per_minute, offer.availability) for offer in offers] == [
            (6.5, "available"),
            (13.0, "unavailable"),
        ]
        endpoint, created = ensure_endpoint(v2, client, name)
        assert (created, endpoint.name) == (True, "devuser/my-adapter")
        assert v2.endpoint(client, endpoint.id).is_serving
        for called in (endpoint.id, "my-adapter", "devuser/my-adapter"):
            assert v2.ask(client, called, "Is it you?").text.startswith("The sandbox answers for devuser/my-adapter")
        again, created = ensure_endpoint(v2, client, name)
        assert (again.id, created, again.cents_per_minute) == (endpoint.id, False, 6.5)
        assert v2.stop(client, endpoint.id).is_stopped
        assert v2.endpoints(client, name) == ()
        started, _ = ensure_endpoint(v2, client, name)  # a stopped one is started again, and not doubled
        assert (started.id, started.is_serving) == (endpoint.id, True)
        assert v2.ask(client, name, "Back?").text
        (only,) = service.deployments.describe_all()
        assert len(only["deployments"]) == 1
        assert v2.stop(client, endpoint.id, delete=True).is_stopped
        assert service.deployments.describe_all() == []
        with pytest.raises(ServiceError, match="not found"):
            v2.endpoint(client, endpoint.id)


def test_an_endpoint_of_another_model_is_not_shared(service: Service, files: str) -> None:
    with client_of(service) as client:
        upload(service, client, f"{files}/a.zip")
        v2.deploy(client, "my-adapter", display_name="mine")
        other = v2.submit(client, submission(f"{files}/a.zip", model_name="other"))
        service.imports.join()
        assert v2.job(client, other.id).is_complete
        with pytest.raises(InputError, match="serves another model"):
            v2.deploy(client, "other", display_name="mine")


@pytest.mark.parametrize("cut", ["POST /endpoints", "POST /deployments", "PATCH /ep"])
def test_a_deployment_that_was_cut_off_is_completed_and_not_doubled(cut: str, service: Service, files: str) -> None:
    """Whichever request's answer is lost, the next run goes on from what is there."""
    lost = []

    class Flaky(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = super().handle_request(request)
            method, _, end = cut.partition(" ")
            last = request.url.path.rpartition("/")[2]
            if request.method == method and f"/{last}".startswith(end) and not lost:
                lost.append(cut)
                answer.close()
                raise httpx2.ReadError("reset")
            return answer

    with client_of(service) as client:
        name = upload(service, client, f"{files}/a.zip")
    with Client(service.api_key, service.base_url, transport=Flaky(), sleep=lambda _: None) as client:
        with pytest.raises(ServiceError):
            ensure_endpoint(v2, client, name)
        assert lost == [cut]
        endpoint, _ = ensure_endpoint(v2, client, name)
        assert v2.ask(client, endpoint.id, "Hello").text
    (only,) = service.deployments.describe_all()
    assert len(only["deployments"]) == 1


@pytest.mark.parametrize(
    ("path", "said"), [("/nested.zip", "adapter_files: Missing required files"), ("/expired.zip", "HTTP 403")]
)
def test_a_failed_upload_frees_its_name(path: str, said: str, service: Service, files: str) -> None:
    with client_of(service) as client:
        job = v2.submit(client, submission(presigned(host=files, path=path)))
        service.imports.join()
        with pytest.raises(JobFailedError, match=said):
            v2.wait(client, job.id, timeout=timedelta(0), on_change=lambda _: None)
        assert v2.find(client, "my-adapter") is None
        upload(service, client, presigned(host=files, path="/a.zip"))
        found = v2.find(client, "my-adapter")
        assert found is not None
        assert found.is_complete
        assert len(service.models) == 1
        with pytest.raises(ServiceError, match="already exists") as caught:
            v2.submit(client, submission(presigned(host=files, path="/a.zip")))
    assert "new --model-name" in (caught.value.hint or "")


def test_a_lost_answer_is_found_again(files: str) -> None:
    with Service(delay=0, faults=Faults(lose_answer=True)) as service, client_of(service) as client:
        with pytest.raises(ServiceError) as caught:
            v2.submit(client, submission(f"{files}/a.zip"))
        assert "not repeated" in (caught.value.hint or "")
        service.imports.join()
        found = v2.find(client, "my-adapter")
    assert found is not None
    assert found.is_complete


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 422, 429, 500, 503])
def test_refusals(status: int) -> None:
    with Service(delay=0, faults=Faults(refuse_submit=status)) as service, client_of(service) as client:
        with pytest.raises(ServiceError) as caught:
            v2.submit(client, submission())
        assert caught.value.status == status
        assert caught.value.hint
        assert service.models == {}


def test_what_is_not_there(service: Service) -> None:
    with client_of(service) as client:
        calls: list[Callable[[], object]] = [
            lambda: v2.hardware(client, "none"),
            lambda: v2.deploy(client, "none"),
            lambda: v2.endpoint(client, "ep_none"),
            lambda: v2.stop(client, "ep_none"),
            lambda: v2.ask(client, "ep_none", "?"),
            lambda: v2.ask(client, "none", "?"),
            lambda: v2.job(client, "none"),
        ]
        for call in calls:
            with pytest.raises(ServiceError) as caught:
                call()
            assert caught.value.hint
        assert v2.endpoints(client, "none") == ()
        assert v2.find(client, "none") is None
        with pytest.raises(ServiceError, match="not support"):
            v2.submit(client, submission(base_model="org/unknown"))
