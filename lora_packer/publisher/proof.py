"""Proves a presigned URL with the one request that the downloader will make: a plain GET, of a single byte.

Not a HEAD: the method is signed. What it shows: signature, host and region, permission, that the object is there and
how long it is, and that the clocks agree. ``evidence`` asks for more.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lora_packer.duration import format_duration
from lora_packer.errors import PublishError
from lora_packer.publisher.retry import Patience
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
        proven: what the requests showed, as sentences.
        not_proven: what they did not or cannot show.
        warnings: what looks doubtful.
    """

    status: int
    size: int
    checked_at: datetime
    deadline: datetime
    clock_skew_seconds: float | None
    host: str
    proven: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as a receipt has it."""
        return {
            "status": self.status,
            "size": self.size,
            "checked_at": self.checked_at.isoformat(timespec="seconds"),
            "deadline": self.deadline.isoformat(timespec="seconds"),
            "clock_skew_seconds": self.clock_skew_seconds,
            "host": self.host,
            "proven": list(self.proven),
            "not_proven": list(self.not_proven),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a GET answered.

    Attributes:
        status: the HTTP status.
        content_range: that header, or an empty string.
        date: that header, or None.
        body: its first bytes, at most one more than asked for; an error's first kilobytes.
    """

    status: int
    content_range: str
    date: str | None
    body: bytes


def fetch(
    url: PresignedUrl,
    byte_range: str | None,
    limit: int,
    *,
    transport: httpx2.BaseTransport | None = None,
    patience: Patience | None = None,
    take: Callable[[bytes], None] | None = None,
) -> Fetched:
    """GET the URL, as its downloader will: no other header that matters, and no redirect followed.

    Args:
        url: the URL.
        byte_range: the Range to ask for; None: everything.
        limit: how many bytes of the body to read.
        transport: carries the request; None: the network.
        patience: how long trouble is ridden out; None: not at all.
        take: is given the whole body of a good answer, piece by piece, instead of ``limit`` bytes being kept.

    Raises:
        PublishError: nobody answered, or whom to trust cannot be read.
    """
    trust()  # no trouble that passes
    attempt = 0
    while True:
        attempt += 1
        try:
            answer = _fetch(url, byte_range, limit, transport, take)
        except PublishError as error:
            if patience is None:
                raise
            patience.wait(attempt, error)
            continue
        if patience is None:
            return answer
        patience.answered()
        if answer.status < 500:
            patience.progress()
            return answer
        patience.wait(attempt, refused(url, answer))


def _fetch(
    url: PresignedUrl,
    byte_range: str | None,
    limit: int,
    transport: httpx2.BaseTransport | None,
    take: Callable[[bytes], None] | None,
) -> Fetched:
    import httpx2

    headers = {"Accept-Encoding": "identity"} | ({"Range": byte_range} if byte_range else {})
    # `from None`: httpx2's errors carry the request, and with it the URL.
    try:
        with (
            _without_urls_in_the_log(),
            httpx2.Client(transport=transport, follow_redirects=False, timeout=_TIMEOUT, verify=trust()) as http,
            http.stream("GET", url.reveal(), headers=headers) as answer,
        ):
            good = answer.status_code in (200, 206)
            body = b""
            if good and take is not None:
                for chunk in answer.iter_bytes():
                    take(chunk)
            else:
                body = _read(answer, limit if good else _ERROR_BODY)
            given = answer.headers
            return Fetched(answer.status_code, given.get("Content-Range", ""), given.get("Date"), body)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = escape(scrub(str(error), url), 200) or "no answer"
        raise PublishError(
            f"The presigned URL of {_where(url)} cannot be reached: {reason}.",
            hint="Check the network and the proxy settings, and run it again; what is uploaded stays.",
        ) from None


