"""A service that lies: each lie is a sentence, soon, and costs no memory; whatever JSON it sends, no call breaks."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lying_server import Lies, answer, endless, lying
from together_calls import CALLS, World
from together_support import TOKEN, local_files, mock_client, submission

from lora_packer.errors import LoraPackerError, ServiceError
from lora_packer.redact import Secret
from lora_packer.together import Client, v1
from lora_packer.together.endpoints import Endpoint
from lora_packer.together.reasons import said_in
from lora_packer.together.v2.direct import send_files

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
_TWICE = answer(gzip.compress(gzip.compress(bytes(2**20))), headers="Content-Encoding: gzip, gzip\r\n")


def look(url: str, timeout: float) -> object:
    with Client(Secret(TOKEN), f"{url}/v1", timeout=timeout, sleep=lambda _: None) as client:
        return v1.job(client, "job-1")


@pytest.mark.parametrize(
    "lies",
    [
        endless(_OK, b"X: y\r\n"),
        endless(_OK + b"Content-Length: 9999\r\n\r\n", b" "),
        endless(b"HTTP/1.1 500 Sorry\r\nContent-Length: 9999\r\n\r\n", b" "),
        endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["headers", "body", "error", "interim"],
)
def test_slow_answers_end_once(lies: Lies) -> None:
    asked = []

    def counted(head: bytes) -> Any:
        asked.append(head)
        return lies(head)

    with lying(counted, pause=0.02) as url, pytest.raises(ServiceError, match=r"did not answer within 0\.2 s"):
        look(url, 0.2)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("lies", "says"),
    [
        (endless(_OK + _CHUNKED, _CHUNKS), "longer than"),
        (endless(b"HTTP/1.1 404 No\r\n" + _CHUNKED, _CHUNKS), "HTTP 404"),
        (lambda _: iter([_TWICE]), "not asked for"),
    ],
    ids=["endless", "endless error", "packed twice"],
)
def test_bodies_are_cut(lies: Lies, says: str) -> None:
    with lying(lies) as url:
        tracemalloc.start()
        try:
            with pytest.raises(ServiceError, match=says):
                look(url, 20.0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"job_id": "job-1", "status": "Complete"}).encode("utf-16"),
        b'{"job_id": "job-1", "status": "\\ud800"}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
    ids=["UTF-16", "half a character", "deep", "long number"],
)
def test_what_is_no_json_of_the_service_is_said(body: bytes) -> None:
    with (
        mock_client(lambda _: httpx2.Response(200, content=body)) as client,
        pytest.raises(ServiceError, match="not complete JSON"),
    ):
        v1.job(client, "job-1")


@pytest.mark.parametrize("depth", [1, 400, 450, 490, 900])
def test_nested_messages(depth: int) -> None:
    message: Any = "out of credit"
    for _ in range(depth):
        message = {"message": message}
    assert said_in(message) == ("out of credit" if depth == 1 else None)
    assert said_in([[message]]) == ("out of credit" if depth == 1 else None)
    with mock_client(lambda _: httpx2.Response(200, json=message)) as client, pytest.raises(ServiceError):
        v1.submit(client, submission())


@pytest.mark.parametrize("pause", ["9" * 400, "99999999999999"])
def test_absurd_pauses(pause: str) -> None:
    with (
        mock_client(lambda _: httpx2.Response(429, headers={"retry-after": pause})) as client,
        pytest.raises(ServiceError, match="HTTP 429"),
    ):
        v1.job(client, "job-1")


def test_ids_in_printed_commands_are_quoted() -> None:
    assert Endpoint("ep_1", "n", "STARTED").stop_command == "lora-packer stop ep_1"
    assert Endpoint("`id`; $(id)", "n", "STARTED").stop_command == "lora-packer stop '`id`; $(id)'"


PLACE = {"partNumber": 1, "url": "https://store.example/x?X-Amz-Signature=1"}


@pytest.mark.parametrize(
    ("parts", "more", "says"),
    [
        ([{**PLACE, "headers": {"x-é": "1"}}], {}, "header"),
        ([{**PLACE, "headers": {"x": "é"}}], {}, "header"),
        ([{**PLACE, "headers": {"x": "a\r\nHost: b"}}], {}, "header"),
        ([{**PLACE, "headers": {"x\n": "a"}}], {}, "header"),
        ([{**PLACE, "headers": {"x": 5}}], {}, "header"),
        ([{**PLACE, "partNumber": [1]}], {}, "one address"),
        ([{**PLACE, "partNumber": True}], {}, "one address"),
        ([{**PLACE, "url": ["a"]}], {}, "address"),
        ([PLACE], {"uploadId": {"a": 1}}, "uploadId"),
    ],
)
def test_places_that_are_none(tmp_path: Path, parts: Any, more: Any, says: str) -> None:
    source = local_files(tmp_path)

    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.method == "POST"  # nothing is sent anywhere else
        files = [{"path": name, "parts": parts, **more} for name, _ in source.files]
        return httpx2.Response(200, json={"files": files})

    with mock_client(handler, project_id="p") as client, pytest.raises(ServiceError, match=says):
        send_files(client, "ml_1", source)


def test_endless_error_of_the_address_for_a_part(tmp_path: Path) -> None:
    source = local_files(tmp_path)

    def lies(head: bytes) -> Any:
        if head.startswith(b"PUT"):
            return endless(b"HTTP/1.1 403 No\r\n" + _CHUNKED, _CHUNKS)(head)
        files = [{"path": name, "parts": [{"partNumber": 1, "url": f"{url}/{name}"}]} for name, _ in source.files]
        return iter([answer(json.dumps({"files": files}).encode())])

    with (
        lying(lies) as url,
        Client(Secret(TOKEN), f"{url}/v1", project_id="p", sleep=lambda _: None) as client,
        pytest.raises(ServiceError, match="HTTP 403"),
    ):
        send_files(client, "ml_1", source)


# ---- any JSON at all

_WORDS = st.sampled_from(
    ["id", "name", "data", "object", "status", "state", "job_id", "message", "error", "model", "files", "path", "url",
     "deployments", "endpoint", "modelId", "baseModelId", "type", "next_cursor", "choices", "text", "project", "slug",
     "hardware", "specs", "pricing", "autoscaling", "trafficSplit", "weight", "deploymentId", "revisionId", "updates",
     "deploymentProfiles", "modelName", "config", "display_name", "owner", "createdAt", "args", "adapters", "clusters"]
)  # fmt: skip
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -1, 1e308]), st.text(max_size=6),
    st.sampled_from(["ml_1", "ep_1", "job-done", "COMPLETE", "Complete", "STARTED", "DEPLOYMENT_STATE_RUNNING",
                     "devuser/uploaded", "uploaded", "projects/x/models/ml_1", "a\nb", "$(id)", "9" * 500]),
)  # fmt: skip
_ANY = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(values=st.lists(_ANY, min_size=1, max_size=4), at=st.integers(0, 4), status=st.sampled_from([200, 200, 200, 201, 400, 404, 500]))  # fmt: skip
def test_any_json_is_a_sentence_or_a_result(name: str, values: Any, at: int, status: int, tmp_path: Path) -> None:
    world = World()
    left = list(values)

    def lie() -> httpx2.Response:
        value = left.pop(0) if len(left) > 1 else left[0]
        return httpx2.Response(status, content=json.dumps(value).encode())

    with world.client(lie, at, once=False) as client, suppress(LoraPackerError):
        CALLS[name](world, client, tmp_path)
