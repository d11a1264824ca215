"""The service's troubleshooting: every entry of its page, and every error that it documents, ends in a next step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from together_support import FakeTime, assert_no_secret, mock_client, submission

from lora_packer.errors import LoraPackerError
from lora_packer.together import APIS, Client, v1, v2, wait_for_job

P = "/v2/projects/proj_x"
SUPPORTED = {"id": "arch_b", "name": "tiny/llama", "baseModelId": "ml_b", "deploymentProfiles": []}
MODEL = {"id": "ml_a", "name": "slug/my-adapter", "projectId": "proj_x", "baseModelId": "ml_b"}
SELECTORS = [{"key": "accelerator_type", "value": "h100"}, {"key": "accelerator_count", "value": "1"}]
CONFIG = {"id": "cr_1", "projectId": "proj_cat", "selectors": SELECTORS}
ENDPOINT: dict[str, Any] = {"id": "ep_1", "name": "slug/my-adapter", "etag": "e", "trafficSplit": [], "deployments": []}
HARDWARE = {
    "id": "1x_nvidia_h100_80gb_sxm",
    "pricing": {"cents_per_minute": 1},
    "availability": {"status": "available"},
}

# What is there before the request that is refused, by version.
GOOD: dict[tuple[str, str], Any] = {
    ("GET", "/v1/hardware"): {"data": [HARDWARE]},
    ("GET", "/v2/supported-models"): {"data": [SUPPORTED]},
    ("GET", f"{P}/models"): {"data": []},
    ("POST", f"{P}/models"): MODEL,
    ("GET", f"{P}/configs"): {"data": [CONFIG]},
    ("GET", "/v2/public/inference-instance-types"): {"data": []},
    ("GET", f"{P}/endpoints"): {"data": []},
    ("POST", f"{P}/endpoints"): ENDPOINT,
    ("POST", f"{P}/endpoints/ep_1/deployments"): {"id": "dep_1", "modelId": "ml_a"},
    ("GET", f"{P}/endpoints/ep_1"): ENDPOINT,
    ("GET", f"{P}/endpoints/ep_1/deployments"): {"data": [{"id": "dep_1", "modelId": "ml_a"}]},
    ("PATCH", f"{P}/endpoints/ep_1/deployments/dep_1"): {},
    ("GET", f"{P}/endpoints/ep_1/deployments/dep_1"): {"state": "DEPLOYMENT_STATE_STOPPED"},
    ("DELETE", f"{P}/endpoints/ep_1/deployments/dep_1"): {},
    ("DELETE", f"{P}/endpoints/ep_1"): {},
}
DEPLOYABLE = {("GET", f"{P}/models"): {"data": [MODEL]}}


def error_data(status: int, message: str, code: str | None = None) -> httpx2.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return httpx2.Response(status, json=body)


Call = Callable[[Client], object]


def outcome(call: Call, at: tuple[str, str], answer: httpx2.Response, **more: Any) -> LoraPackerError:
    """The error of a call whose request ``at`` is answered so, and every other as it should be."""
    good = {**GOOD, **more.get("good", {})}

    def handler(request: httpx2.Request) -> httpx2.Response:
        where = (request.method, request.url.path)
        if where == at:
            return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)
        return httpx2.Response(200, json=good[where])

    with mock_client(handler, FakeTime(), project_id="proj_x") as client, pytest.raises(LoraPackerError) as caught:
        call(client)
    assert_no_secret(caught.value)
    return caught.value


def submitting(version: str) -> Call:
    return lambda client: APIS[version].submit(client, submission())


UPLOADS = {"v1": ("POST", "/v1/models"), "v2": ("POST", f"{P}/models/uploads")}
CREATES = {"v1": ("POST", "/v1/models"), "v2": ("POST", f"{P}/models")}


@pytest.mark.parametrize("version", APIS)
@pytest.mark.parametrize(
    ("entry", "at", "answer", "hint"),
    [
        # The page: "Model name already exists". Its HTTP status is documented nowhere.
        ("name", CREATES, error_data(400, "Model name already exists"), "Choose a new --model-name"),
        ("name", CREATES, error_data(409, "Model name already exists"), "Choose a new --model-name"),
        ("name", CREATES, error_data(409, "conflict"), "Choose a new --model-name"),
        ("name", CREATES, error_data(422, "Model name already exists"), "Choose a new --model-name"),
        ("name", CREATES, httpx2.Response(200, json={"message": "Model name already exists"}), "new --model-name"),
        # "Missing required files"
        ("files", UPLOADS, error_data(400, "Missing required files: adapter_config.json"), "`lora-packer pack`"),
        ("files", UPLOADS, error_data(422, "adapter_model.safetensors was not found"), "must be at the root"),
        # "Base model incompatibility"
        ("base", CREATES, error_data(400, "base model org/x is not supported"), "Check --base-model"),
        ("base", CREATES, error_data(400, "org/x does not support LoRA adapters"), "Check --base-model"),
        ("base", CREATES, error_data(400, "base_model_id is required"), "Check --base-model"),
        ("base", UPLOADS, error_data(404, "Model not found"), "Check --base-model"),
        ("base", UPLOADS, error_data(400, "unsupported adapter rank 512"), "Check --base-model"),
        # "401 or 403 during upload"
        ("401", UPLOADS, error_data(401, "Invalid API key provided"), "TOGETHER_API_KEY"),
        ("403", UPLOADS, error_data(403, "forbidden"), "TOGETHER_API_KEY"),
        ("403", UPLOADS, error_data(403, "forbidden"), "HF_TOKEN"),
        ("403", UPLOADS, error_data(403, "forbidden"), "presigned URL is alive"),
        ("403", UPLOADS, error_data(403, "presigned URL expired"), "presigned URL is alive"),
        # docs.together.ai/docs/error-codes
        ("402", UPLOADS, error_data(402, "spending limit"), "billing"),
        ("429", UPLOADS, error_data(429, "rate limit"), "Wait"),
        ("413", UPLOADS, error_data(413, "too large"), "Correct what it names"),
        ("500", UPLOADS, error_data(500, "internal"), "The job may exist"),
        ("503", UPLOADS, error_data(503, "overloaded"), "The job may exist"),
    ],
)
def test_a_submission_that_is_refused(
    entry: str, at: dict[str, tuple[str, str]], answer: httpx2.Response, hint: str, version: str
) -> None:
    error = outcome(submitting(version), at[version], answer)
    assert error.exit_code == 5
    assert hint in (error.hint or "")


@pytest.mark.parametrize("version", APIS)
@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Missing required files: adapter_model.safetensors", "must be at the root"),
        ("the files are nested in the top-level directory 'x'", "must be at the root"),
        ("base model incompatibility", "Check --base-model"),
        ("adapter rank 512 is not supported", "Check --base-model"),
        ("could not download model_source: HTTP 403", "presigned URL is alive"),
        ("Access Denied", "HF_TOKEN"),
        ("something else", "ask the service's support with this id"),
    ],
)
def test_a_job_that_failed(message: str, hint: str, version: str) -> None:
    job = {"status": "Failed", "status_updates": [{"status": "Failed", "message": message, "timestamp": ""}]}
    upload = {"status": "REMOTE_UPLOAD_STATUS_FAILED", "statusMessage": message}
    path = "/v1/jobs/job-1" if version == "v1" else f"{P}/models/uploads/job-1"
    error = outcome(
        lambda client: wait_for_job(APIS[version], client, "job-1", timeout=timedelta(0), on_change=lambda _: None),
        ("GET", path),
        httpx2.Response(200, json=job if version == "v1" else upload),
        good={("GET", f"{path}/events"): {"data": []}},
    )
    assert error.exit_code == 5
    assert message in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize("version", APIS)
def test_a_job_that_is_stuck_in_processing(version: str) -> None:
    """What is found out by then is told before: test_together_diagnose_job.py."""
    path = "/v1/jobs/job-1" if version == "v1" else f"{P}/models/uploads/job-1"
    error = outcome(
        lambda client: wait_for_job(APIS[version], client, "job-1", timeout=timedelta(0), on_change=lambda _: None),
        ("GET", path),
        httpx2.Response(200, json={"status": "Processing"}),
        good={("GET", f"{path}/events"): {"data": []}},
    )
    assert error.exit_code == 6
    assert "its source can no longer be read" in error.message


def deploy(client: Client) -> object:
    return v1.deploy(client, "devuser/a")


def deploy_two(client: Client) -> object:
    return v2.deploy(client, "my-adapter")


def ask(client: Client) -> object:
    return v1.ask(client, "devuser/a", "Hello")


def ask_two(client: Client) -> object:
    return v2.ask(client, "slug/my-adapter", "Hello")


ENDPOINTS, CHAT = ("POST", "/v1/endpoints"), ("POST", "/v1/chat/completions")
CLOSED = "endpoints_v1_create_access_disabled"


@pytest.mark.parametrize(
    ("call", "at", "answer", "hint"),
    [
        # What version 2 would do says so, with the command.
        (deploy, ENDPOINTS, error_data(403, "disabled", CLOSED), "`lora-packer release ... --api v2 --deploy"),
        (deploy, ENDPOINTS, error_data(404, "not found"), "--api v2"),
        (deploy, ENDPOINTS, error_data(410, "gone"), "--api v2"),
        (submitting("v1"), UPLOADS["v1"], error_data(404, "no such path"), "--api v2"),
        (submitting("v1"), UPLOADS["v1"], error_data(410, "gone"), "--api v2"),
        # What the vendor's command line knows version 1 to say of hardware: together 2.42.0.
        (deploy, ENDPOINTS, error_data(400, "check the hardware api"), "lora-packer hardware MODEL"),
        (deploy, ENDPOINTS, error_data(400, "invalid hardware provided"), "lora-packer hardware MODEL"),
        (deploy, ENDPOINTS, error_data(400, "invalid hardware/gpu provided"), "lora-packer hardware MODEL"),
        (deploy, ENDPOINTS, error_data(422, "hardware is required"), "lora-packer hardware MODEL"),
        (deploy, ENDPOINTS, error_data(500, "internal"), "may exist, and cost money"),
        (ask, CHAT, error_data(400, "Unable to access non-serverless model"), "`lora-packer deploy MODEL`"),
        (ask, CHAT, error_data(400, "tokenizer.chat_template is not set"), "chat template"),
        (ask, CHAT, error_data(404, "not found"), "`lora-packer deploy` prints both"),
        (ask_two, CHAT, error_data(503, "no traffic", "routing_error"), "`lora-packer deploy MODEL`"),
        (ask_two, CHAT, error_data(503, "overloaded"), "run it again in a few minutes"),
        (
            deploy_two,
            ("PATCH", f"{P}/endpoints/ep_1"),
            error_data(409, "the etag is stale"),
            "run the same command again",
        ),
        (
            deploy_two,
            ("POST", f"{P}/endpoints/ep_1/deployments"),
            error_data(500, "internal"),
            "deleted again, so nothing of it costs money",  # it was the dry run that had no answer
        ),
        (deploy_two, ("GET", f"{P}/models"), httpx2.Response(200, json={"data": []}), "release ... --api v2"),
    ],
)
def test_a_deployment_or_a_question_that_is_refused(
    call: Call, at: tuple[str, str], answer: httpx2.Response, hint: str
) -> None:
    error = outcome(call, at, answer, good=DEPLOYABLE)
    assert error.exit_code == 5
    assert hint in (error.hint or "")
