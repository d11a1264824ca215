"""What one request to a URL proves, and every way in which it does not work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from publisher_support import answered_by, prove

from lora_packer.errors import PublishError
from lora_packer.exchange import Answer
from lora_packer.publisher.downloads import UnansweredError
from lora_packer.publisher.proof import Proof
from lora_packer.publisher.retry import Patience
from lora_packer.redact import PresignedUrl

SIGNATURE = "5ca1ab1e" * 8
TOKEN = "session-token-that-nobody-may-see"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
URL = PresignedUrl(
    "https://bucket.s3.eu-central-1.amazonaws.com/adapters/a-0123456789abcdef.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=ASIAFAKEFAKEFAKEFAKE%2F20260301%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20260301T115500Z"
    f"&X-Amz-Expires=43200&X-Amz-SignedHeaders=host&X-Amz-Security-Token={TOKEN}&X-Amz-Signature={SIGNATURE}"
)

Handler = Callable[[httpx2.Request], httpx2.Response]


def answer(
    status: int = 206,
    body: bytes = b"P" * 64,
    *,
    content_range: str | None = "bytes 0-63/1234",
    skew: timedelta | None = timedelta(0),
    **headers: str,
) -> Handler:
    given = dict(headers)
    if content_range is not None:
        given["Content-Range"] = content_range
    if skew is not None:
        given["Date"] = format_datetime(NOW + skew, usegmt=True)
    return lambda request: httpx2.Response(status, content=body, headers=given)


def attempt(handler: Handler, url: PresignedUrl = URL, now: datetime = NOW) -> Proof:
    return prove(url, 1234, answered_by(handler), now=lambda: now)


def test_what_is_asked_is_what_the_downloader_will_ask() -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answer()(request)

    attempt(handler)
    (request,) = seen
    assert (request.method, str(request.url)) == ("GET", URL.reveal())
    assert request.headers["Range"] == "bytes=0-63"
    assert not {"authorization", "cookie", "x-amz-date"} & set(request.headers)


def test_a_proof() -> None:
    proof = attempt(answer(skew=timedelta(seconds=-2)))
    assert proof == Proof(
        status=206,
        size=1234,
        checked_at=NOW,
        deadline=datetime(2026, 3, 1, 23, 55, tzinfo=UTC),
        clock_skew_seconds=-2.0,
        host="bucket.s3.eu-central-1.amazonaws.com",
    )
    assert proof.to_dict()["deadline"] == "2026-03-01T23:55:00+00:00"


@pytest.mark.parametrize(
    "handler",
    [
        answer(200),  # a store that answers a range with 200
        answer(skew=None),
        answer(Date="not a date", skew=None),
        answer(skew=timedelta(minutes=4, seconds=59)),
    ],
)
def test_odd_answers_that_are_fine(handler: Handler) -> None:
    assert attempt(handler).size == 1234


def error(code: str, message: str = "") -> bytes:
    # What a store adds to an error echoes the request.
    echo = f"<StringToSign>{SIGNATURE}</StringToSign><AWSAccessKeyId>ASIAFAKEFAKEFAKEFAKE</AWSAccessKeyId>"
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{echo}</Error>".encode()


@pytest.mark.parametrize(
    ("handler", "message", "hint"),
    [
        (
            answer(403, error("AccessDenied", "Access Denied")),
            r"HTTP 403 AccessDenied \(Access Denied\)",
            "s3:GetObject",
        ),
        (answer(403, error("AccessDenied", "Request has expired")), "Request has expired", "Mint a new one"),
        (answer(403, error("SignatureDoesNotMatch")), "HTTP 403 SignatureDoesNotMatch", "secret access key"),
        (answer(403, error("InvalidAccessKeyId")), "HTTP 403 InvalidAccessKeyId", "access key"),
        (answer(400, error("ExpiredToken", "The provided token has expired.")), "ExpiredToken", "credentials ended"),
        (answer(403, b""), "HTTP 403", "s3:GetObject"),
        (answer(403, b"\xff\x00\x1b[31m<Code>\x1b[31mX</Code>"), r"HTTP 403 \\x1b\[31mX", "s3:GetObject"),
        (answer(404, error("NoSuchKey")), "HTTP 404 NoSuchKey", "uploaded anew"),
        (answer(307, error("TemporaryRedirect"), Location="https://elsewhere/"), "HTTP 307", "elsewhere"),
        (answer(301, error("PermanentRedirect")), "HTTP 301 PermanentRedirect", "region"),
        (answer(503, error("SlowDown")), "HTTP 503 SlowDown", "in a while"),
        (answer(204, b""), "HTTP 204", None),
        (answer(206, b"PK"), "Content-Range", "not an S3 store"),
        (answer(206, b"P" * 100_000), "Content-Range", "not an S3 store"),
        (answer(206, b"P" * 63), "63 bytes", "not an S3 store"),
        (answer(206, b"P" * 65), "65 bytes", "not an S3 store"),
        (answer(206, b""), "no bytes", "not an S3 store"),
        (answer(200, b"<html>sign in</html>", content_range=None), "missing", "not an S3 store"),
        (answer(content_range="bytes 0-1233/1234"), "0-1233", "not an S3 store"),
        (answer(content_range="bytes 0-63/*"), r"0-63/\*", "not an S3 store"),
        (answer(content_range="bytes 0-63/999"), "999 bytes long, not 1234", "replaced"),
        (answer(skew=timedelta(minutes=6)), "6 min behind", "NTP"),
        (answer(skew=timedelta(minutes=-20)), "20 min ahead", "NTP"),
        (answer(403, error("AccessDenied"), skew=timedelta(hours=2)), "2 h behind", "NTP"),
    ],
)
def test_a_url_that_does_not_work(handler: Handler, message: str, hint: str | None) -> None:
    with pytest.raises(PublishError, match=message) as caught:
        attempt(handler)
    assert caught.value.exit_code == 4
    assert hint is None or hint in (caught.value.hint or "")
    hidden_in(str(caught.value))


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        return httpx2.Response(307, headers={"Location": "https://elsewhere.example.com/"})

    with pytest.raises(PublishError, match="HTTP 307"):
        attempt(handler)
    assert asked == ["bucket.s3.eu-central-1.amazonaws.com"]


def test_a_url_that_is_past_its_deadline() -> None:
    late = NOW + timedelta(hours=13)
    with pytest.raises(PublishError) as caught:
        attempt(answer(403, error("AccessDenied"), skew=timedelta(hours=13)), now=late)
    assert "Mint a new one" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "AWS_CA_BUNDLE"),
        ("407 Proxy Authentication Required", "proxy"),
    ],
)
def test_what_does_not_pass_is_said_at_once(reason: str, hint: str) -> None:
    def wait(_seconds: float) -> None:
        raise AssertionError("it does not pass")

    def get(*_: object, **__: object) -> Answer:
        raise UnansweredError(f"{reason}: {URL.reveal()}", may_pass=False)

    patience = Patience(sleep=wait)
    patience.answered()
    with pytest.raises(PublishError, match="cannot be reached") as caught:
        prove(URL, 1234, get, now=lambda: NOW, patience=patience)
    assert hint in (caught.value.hint or "")
    assert caught.value.__cause__ is None
    hidden_in(str(caught.value))


def test_a_url_of_a_version_needs_another_permission() -> None:
    """s3:GetObject is not enough for it (API_GetObject.html, versionId), and the answer does not say so."""
    with pytest.raises(PublishError) as caught:
        attempt(answer(403, error("AccessDenied")), PresignedUrl(f"{URL.reveal()}&versionId=v1"))
    assert "s3:GetObject (s3:GetObjectVersion in a versioned bucket" in (caught.value.hint or "")


def test_a_url_without_a_deadline() -> None:
    with pytest.raises(PublishError, match="does not say when it expires"):
        attempt(answer(), PresignedUrl("https://example.com/a.zip?token=x"))


def hidden_in(text: str) -> None:
    assert not any(secret in text for secret in (SIGNATURE, TOKEN, "ASIAFAKE"))
