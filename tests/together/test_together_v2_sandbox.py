"""Version 2 of the API against the sandbox: from an upload to an answer, and whatever comes in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from together_support import FILES, presigned, serving_folder, submission, zip_of

from lora_packer.errors import InputError, JobFailedError, ServiceError
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.together import Client, Wanted, ensure_endpoint, v2, wait_for_job


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
    wait_for_job(v2, client, job.id, timeout=timedelta(0), on_change=lambda _: None)
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
        v2.deploy(client, "my-adapter", Wanted(name="mine"))
        other = v2.submit(client, submission(f"{files}/a.zip", model_name="other"))
        service.imports.join()
        assert v2.job(client, other.id).is_complete
        with pytest.raises(InputError, match="serves another model"):
            v2.deploy(client, "other", Wanted(name="mine"))


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
            wait_for_job(v2, client, job.id, timeout=timedelta(0), on_change=lambda _: None)
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
