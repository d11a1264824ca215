"""How long trouble is ridden out: pauses, budgets, and what renews them; and credentials that expire on the way."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError, SSLError
from publisher_support import Clock

from lora_packer.errors import CredentialsError, PublishError
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.retry import Patience


def exhaust(patience: Patience) -> PublishError:
    """Wait until it is given up; return the error."""
    for attempt in range(1, 10_000):
        try:
            patience.wait(attempt, PublishError("Trouble.", hint="Look."))
        except PublishError as error:
            return error
    raise AssertionError("never given up")


def test_pauses_double_up_to_half_a_minute_and_end_with_the_budget() -> None:
    clock = Clock()
    patience = Patience(clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    patience.progress()
    exhaust(patience)
    assert clock.pauses[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert max(clock.pauses) == 30
    assert 870 < clock.seconds <= 900


def test_chance_takes_away_up_to_half_of_a_pause() -> None:
    clock = Clock()
    patience = Patience(clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)
    patience.progress()
    exhaust(patience)
    assert clock.pauses[:3] == [0.25, 0.5, 1]


def test_before_the_first_answer_it_is_given_up_soon() -> None:
    clock = Clock()
    exhaust(Patience(clock=clock, sleep=clock.sleep, jitter=lambda: 1.0))
    assert clock.pauses == [0.5, 1, 2, 4]  # the next one would end after the ten seconds


def test_a_success_makes_the_budget_whole() -> None:
    clock = Clock()
    patience = Patience(timedelta(minutes=1), clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    patience.progress()
    exhaust(patience)
    first = clock.seconds
    patience.progress()
    exhaust(patience)
    assert clock.seconds == 2 * first


def test_what_was_tried_is_said_once_and_in_the_end() -> None:
    told: list[str] = []
    clock = Clock()
    patience = Patience(clock=clock, sleep=clock.sleep, jitter=lambda: 1.0, tell=told.append)
    patience.progress()
    assert exhaust(patience).hint == "It was tried for 14 min. Look."
    assert told == ["Trouble. Trying again, for up to 15 min."]


def refusal(status: int, code: str) -> Exception:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Get")


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        (refusal(500, "InternalError"), True),
        (refusal(502, "502"), True),
        (refusal(503, "SlowDown"), True),
        (refusal(400, "RequestTimeout"), True),
        (refusal(429, "TooManyRequests"), True),
        (ReadTimeoutError(endpoint_url="http://x"), True),
        (ConnectTimeoutError(endpoint_url="http://x"), True),
        (SSLError(endpoint_url="http://x", error="EOF occurred in violation of protocol"), True),
        (SSLError(endpoint_url="http://x", error="CERTIFICATE_VERIFY_FAILED"), False),
        (refusal(403, "AccessDenied"), False),
        (refusal(403, "RequestTimeTooSkewed"), False),
        (refusal(404, "NoSuchBucket"), False),
        (refusal(501, "NotImplemented"), False),
        (refusal(400, "BadDigest"), False),
        (ValueError("Invalid endpoint"), False),
    ],
)
def test_what_is_tried_again(error: Exception, repeated: bool) -> None:
    clock, calls = Clock(), []

    def request(_: Any) -> str:
        calls.append(1)
        if len(calls) < 3:
            raise error
        return "done"

    connection = Connection(FakeClient(), patience=Patience(clock=clock, sleep=clock.sleep))
    if repeated:
        assert connection.call("Get", "s3://b/k", request) == "done"
        assert len(calls) == 3
        return
    with pytest.raises(S3Error):
        connection.call("Get", "s3://b/k", request)
    assert (len(calls), clock.pauses) == (1, [])


def test_what_must_not_be_made_twice_is_not() -> None:
    def request(_: Any) -> None:
        raise refusal(500, "InternalError")

    clock = Clock()
    with pytest.raises(S3Error) as caught:
        Connection(FakeClient(), patience=Patience(clock=clock, sleep=clock.sleep)).call(
            "Get", "s3://b/k", request, repeat=False
        )
    assert (caught.value.transient, caught.value.attempts, clock.pauses) == (True, 1, [])


class Body(BytesIO):
    """A body that can be referred to weakly."""


def test_a_request_that_failed_leaves_no_body_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's errors hold the request in a cycle of tracebacks, and the command line has Python look seldom."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    session = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "a-secret-key", region_name="us-east-1")
    nobody = session.client("s3", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
    bodies: list[weakref.ref[Body]] = []
    alive: list[int] = []
    clock = Clock()

    def request(client: Any) -> None:
        body = Body(b"part")
        bodies.append(weakref.ref(body))
        client.upload_part(Bucket="b", Key="k", UploadId="u", PartNumber=1, Body=body)

    def sleep(seconds: float) -> None:
        alive.append(sum(body() is not None for body in bodies))
        clock.sleep(seconds)

    gc.disable()
    try:
        with pytest.raises(S3Error):
            Connection(nobody, patience=Patience(clock=clock, sleep=sleep)).call("UploadPart", "s3://b/k", request)
    finally:
        gc.enable()
    assert len(alive) > 2
    assert max(alive) == 0


def test_looks_that_succeed_do_not_keep_what_fails_alive() -> None:
    clock = Clock()
    connection = Connection(FakeClient(), patience=Patience(clock=clock, sleep=clock.sleep))

    def part(_: Any) -> None:
        connection.call("HeadObject", "s3://b/k", lambda _: None)
        raise refusal(503, "SlowDown")

    with pytest.raises(S3Error, match="SlowDown"):
        connection.call("UploadPart", "s3://b/k", part)
    assert clock.seconds <= 900


class FakeClient:
    """Nothing is asked of it but to be another one than the last."""


def expired_until(good: Any) -> Any:
    def request(client: Any) -> str:
        if client is not good:
            raise refusal(400, "ExpiredToken")
        return "done"

    return request


def test_expired_credentials_are_renewed_once() -> None:
    first, second = FakeClient(), FakeClient()
    made: list[Any] = []

    def renew() -> Any:
        made.append(1)
        return second

    connection = Connection(first, renew=renew)
    assert connection.call("Get", "s3://b/k", expired_until(second)) == "done"
    assert connection.client is second
    assert len(made) == 1
    with pytest.raises(CredentialsError, match="ExpiredToken") as caught:
        connection.call("Get", "s3://b/k", expired_until(None))
    assert len(made) == 2  # once for each time of trouble
    assert "fresh credentials" in (caught.value.hint or "")


def test_credentials_that_expire_again_are_renewed_again() -> None:
    """An upload may take longer than two of them live."""
    clients = [FakeClient() for _ in range(4)]
    fresh = iter(clients[1:])
    connection = Connection(clients[0], renew=lambda: next(fresh))
    for good in clients[1:]:
        assert connection.call("Get", "s3://b/k", expired_until(good)) == "done"


def test_credentials_of_the_caller_are_not_renewed() -> None:
    with pytest.raises(CredentialsError, match="ExpiredToken"):
        Connection(FakeClient()).call("Get", "s3://b/k", expired_until(None))