def trust() -> ssl.SSLContext:
    """Return whom a proof trusts: the authorities that botocore does, where the environment names others than usual.

    Raises PublishError where they cannot be read.
    """
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        return _trusting(bundle or None)
    except OSError as error:
        raise PublishError(
            f"AWS_CA_BUNDLE '{escape(bundle or '')}' cannot be read: {error.strerror or error}."
        ) from None


@cache
def _trusting(bundle: str | None) -> ssl.SSLContext:
    """Made once: reading the authorities takes longer than a request."""
    import httpx2

    return ssl.create_default_context(cafile=bundle) if bundle else httpx2.create_ssl_context()


def _where(url: PresignedUrl) -> str:
    parts = urlsplit(url.reveal())
    return f"{escape(parts.hostname or '')}{escape(parts.path, 400)}"


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def prove(
    url: PresignedUrl,
    *,
    size: int | None,
    transport: httpx2.BaseTransport | None = None,
    now: Callable[[], datetime] = utc_now,
    patience: Patience | None = None,
) -> Proof:
    """Ask the URL for its first byte and return what that shows.

    Args:
        url: the URL.
        size: how long the object must be, in bytes; None: as long as it is.
        transport: carries the request; None: the network.
        now: the clock (UTC).
        patience: how long trouble is ridden out; None: not at all.

    Raises:
        PublishError: the URL does not work, or the clocks are too far apart for it to live as long as it says.
    """
    where, host = _where(url), urlsplit(url.reveal()).netloc.rpartition("@")[2]
    deadline = url.deadline
    if deadline is None:
        raise PublishError(f"The URL of {where} does not say when it expires.", hint="Mint it with SigV4.")
    answer = fetch(url, "bytes=0-0", 1, transport=transport, patience=patience)
    moment = now()
    skew = _skew(answer.date, moment)
    if skew is not None and abs(skew) > MAXIMUM_SKEW:
        direction = "behind" if skew > timedelta(0) else "ahead"
        raise PublishError(
            f"The clock of this machine is {format_duration(abs(skew))} {direction} of {escape(host)}: a presigned URL "
            "is dated by it and would not live as long as it says.",
            hint="Set the clock (NTP) and run it again; what is uploaded stays.",
        )
    if answer.status not in (200, 206):
        raise refused(url, answer, moment)
    return Proof(
        status=answer.status,
        size=_check_range(answer.content_range, len(answer.body), size, where),
        checked_at=moment,
        deadline=deadline,
        clock_skew_seconds=None if skew is None else round(skew.total_seconds(), 1),
        host=host,
    )


def _check_range(content_range: str, received: int, size: int | None, where: str) -> int:
    # Some servers answer a range with 200, or with the whole body: the status alone says nothing.
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None or received != 1:
        raise PublishError(
            f"{where} did not answer a request for one byte with that byte (Content-Range "
            f"'{escape(content_range or 'missing', 80)}', {received or 'no'} {'byte' if received == 1 else 'bytes'}).",
            hint="What answers there is not an S3 store: check --endpoint-url and the proxy settings.",
        )
    if size is not None and int(match[1]) != size:
        raise PublishError(
            f"{where} is {match[1]} bytes long, not {size}: another object is there.",
            hint="Somebody replaced it: publish again.",
        )
    return int(match[1])


def refused(url: PresignedUrl, answer: Fetched, moment: datetime | None = None) -> PublishError:
    """Return the error for an answer that is none of the object, given at that moment."""
    status, where, deadline = answer.status, _where(url), url.deadline
    text = answer.body.decode("utf-8", "replace")
    code = _element("Code", text)
    detail = _element("Message", text)
    named = " ".join(filter(None, (f"HTTP {status}", code, f"({detail})" if detail else "")))
    message = f"The presigned URL of {where} does not work: {named}."
    if 300 <= status < 400 or code == "PermanentRedirect":
        return PublishError(
            message,
            hint="The bucket is elsewhere: leave --endpoint-url out, or set AWS_DEFAULT_REGION to the bucket's region.",
        )
    if (deadline and moment and deadline <= moment) or "expired" in detail.lower():
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
