"""Direct uploads through version 2: files in parts, each sent until it arrives, nothing sent twice, no key sent along."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from together_support import FILES, SIGNATURE, TOKEN, FakeTime, assert_no_secret, local_files, mock_client, submission

from lora_packer.errors import InputError, JobFailedError, PackError, ServiceError
from lora_packer.sandbox.service import Service
from lora_packer.together import Client, LocalFiles, Submission, v1, v2, wait_for_job
from lora_packer.together.v2.direct import send_files


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0) as running:
        yield running


def client_of(service: Service, **options: Any) -> Client:
    return Client(service.api_key, service.base_url, sleep=lambda _: None, **options)


def submission_of(source: LocalFiles) -> Submission:
    return submission(source=source)


def test_from_files_to_answer(service: Service, tmp_path: Path) -> None:
    with client_of(service) as client:
        job = v2.submit(client, submission_of(local_files(tmp_path)))
        assert job.id.startswith("ml_")
        assert job.model_name == "devuser/my-adapter"
        ended = wait_for_job(v2, client, job.id, timeout=timedelta(0), on_change=lambda _: None)
        assert ended.is_complete
        found = v2.find(client, "my-adapter")
        assert found is not None
        assert (found.id, found.is_complete) == (job.id, True)
        with pytest.raises(ServiceError, match="already exists"):
            v2.submit(client, submission_of(local_files(tmp_path)))
        endpoint = v2.deploy(client, "devuser/my-adapter")
        assert v2.ask(client, endpoint.id, "Is it you?").text.startswith("The sandbox answers")
    assert [one.refused for one in service.direct.revisions(job.id)] == [None]


def test_what_the_validation_refuses_frees_the_name(service: Service, tmp_path: Path) -> None:
    cut = {**FILES, "adapter_model.safetensors": FILES["adapter_model.safetensors"][:-1]}
    with client_of(service) as client:
        job = v2.submit(client, submission_of(local_files(tmp_path, cut)))
        with pytest.raises(JobFailedError, match=r"adapter_files: adapter_model\.safetensors is empty or not complete"):
            wait_for_job(v2, client, job.id, timeout=timedelta(0), on_change=lambda _: None)
        assert v2.find(client, "my-adapter") is None
        again = v2.submit(client, submission_of(local_files(tmp_path)))
        assert again.id == job.id
        assert v2.job(client, job.id).is_complete


@pytest.mark.parametrize("part_size", [1, 100, 1000, 2**20])
def test_parts_and_their_digests_are_those_of_the_vendor(part_size: int, service: Service, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4
    data = data[:100] if part_size == 1 else data
    asked: list[Any] = []

    class Watching(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            asked.append(request)
            request.read()
            return super().handle_request(request)

    with client_of(service, transport=Watching()) as client:
        model = v2.jobs._model(client, submission())
        asked.clear()
        send_files(client, model.id, local_files(tmp_path, {"a": data}), part_size=part_size)
    create, *puts, complete = asked
    blocks = [data[at : at + part_size] for at in range(0, len(data), part_size)]
    digests = [hashlib.md5(block) for block in blocks]
    whole = hashlib.md5(b"".join(one.digest() for one in digests)).hexdigest() + f"-{len(blocks)}"
    digest = whole if len(blocks) > 1 else digests[0].hexdigest()
    told = {"path": "a", "hash": digest, "numParts": len(blocks)}
    assert json.loads(create.content) == {"objectId": model.id, "files": [told]}
    assert sorted(put.content for put in puts) == sorted(blocks)
    for put in puts:
        assert put.method == "PUT"
        assert "authorization" not in put.headers  # its address is its key
        assert put.headers["content-length"] == str(len(put.content))
    (file,) = json.loads(complete.content)["files"]
    parts = [{"partNumber": number, "hash": one.hexdigest()} for number, one in enumerate(digests, 1)]
    assert file["uploadDetails"]["parts"] == parts
    assert (file["path"], file["hash"]) == ("a", digest)


@pytest.mark.parametrize("cut", ["create", "1", "complete"])
def test_an_upload_that_was_cut_off_is_completed(cut: str, service: Service, tmp_path: Path) -> None:
    """Whichever request's answer is lost: the same command again ends with one revision."""
    lost: list[str] = []
    sent: list[str] = []

    class Flaky(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = super().handle_request(request)
            sent.append(request.method)
            if request.url.path.endswith(f"/{cut}") and len(lost) < 9:
                lost.append(cut)
                answer.close()
                raise httpx2.ReadError("reset")
            return answer

    source = local_files(tmp_path)
    with client_of(service, transport=Flaky()) as client:
        with pytest.raises(ServiceError) as caught:
            v2.submit(client, submission_of(source))
        assert caught.value.in_doubt
        assert "Run the same command again" in (caught.value.hint or "")
    sent.clear()
    with client_of(service) as client:
        found = v2.find(client, "my-adapter")
        job = found or v2.submit(client, submission_of(source))
        assert v2.job(client, job.id).is_complete
    (model,) = service.models
    assert len(service.direct.revisions(model)) == 1
    assert (found is not None) == (cut == "complete")


CREATED = {"files": [{"path": "a", "uploadId": "u", "parts": [{"partNumber": 1, "url": "https://s3.example/a?sig=1"}]}]}
PART = f"https://bucket.s3.us-west-2.amazonaws.com/a?X-Amz-Signature={SIGNATURE}"


@pytest.mark.parametrize(
    ("created", "said"),
    [
        ({}, "names other files"),
        ({"files": None}, "names other files"),
        ({"files": [{"path": "b"}]}, "names other files"),
        ({"files": [{"path": "a"}]}, "not one address for each part"),
        ({"files": [{"path": "a", "parts": [{"partNumber": 2}]}]}, "not one address for each part"),
        ({"files": [{"path": "a", "parts": [{"partNumber": 1, "url": "http://s3.example/a"}]}]}, "nothing is sent to"),
        ({"files": [{"path": "a", "parts": [{"partNumber": 1, "url": "https://127.0.0.1/a"}]}]}, "nothing is sent to"),
        ({"files": [{"path": "a", "parts": [{"partNumber": 1, "url": None}]}]}, "nothing is sent to"),
    ],
)
def test_answers_that_nothing_is_sent_for(created: Any, said: str, tmp_path: Path) -> None:
    sent: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.method)
        return httpx2.Response(200, json=created)

    with mock_client(handler, project_id="proj_x") as client, pytest.raises(ServiceError, match=said):
        send_files(client, "ml_a", local_files(tmp_path, {"a": b"x"}))
    assert sent == ["POST"]


