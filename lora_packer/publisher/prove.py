"""Proves a presigned URL with the one request that the downloader will make: a plain GET, of a single byte.

Not a HEAD: the method is signed. What it shows: signature, host and region, permission, that the object is there and
how long it is, and that the clocks agree. What it cannot show: other networks' way to the bucket, a policy that refuses
old URLs (s3:signatureAge), or credentials that are revoked later.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lora_packer.duration import format_duration
from lora_packer.errors import PublishError
from lora_packer.redact import PresignedUrl, escape, scrub

if TYPE_CHECKING:
    import httpx2

MAXIMUM_SKEW = timedelta(minutes=5)
"""A URL is dated by this machine's clock and judged by the store's."""

_TIMEOUT = 30.0  # seconds
_CONTENT_RANGE = re.compile(r"bytes 0-0/(\d+)")
_ERROR_BODY = 16_384  # bytes of an error's body that are read
_HINTS = {
    "AccessDenied": "The signer needs s3:GetObject (and kms:Decrypt for an encrypted bucket), and no policy of the "
    "bucket may deny it.",
    "SignatureDoesNotMatch": "Check the secret access key and the region; a proxy may also rewrite the request.",
    "InvalidAccessKeyId": "The access key is not known there: check the credentials and --endpoint-url.",
    "ExpiredToken": "The credentials ended: get fresh ones and run it again.",
    "InvalidToken": "The session token is not accepted: get fresh credentials and run it again.",
    "NoSuchKey": "The object is not there any more: run it again, it is uploaded anew.",
}
_EXPIRED_HINT = "Mint a new one: run it again; what is uploaded stays."


@dataclass(frozen=True, slots=True)
class Proof:
    """What one request to the URL showed.

    Attributes:
        status: the HTTP status.
        size: the object's length in bytes, as the answer has it.
        checked_at: when (UTC, this machine's clock).
        deadline: when the signature expires (UTC).
        clock_skew_seconds: the store's clock minus ours, or None where it does not tell.
        host: who answered.
    """

    status: int
    size: int
    checked_at: datetime
    deadline: datetime
    clock_skew_seconds: float | None
    host: str

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as a receipt has it."""
        return {
            "status": self.status,
            "size": self.size,
            "checked_at": self.checked_at.isoformat(timespec="seconds"),
            "deadline": self.deadline.isoformat(timespec="seconds"),
            "clock_skew_seconds": self.clock_skew_seconds,
            "host": self.host,
        }


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def prove(
    url: PresignedUrl,
    *,
    size: int,
    transport: httpx2.BaseTransport | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Proof:
    """Download the first byte with nothing but the URL, and return what that shows.

    Args:
        url: the URL.
        size: how long the object must be, in bytes.
        transport: carries the request; None: the network.
        now: the clock (UTC).

    Raises:
        PublishError: the URL does not work, or the clocks are too far apart for it to live as long as it says.
    """
    import httpx2

    parts = urlsplit(url.reveal())
    where = f"{escape(parts.hostname or '')}{escape(parts.path, 400)}"
    deadline = url.deadline
    if deadline is None:
        raise PublishError(f"The URL of {where} does not say when it expires.", hint="Mint it with SigV4.")
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    # `from None`: httpx2's errors carry the request, and with it the URL.
    try:
        with (
            _without_urls_in_the_log(),
            httpx2.Client(transport=transport, follow_redirects=False, timeout=_TIMEOUT) as http,
            http.stream("GET", url.reveal(), headers=headers) as answer,
        ):
            moment = now()
            skew = _skew(answer.headers.get("Date"), moment)
            body = _read(answer, 1 if answer.status_code in (200, 206) else _ERROR_BODY)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise PublishError(
            f"The presigned URL of {where} cannot be reached: {escape(scrub(str(error), url), 200) or 'no answer'}.",
            hint="Check the network and the proxy settings, and run it again; what is uploaded stays.",
        ) from None
    if skew is not None and abs(skew) > MAXIMUM_SKEW:
        direction = "behind" if skew > timedelta(0) else "ahead"
        raise PublishError(
            f"The clock of this machine is {format_duration(abs(skew))} {direction} of {escape(parts.hostname or '')}: "
            "a presigned URL is dated by it and would not live as long as it says.",
            hint="Set the clock (NTP) and run it again; what is uploaded stays.",
        )
    if answer.status_code not in (200, 206):
        raise _refused(answer.status_code, body, where, deadline, moment)
    _check_range(answer.headers.get("Content-Range"), len(body), size, where)
    return Proof(
        status=answer.status_code,
        size=size,
        checked_at=moment,
        deadline=deadline,
        clock_skew_seconds=None if skew is None else round(skew.total_seconds(), 1),
        host=parts.netloc.rpartition("@")[2],
    )


def _check_range(content_range: str | None, received: int, size: int, where: str) -> None:
    # Some servers answer a range with 200, or with the whole body: the status alone says nothing.
    match = _CONTENT_RANGE.fullmatch(content_range or "")
    if match is None or received != 1:
        raise PublishError(
            f"{where} did not answer a request for one byte with that byte (Content-Range "
            f"'{escape(content_range or 'missing', 80)}', {received or 'no'} {'byte' if received == 1 else 'bytes'}).",
            hint="What answers there is not an S3 store: check --endpoint-url and the proxy settings.",
        )
    if int(match[1]) != size:
        raise PublishError(
            f"{where} is {match[1]} bytes long, not {size}: another object is there.",
            hint="Somebody replaced it: publish again.",
        )


def _refused(status: int, body: bytes, where: str, deadline: datetime, moment: datetime) -> PublishError:
    text = body.decode("utf-8", "replace")
    code = _element("Code", text)
    detail = _element("Message", text)
    named = " ".join(filter(None, (f"HTTP {status}", code, f"({detail})" if detail else "")))
    message = f"The presigned URL of {where} does not work: {named}."
    if 300 <= status < 400 or code == "PermanentRedirect":
        return PublishError(
            message,
            hint="The bucket is elsewhere: leave --endpoint-url out, or set AWS_DEFAULT_REGION to the bucket's region.",
        )
    if deadline <= moment or "expired" in detail.lower():
        return PublishError(message, hint=_EXPIRED_HINT if code != "ExpiredToken" else _HINTS[code])
    fallback = {403: _HINTS["AccessDenied"], 404: _HINTS["NoSuchKey"]}.get(status)
    if status >= 500:
        fallback = "The store has trouble: run it again in a while; what is uploaded stays."
    return PublishError(message, hint=_HINTS.get(code, fallback))


def _element(name: str, text: str) -> str:
    """Return an element of S3's error body, fit to be shown; the rest of it echoes the request."""
    match = re.search(rf"<{name}>([^<]{{0,300}})</{name}>", text)
    return escape(scrub(match[1]), 200) if match else ""


def _skew(date: str | None, moment: datetime) -> timedelta | None:
    try:
        return parsedate_to_datetime(date).astimezone(UTC) - moment if date else None
    except (ValueError, OverflowError):
        return None


def _read(answer: httpx2.Response, limit: int) -> bytes:
    """Return the body's first bytes: at most one more than ``limit``."""
    body = b""
    for chunk in answer.iter_bytes():
        body += chunk[: limit + 1 - len(body)]
        if len(body) > limit:
            break
    return body


@contextmanager
def _without_urls_in_the_log() -> Iterator[None]:
    """Keep the URL's signature out of httpx2's log line about each request."""

    def mask(record: logging.LogRecord) -> bool:
        record.msg, record.args = scrub(record.getMessage()), None
        return True

    logger = logging.getLogger("httpx2")
    logger.addFilter(mask)
    try:
        yield
    finally:
        logger.removeFilter(mask)
