"""The sandbox's Together API, with the vendor's own SDK and command line as its clients, and ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import together
from service_support import V1_ENDPOINTS
from together_support import (
    BASE_MODEL,
    FILES,
    SIGNATURE,
    assert_no_secret,
    presigned,
    serving_folder,
    submission,
    tar_of,
    zip_of,
)

from lora_packer.errors import InputError, JobFailedError, ServiceError
from lora_packer.redact import PresignedUrl, Secret
from lora_packer.sandbox.faults import FAULT_KINDS, Faults
from lora_packer.sandbox.service import Service
from lora_packer.sandbox.state import DEFAULT_BASE_MODELS
from lora_packer.together import Client, HubRepo, v1, wait_for_job

CONFIG, WEIGHTS = FILES["adapter_config.json"], FILES["adapter_model.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.fixture
def files(folder: Path) -> Iterator[str]:
    with serving_folder(folder) as url:
        yield url


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0, faults=V1_ENDPOINTS) as running:
        yield running


def client_of(service: Service) -> Client:
    return Client(service.api_key, service.base_url, sleep=lambda _: None)


def run_job(service: Service, url: str, name: str = "my-adapter") -> dict[str, Any]:
    """Submit an archive and return the job once it has ended, as the wire has it."""
    with client_of(service) as client:
        job = v1.submit(client, submission(url, model_name=name))
    service.jobs.join()
    found = service.jobs.describe(job.id)
    assert found is not None
    return found


def last_message(job: dict[str, Any]) -> str:
    message = job["status_updates"][-1]["message"]
    assert isinstance(message, str)
    return message


# ---- the vendor's clients


def test_the_sdk_uploads_and_reads_the_job(service: Service, files: str, folder: Path) -> None:
    (folder / "a.zip").write_bytes(zip_of(FILES))
    with together.Together(api_key=service.api_key.reveal(), base_url=service.base_url, max_retries=0) as sdk:
        uploaded = sdk.models.upload(
            model_name="my-adapter",
            model_source=presigned(host=files, path="/a.zip"),
            model_type="adapter",
            base_model=BASE_MODEL,
            description="from the SDK",
        )
        assert uploaded.message == "job created"
        assert uploaded.data.x_model_name == "devuser/my-adapter"
        assert uploaded.data.x_model_id.startswith("model-")
        assert uploaded.data.x_model_source == "remote_archive"
        service.jobs.join()
        job = sdk.models.uploads.status(uploaded.data.job_id)
        assert job.status == "Complete"
        assert job.job_id == uploaded.data.job_id
        assert job.args.x_model_name == "devuser/my-adapter"
        assert job.args.description == "from the SDK"
        assert [update.status for update in job.status_updates] == ["Queued", "Running", "Complete"]
        assert all(isinstance(update.timestamp, datetime) for update in job.status_updates)
        listed = sdk.models.list()
    assert {model.id for model in listed} == {*DEFAULT_BASE_MODELS, "devuser/my-adapter"}
    assert {model.object for model in listed} == {"model"}


def test_the_sdk_sees_refusals_as_its_own_errors(service: Service) -> None:
    def upload(key: str, **changes: str) -> None:
        fields: Any = {
            "model_name": "a",
            "model_source": "https://huggingface.co/org/repo",
            "model_type": "adapter",
            "base_model": BASE_MODEL,
        }
        with together.Together(api_key=key, base_url=service.base_url, max_retries=0) as sdk:
            sdk.models.upload(**{**fields, **changes})

    with pytest.raises(together.AuthenticationError, match="Invalid API key"):
        upload("another-key")
    with pytest.raises(together.BadRequestError, match="not supported"):
        upload(service.api_key.reveal(), base_model="org/unknown")
    with pytest.raises(together.BadRequestError, match="adapters only"):
        upload(service.api_key.reveal(), model_type="model")
    with (
        pytest.raises(together.NotFoundError),
        together.Together(api_key=service.api_key.reveal(), base_url=service.base_url, max_retries=0) as sdk,
    ):
        sdk.models.uploads.status("job-none")


def test_the_vendors_command_line(service: Service, files: str, folder: Path) -> None:
    (folder / "a.zip").write_bytes(zip_of(FILES))
    environment = {
        **os.environ,
        "TOGETHER_API_KEY": service.api_key.reveal(),
        "TOGETHER_BASE_URL": service.base_url,
        "TOGETHER_TELEMETRY_DISABLED": "1",
        "TOGETHER_DISABLE_VERSION_CHECK": "1",
    }
    options = {
        "--model-name": "my-adapter",
        "--model-source": f"{files}/a.zip",
        "--model-type": "adapter",
        "--base-model": BASE_MODEL,
    }
    command = [str(Path(sys.executable).with_name("together")), "models", "upload", "--json"]
    command += [word for option in options.items() for word in option]
    first, again = (
        subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120) for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["data"]["model_name"] == "devuser/my-adapter"
    assert again.returncode != 0
    assert json.loads(again.stdout) == {"error": "Model name already exists"}


# ---- archives


def flipped(archive: bytes) -> bytes:
    """Change one bit in the middle of the weights."""
    at = archive.index(WEIGHTS) + len(WEIGHTS) // 2
    return archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]


CUT = WEIGHTS[:-1]
ARCHIVES: dict[str, tuple[bytes, str, str]] = {
    "zip": (zip_of(FILES), "Complete", "Complete"),
    "tar.gz": (tar_of(FILES), "Complete", "Complete"),
    "dotted zip": (zip_of({f"./{name}": data for name, data in FILES.items()}), "Complete", "Complete"),
    "dotted tar.gz": (tar_of({f"./{name}": data for name, data in FILES.items()}), "Complete", "Complete"),
    "more files": (zip_of({**FILES, "README.md": b"#", "sub/adapter_config.json": b"{}"}), "Complete", "Complete"),
    "nested zip": (
        zip_of({f"my-adapter/{name}": data for name, data in FILES.items()}),
        "Failed",
        "nested in the top-level directory 'my-adapter'",
    ),
    "nested tar.gz": (
        tar_of({f"./my-adapter/{name}": data for name, data in FILES.items()}),
        "Failed",
        "nested in the top-level directory 'my-adapter'",
    ),
    "half nested": (
        zip_of({"adapter_config.json": CONFIG, "x/adapter_model.safetensors": WEIGHTS}),
        "Failed",
        "nested",
    ),
    "no config": (
        zip_of({"adapter_model.safetensors": WEIGHTS}),
        "Failed",
        "Missing required files: adapter_config.json",
    ),
    "no weights": (
        tar_of({"adapter_config.json": CONFIG, "adapter_model.bin": b""}),
        "Failed",
        "Missing required files: adapter_model.safetensors",
    ),
    "neither": (zip_of({"x": b""}), "Failed", "Missing required files: adapter_config.json, adapter_model.safetensors"),
    "plain tar": (tar_of(FILES, "w"), "Failed", "neither a .zip nor a .tar.gz"),
    "text": (b"hello", "Failed", "neither a .zip nor a .tar.gz"),
    "empty": (b"", "Failed", "neither a .zip nor a .tar.gz"),
    "cut zip": (zip_of(FILES)[:-30], "Failed", "cannot be read"),
    "cut tar.gz": (tar_of(FILES)[:-30], "Failed", "cannot be read"),
    "gzip of no tar": (b"\x1f\x8b" + b"\0" * 40, "Failed", "cannot be read"),
    "config no JSON": (zip_of({**FILES, "adapter_config.json": b"{"}), "Failed", "not the configuration"),
    "config no LoRA": (zip_of({**FILES, "adapter_config.json": b'{"peft_type": "IA3"}'}), "Failed", "configuration"),
    "config a list": (tar_of({**FILES, "adapter_config.json": b"[]"}), "Failed", "not the configuration"),
    "weights empty": (zip_of({**FILES, "adapter_model.safetensors": b""}), "Failed", "not a safetensors file"),
    "weights a pickle": (
        zip_of({**FILES, "adapter_model.safetensors": b"\x80\x02}q\x00." * 9}),
        "Failed",
        "not a safetensors",
    ),
    "weights cut": (tar_of({**FILES, "adapter_model.safetensors": CUT}), "Failed", "not complete"),
    "weights header": (
        zip_of({**FILES, "adapter_model.safetensors": (9).to_bytes(8, "little") + b'{"a": [1]'}),
        "Failed",
        "header",
    ),
    "no tensors": (zip_of({**FILES, "adapter_model.safetensors": b"\x02" + b"\0" * 7 + b"{}"}), "Failed", "empty"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(kind: str, service: Service, files: str, folder: Path) -> None:
    data, status, message = ARCHIVES[kind]
    (folder / "archive").write_bytes(data)  # told by content: the name says nothing
    job = run_job(service, f"{files}/archive")
    assert job["status"] == status, job
    assert message in last_message(job)


@pytest.mark.parametrize(("path", "said"), [("/expired.zip", "HTTP 403"), ("/none.zip", "HTTP 404")])
def test_an_archive_that_cannot_be_fetched(path: str, said: str, service: Service, files: str) -> None:
    job = run_job(service, presigned(host=files, path=path))
    assert job["status"] == "Failed"
    assert last_message(job) == f"could not download model_source: {said}"


def test_an_archive_from_nowhere(service: Service, files: str) -> None:
    with serving_folder(Path()) as gone:
        pass
    job = run_job(service, f"{gone}/a.zip")
    assert job["status"] == "Failed"
    assert "could not download model_source: ConnectError" in last_message(job)


def test_a_hub_source_is_taken_and_fails_with_a_reason(service: Service) -> None:
    with client_of(service) as client:
        job = v1.submit(client, submission(source=HubRepo("org/repo")))
        service.jobs.join()
        with pytest.raises(JobFailedError, match="reaches no Hugging Face Hub"):
            wait_for_job(v1, client, job.id, timeout=timedelta(0), on_change=lambda _: None)


# ---- names, bases, keys


def test_a_taken_name_is_refused_and_a_failed_one_is_free(service: Service, files: str, folder: Path) -> None:
    (folder / "a.zip").write_bytes(zip_of(FILES))
    assert run_job(service, f"{files}/none.zip")["status"] == "Failed"
    assert run_job(service, f"{files}/a.zip")["status"] == "Complete"
    with client_of(service) as client, pytest.raises(ServiceError, match="Model name already exists"):
        v1.submit(client, submission(f"{files}/a.zip"))
    assert len(service.jobs.describe_all()) == 2


def test_an_unknown_base_model_is_refused_unless_added(files: str) -> None:
    with Service(delay=0, base_models=["org/mine"]) as service, client_of(service) as client:
        with pytest.raises(ServiceError, match="org/unknown is not supported") as caught:
            v1.submit(client, submission(base_model="org/unknown"))
        assert caught.value.status == 400
        assert "--base-model" in (caught.value.hint or "")
        assert v1.submit(client, submission(f"{files}/a.zip", base_model="org/mine")).id


def test_another_key_is_refused(service: Service) -> None:
    with Client(Secret("another"), service.base_url) as client:
        for call in (lambda: v1.submit(client, submission()), lambda: v1.job(client, "job-1")):
            with pytest.raises(ServiceError, match="Invalid API key provided") as caught:
                call()
            assert caught.value.status == 401
    assert service.jobs.describe_all() == []


def post(service: Service, body: Any, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(
        f"{service.base_url}/models",
        content=content,
        headers={"Authorization": f"Bearer {service.api_key.reveal()}", **headers},
    )


GOOD = {
    "model_name": "a",
    "model_source": "https://b.example/a.zip",
    "model_type": "adapter",
    "base_model": BASE_MODEL,
}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({**GOOD, "model_name": ""}, 400, "model_name"),
        ({key: value for key, value in GOOD.items() if key != "model_source"}, 400, "model_source"),
        ({**GOOD, "model_source": "ftp://b.example/a.zip"}, 400, "model_source"),
        ({key: value for key, value in GOOD.items() if key != "model_type"}, 400, "model_type"),
        ({key: value for key, value in GOOD.items() if key != "base_model"}, 400, "base_model"),
        ({**GOOD, "model_name": 7}, 422, "model_name"),
        ({**GOOD, "hf_token": ["x"]}, 422, "hf_token"),
        ([], 400, None),
        (b"{", 400, None),
        (b"[" * 100_000, 400, None),
        (b"x" * 2_000_000, 413, None),
    ],
)
def test_bodies_that_are_refused(body: Any, status: int, param: str | None, service: Service) -> None:
    answer = post(service, body)
    assert answer.status_code == status
    error = answer.json()["error"]  # ErrorData of openapi.yaml: message and type are required
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["param"] == param
    assert service.jobs.describe_all() == []


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/jobs/job-none", "/v2/projects", "/v1/models/x"])
def test_other_addresses_are_not_found(path: str, service: Service) -> None:
    url = service.base_url.removesuffix("/v1") + path
    answer = httpx2.get(url, headers={"Authorization": f"Bearer {service.api_key.reveal()}"})
    assert answer.status_code == 404
    assert "not found" in answer.text


# ---- what the bodies look like


def test_bodies_are_as_documented(service: Service, files: str, folder: Path) -> None:
    (folder / "a.zip").write_bytes(zip_of(FILES))
    url = presigned(host=files, path="/a.zip")
    created = post(service, {**GOOD, "model_source": url}).json()
    assert set(created) == {"data", "message"}
    assert set(created["data"]) == {"job_id", "model_name", "model_id", "model_source"}
    service.jobs.join()
    headers = {"Authorization": f"Bearer {service.api_key.reveal()}"}
    answer = httpx2.get(f"{service.base_url}/jobs/{created['data']['job_id']}", headers=headers)
    job = answer.json()
    assert set(job) == {"type", "job_id", "status", "status_updates", "args", "created_at", "updated_at"}
    assert job["type"] == "adapter_upload"
    assert job["status"] in ("Queued", "Running", "Complete", "Failed")
    assert all(set(update) == {"status", "message", "timestamp"} for update in job["status_updates"])
    assert job["args"] == {"modelName": "devuser/a", "modelSource": f"{files}/a.zip"}
    for stamp in (job["created_at"], job["updated_at"], *(update["timestamp"] for update in job["status_updates"])):
        assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)
    assert httpx2.get(f"{service.base_url}/jobs", headers=headers).json() == {"data": [job]}
    assert SIGNATURE not in answer.text
    assert "X-Amz" not in answer.text


def test_no_secret_is_shown(service: Service, files: str) -> None:
    job = run_job(service, presigned(host=files, path="/expired.zip"))
    assert_no_secret(job, service.jobs.describe_all(), *service.jobs._records.values())
    assert service.api_key.reveal() not in repr(vars(service))


# ---- faults


def test_a_job_that_is_made_to_fail(files: str, folder: Path) -> None:
    (folder / "a.zip").write_bytes(zip_of(FILES))
    with Service(delay=0, faults=Faults(fail_job="no room")) as service:
        job = run_job(service, f"{files}/a.zip")
    assert (job["status"], last_message(job)) == ("Failed", "no room")


@pytest.mark.parametrize("faults", [Faults(stuck=True), Faults(stuck_unreachable=True)])
def test_a_job_that_stands_still(faults: Faults, files: str) -> None:
    with Service(delay=0, faults=faults) as service:
        job = run_job(service, f"{files}/expired.zip")
    assert job["status"] == "Processing"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 422, 429, 500, 503])
def test_a_submission_that_is_made_to_be_refused(status: int) -> None:
    with Service(delay=0, faults=Faults.named(f"refuse-{status}")) as service, client_of(service) as client:
        with pytest.raises(ServiceError) as caught:
            v1.submit(client, submission())
        assert caught.value.status == status
        assert service.jobs.describe_all() == []


def test_an_answer_that_is_lost_leaves_one_job() -> None:
    with Service(delay=0, faults=Faults.named("lost-answer")) as service, client_of(service) as client:
        with pytest.raises(ServiceError) as caught:
            v1.submit(client, submission(source=HubRepo("org/repo")))
        assert caught.value.status is None
        assert "may exist" in (caught.value.hint or "")
        assert len(service.jobs.describe_all()) == 1


def test_every_named_fault_is_one() -> None:
    assert {Faults.named(kind) for kind in FAULT_KINDS}.isdisjoint({Faults()})
    assert len({Faults.named(kind) for kind in FAULT_KINDS}) == len(FAULT_KINDS)
    with pytest.raises(InputError, match="'none' is not a way to fail"):
        Faults.named("none")


def test_the_service_ends_while_a_job_runs(files: str) -> None:
    with Service(delay=3600) as service, client_of(service) as client:
        job = v1.submit(client, submission(source=PresignedUrl(f"{files}/a.zip")))
        assert v1.job(client, job.id).status == "Queued"
        threads = service.jobs._threads
    assert not any(thread.is_alive() for thread in threads)