@pytest.mark.parametrize(
    ("answers", "status", "count"),
    [
        ([httpx2.Response(403, text=f"<Error>{PART}</Error>", headers={"content-type": "text/plain"})], 403, 1),
        ([httpx2.Response(307, headers={"location": f"https://elsewhere.example/?key={TOKEN}"})], 307, 1),
        ([httpx2.Response(200)], 200, 1),
        ([httpx2.Response(503)] * 5, 503, 5),
        ([httpx2.Response(429)] * 5, 429, 5),
        ([httpx2.ReadError(f"reset {PART}")] * 5, None, 5),
        ([httpx2.ConnectError("")] * 5, None, 5),
    ],
)
def test_a_part_that_does_not_arrive(answers: list[Any], status: int | None, count: int, tmp_path: Path) -> None:
    time, puts = FakeTime(), list[httpx2.Request]()

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            assert not puts, "it must not be completed"
            part = {"partNumber": 1, "url": PART}
            return httpx2.Response(200, json={"files": [{"path": "a", "uploadId": "u", "parts": [part]}]})
        puts.append(request)
        answer = answers[len(puts) - 1]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    with mock_client(handler, time, project_id="proj_x") as client, pytest.raises(ServiceError) as caught:
        send_files(client, "ml_a", local_files(tmp_path, {"a": b"x"}))
    assert caught.value.status == status
    assert caught.value.hint
    assert len(puts) == count
    assert len(time.slept) == count - 1
    assert_no_secret(caught.value, caught.value.message, caught.value.hint)


def test_a_part_arrives_at_last(tmp_path: Path) -> None:
    answers: list[Any] = [httpx2.ReadError(""), httpx2.Response(500), httpx2.Response(200, headers={"etag": '"tag"'})]
    posted: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            posted.append(json.loads(request.content))
            return httpx2.Response(200, json={**CREATED, "revisionId": "rev_1"})
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    with mock_client(handler, project_id="proj_x") as client:
        send_files(client, "ml_a", local_files(tmp_path, {"a": b"x"}))
    details = posted[1]["files"][0]["uploadDetails"]
    assert details == {"uploadId": "u", "parts": [{"partNumber": 1, "hash": "tag"}]}


def test_files_that_cannot_be_sent(tmp_path: Path) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing may be sent")

    with mock_client(handler, project_id="proj_x") as client:
        with pytest.raises(InputError, match="a is empty"):
            send_files(client, "ml_a", local_files(tmp_path, {"a": b""}))
        gone = local_files(tmp_path, {"gone": b"x"})
        (tmp_path / "gone").unlink()
        with pytest.raises(PackError, match="gone cannot be read"):
            send_files(client, "ml_a", gone)
        with pytest.raises(InputError, match="Version 1 of the API takes no files") as caught:
            v1.submit(client, submission_of(local_files(tmp_path)))
    assert "Leave out --api v1" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "/direct/ml_x/upload-x/1"}, 403),
        ({"query": ""}, 403),
        ({"query": "X-Amz-Signature=" + "0" * 64}, 403),
        ({"number": "2"}, 404),
        ({"number": "x"}, 404),
        ({"path": "/elsewhere"}, 404),
    ],
)
def test_the_sandbox_takes_parts_at_their_addresses_only(change: dict[str, str], status: int, service: Service) -> None:
    with client_of(service) as client:
        model = v2.jobs._model(client, submission())
    root = service.base_url.removesuffix("/v1")
    digest = hashlib.md5(b"x").hexdigest()
    created = service.direct.create(model.id, [{"path": "a", "hash": digest, "numParts": 1}], root)
    address = httpx2.URL(created["files"][0]["parts"][0]["url"])
    path = change.get("path") or address.path.removesuffix("1") + change.get("number", "1")
    query = change.get("query", address.query.decode())
    answer = httpx2.put(f"{root}{path}?{query}", content=b"x")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert service.direct.revisions(model.id) == []
