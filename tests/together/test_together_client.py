"""The transport to the service: what goes out, what is retried, and every answer as one sentence without a secret."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from together_support import (
    HF_TOKEN,
    TOKEN,
    FakeTime,
    assert_no_secret,
    mock_client,
    presigned,
    recording,
    submission,
)

from lora_packer import __version__
from lora_packer.errors import ServiceError
from lora_packer.redact import Secret
from lora_packer.together import Client, HubRepo, v1
from lora_packer.together.refusal import Purpose

URL = presigned()
ECHO = f"bad request: model_source={URL} hf_token={HF_TOKEN} Authorization: Bearer {TOKEN} or {TOKEN}"

Call = Callable[[Client], object]


def submit_url(client: Client) -> object:
    return v1.submit(client, submission(URL))


def submit_repo(client: Client) -> object:
    return v1.submit(client, submission(source=HubRepo("org/repo"), hf_token=Secret(HF_TOKEN)))


def look(client: Client) -> object:
    return v1.job(client, "job-1")


CALLS = [submit_url, submit_repo, look]


def error_data(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None}}).encode()


BODIES = {
    "plain": error_data("no"),
    "echo": error_data(ECHO),
    "terminal": error_data("\x1b[31mred\n::error::\u202e" + "x" * 5000),
    "message": json.dumps({"message": ECHO}).encode(),
    "text": json.dumps({"error": ECHO}).encode(),
    "detail": json.dumps({"detail": [{"loc": ["body"], "msg": "bad", "input": ECHO}]}).encode(),
    "null": b'{"error": {"message": null}}',
    "list": b"[]",
    "html": b"<html><body>Bad gateway</body></html>",
    "empty": b"",
    "cut": b'{"error": {"mess',
    "binary": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
}


def refuse(call: Call, status: int, body: bytes, **headers: str) -> tuple[ServiceError, int, FakeTime]:
    """Make the call against a service that always answers so; return the error, the number of requests, the time."""
    count = 0
    time = FakeTime()

    def handler(_: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        return httpx2.Response(status, content=body, headers=headers)

    with mock_client(handler, time) as client, pytest.raises(ServiceError) as caught:
        call(client)
    return caught.value, count, time


def check_sentence(error: ServiceError) -> None:
    assert error.exit_code == 5
    assert error.message.startswith("Could not ")
    assert error.message.endswith(".")
    assert error.message.isprintable()
    assert error.hint
    assert len(error.message) < 600
    assert_no_secret(error, error.message, error.hint, error.__cause__)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (400, "run it again"),
        (401, "TOGETHER_API_KEY"),
        (402, "billing"),
        (403, "TOGETHER_API_KEY"),
        (404, None),
        (408, None),
        (409, None),
        (413, None),
        (418, None),
        (422, "field"),
        (429, "Wait"),
        (500, None),
        (502, None),
        (503, None),
        (504, None),
    ],
)
@pytest.mark.parametrize("kind", BODIES)
def test_every_refusal_is_one_sentence(call: Call, status: int, hint: str | None, kind: str) -> None:
    error, count, _ = refuse(call, status, BODIES[kind], **{"content-type": "application/json"})
    check_sentence(error)
    assert error.status == status
    assert f"HTTP {status}" in error.message
    if hint:
        assert hint in (error.hint or "")
    repeated = call is look and (status == 429 or status >= 500)
    assert count == (4 if repeated else 1)
    if call is not look and status >= 500:
        assert "may exist" in (error.hint or "")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"<!doctype html><title>Log in</title>", "is HTML"),
        (b'{"data": {"job_id": "job-1"', "is not complete JSON"),
        (b"[" * 100_000, "is not complete JSON"),
        (b"\x80\x81", "is not complete JSON"),
        (b"null", "names no"),
        (b"[]", "names no"),
        (b"{}", "names no"),
        (b"17", "names no"),
    ],
)
def test_a_success_without_the_answer_is_an_error(call: Call, body: bytes, what: str) -> None:
    error, count, _ = refuse(call, 200, body)
    check_sentence(error)
    assert count == 1
    assert what in error.message
    if call is not look:
        assert "may exist" in (error.hint or "")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(call: Call, status: int) -> None:
    error, count, _ = refuse(call, status, b"", location=f"https://elsewhere.example/v1?token={TOKEN}")
    check_sentence(error)
    assert count == 1
    assert "redirect" in error.message
    assert "elsewhere.example" in error.message


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Model name already exists", "--model-name"),
        ("Missing required files: adapter_config.json", "at the root"),
        ("base model org/x does not support LoRA adapters", "--base-model"),
        ("Model not found", "--base-model"),
        ("presigned URL expired", "presigned URL is alive"),
    ],
)
@pytest.mark.parametrize("status", [400, 409, 422])
def test_known_messages_say_what_to_do(message: str, hint: str, status: int) -> None:
    error, _, _ = refuse(submit_url, status, error_data(message))
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_job_that_is_not_there() -> None:
    error, _, _ = refuse(look, 404, error_data("job not found"))
    assert "job-1" in error.message
    assert "no such job" in (error.hint or "")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("trouble", "sent"),
    [
        (httpx2.ConnectError(f"refused {TOKEN}"), False),
        (httpx2.ConnectTimeout(""), False),
        (httpx2.PoolTimeout(""), False),
        (httpx2.ProxyError("407"), False),
        (httpx2.WriteTimeout(""), True),
        (httpx2.WriteError("broken pipe"), True),
        (httpx2.ReadTimeout(""), True),
        (httpx2.ReadError("reset by peer"), True),
        (httpx2.RemoteProtocolError(f"peer closed\x1b[2J {URL}"), True),
        (httpx2.DecodingError("bad gzip"), True),
    ],
)
def test_no_answer(call: Call, trouble: httpx2.RequestError, sent: bool) -> None:
    count = 0
    time = FakeTime()

    def handler(_: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        raise trouble

    with mock_client(handler, time) as client, pytest.raises(ServiceError) as caught:
        call(client)
    error = caught.value
    check_sentence(error)
    assert error.status is None
    assert "api.together.ai" in error.message
    posted = call is not look
    assert count == (1 if posted and sent else 4)
    assert len(time.slept) == count - 1
    if posted and sent:
        assert "may exist" in (error.hint or "")
        assert "not repeated" in (error.hint or "")
        assert "/v1/jobs" in (error.hint or "")
    if not sent:
        assert "Nothing was sent" in (error.hint or "")


@pytest.mark.parametrize(
    ("headers", "pauses"),
    [
        ({}, [0.5, 1.0, 2.0]),
        ({"retry-after": "7"}, [7.0, 7.0, 7.0]),
        ({"retry-after": "86400"}, [30.0, 30.0, 30.0]),
        ({"retry-after": "soon"}, [0.5, 1.0, 2.0]),
        ({"retry-after": "-5"}, [0.5, 1.0, 2.0]),
        ({"retry-after": "Fri, 02 Jan 2026 00:00:09 GMT", "date": "Fri, 02 Jan 2026 00:00:00 GMT"}, [9.0, 9.0, 9.0]),
        ({"retry-after": "Fri, 02 Jan 2026 00:00:00 GMT", "date": "Fri, 02 Jan 2026 00:00:09 GMT"}, [0.0, 0.0, 0.0]),
        ({"retry-after": "Fri, 02 Jan 2026 00:00:09 GMT"}, [0.5, 1.0, 2.0]),
    ],
)
def test_pauses_between_attempts(headers: dict[str, str], pauses: list[float]) -> None:
    _, _, time = refuse(look, 429, b"{}", **headers)
    assert time.slept == pauses


def test_jitter_spreads_the_pauses() -> None:
    time = FakeTime()
    client = Client(
        Secret(TOKEN),
        transport=httpx2.MockTransport(lambda _: httpx2.Response(503)),
        sleep=time.sleep,
        clock=time.clock,
        jitter=lambda: 0.5,
    )
    with client, pytest.raises(ServiceError):
        look(client)
    assert time.slept == [0.75, 1.5, 3.0]


def test_a_retry_that_succeeds() -> None:
    answers = [httpx2.Response(503), httpx2.Response(429), httpx2.Response(200, json={"status": "Running"})]
    with mock_client(lambda _: answers.pop(0)) as client:
        assert v1.job(client, "job-1").status == "Running"


def test_a_submission_that_never_left_is_sent_when_the_connection_is_there() -> None:
    attempts = 0

    def handler(_: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, json={"data": {"job_id": "job-1"}, "message": "job created"})

    with mock_client(handler) as client:
        assert v1.submit(client, submission()).id == "job-1"
    assert attempts == 3


def test_an_endless_answer_ends() -> None:
    def endless() -> Any:
        while True:
            yield b" " * 65536

    with (
        mock_client(lambda _: httpx2.Response(200, content=endless())) as client,
        pytest.raises(ServiceError) as caught,
    ):
        look(client)
    assert "longer than" in caught.value.message


def test_an_answer_that_drips_is_given_up() -> None:
    time = FakeTime()

    def drip() -> Any:
        while True:
            time.now += 10
            yield b" "

    with (
        mock_client(lambda _: httpx2.Response(200, content=drip()), time) as client,
        pytest.raises(ServiceError) as caught,
    ):
        submit_url(client)
    assert "did not answer within 60 s" in caught.value.message
    assert "may exist" in (caught.value.hint or "")


def test_nothing_listens() -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        time = FakeTime()
        client = Client(Secret(TOKEN), f"http://127.0.0.1:{taken.getsockname()[1]}/v1", sleep=time.sleep)
        with client, pytest.raises(ServiceError) as caught:
            submit_url(client)
    check_sentence(caught.value)
    assert "Nothing was sent" in (caught.value.hint or "")
    assert len(time.slept) == 3


def test_an_answer_cut_short_on_the_wire() -> None:
    """A real socket that promises more than it sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                accepted.append(connection.recv(65536))
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"data": {"job_id"')

        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(Secret(TOKEN), f"http://127.0.0.1:{listener.getsockname()[1]}/v1", sleep=FakeTime().sleep)
        with client, pytest.raises(ServiceError) as caught:
            submit_url(client)
        thread.join()
    check_sentence(caught.value)
    assert "broke" in caught.value.message
    assert "may exist" in (caught.value.hint or "")
    assert len(accepted) == 1


def test_what_goes_out() -> None:
    with (
        recording([(200, b'{"ok": true}')]) as (url, requests),
        Client(Secret(TOKEN), url + "/v1/") as client,
    ):
        answer = client.request("POST", "/models", {"a": "é"}, retry=False, purpose=Purpose("test"))
        client.request("GET", "/jobs/job-1", retry=True, purpose=Purpose("test"))
    assert answer == {"ok": True}
    post, get = requests
    assert (post.method, post.path, post.json) == ("POST", "/v1/models", {"a": "é"})
    assert post.headers["authorization"] == f"Bearer {TOKEN}"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["user-agent"] == f"lora-packer/{__version__}"
    assert (get.method, get.path, get.body) == ("GET", "/v1/jobs/job-1", b"")
    assert "content-type" not in get.headers


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        recording([(502, b"{}")]) as (proxy, at_proxy),
        recording([(200, b'{"status": "Queued"}')]) as (url, direct),
        Client(Secret(TOKEN), url + "/v1") as client,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        v1.job(client, "job-1")
    assert (len(at_proxy), len(direct)) == (0, 1)


@pytest.mark.parametrize(
    ("call", "status", "said", "sent"),
    [
        (look, 503, "false", 1),
        (look, 429, "false", 1),
        (look, 404, "true", 4),
        (look, 409, "true", 4),
        (look, 503, "true", 4),
        (look, 503, "maybe", 4),
        (look, 400, None, 1),
        # What creates something goes out again only where it was refused: after a 5xx it may have been carried out.
        (submit_url, 409, "true", 4),
        (submit_url, 429, "true", 4),
        (submit_url, 429, None, 1),
        (submit_url, 503, "true", 1),
        (submit_url, 200, "true", 1),
    ],
)
def test_what_the_service_says_about_sending_again_is_heeded(
    call: Call, status: int, said: str | None, sent: int
) -> None:
    error, count, _ = refuse(call, status, b'{"message": "no"}', **({"x-should-retry": said} if said else {}))
    assert count == sent
    assert error.again is {"true": True, "false": False}.get(said if status != 200 and said else "")


def test_a_pause_in_milliseconds_is_kept() -> None:
    time = FakeTime()
    answers = [
        httpx2.Response(503, headers={"retry-after-ms": "1500", "retry-after": "9"}),
        httpx2.Response(200, json={"status": "Running"}),
    ]
    with mock_client(lambda _: answers.pop(0), time) as client:
        v1.job(client, "job-1")
    assert time.slept == [1.5]
