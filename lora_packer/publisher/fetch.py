"""GETs of a presigned URL, as its downloader will make them: no other header that matters, no redirect followed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from lora_packer.errors import PublishError
from lora_packer.exchange import DEADLINE
from lora_packer.frozen import frozen
from lora_packer.publisher.downloads import Get, UnansweredError
from lora_packer.publisher.retry import Patience
from lora_packer.redact import PresignedUrl, escape, scrub

CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")
_HINTS = {
    "AccessDenied": "The signer needs s3:GetObject (s3:GetObjectVersion in a versioned bucket, and kms:Decrypt in an "
    "encrypted one), and no policy of the bucket may deny it.",
    "SignatureDoesNotMatch": "Check the secret access key and the region; a proxy may also rewrite the request.",
    "InvalidAccessKeyId": "The access key is not known there: check the credentials and --endpoint-url.",
    "ExpiredToken": "The credentials ended: get fresh ones and run it again.",
    "InvalidToken": "The session token is not accepted: get fresh credentials and run it again.",
    "NoSuchKey": "The object is not there any more: run it again, it is uploaded anew.",
}
_EXPIRED_HINT = "Mint a new one: run it again; what is uploaded stays."
_NETWORK_HINT = "Check the network and the proxy settings, and run it again; what is uploaded stays."
_CERTIFICATE_HINT = (
    "The certificate is not trusted: set AWS_CA_BUNDLE to its authority's, and run it again; what is uploaded stays."
)
_NO_STORE_HINT = "What answers there is not an S3 store: check --endpoint-url and the proxy settings."


@frozen
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

    @property
    def is_good(self) -> bool:
        """Whether it is of the object: some stores answer a range with 200."""
        return self.status in (200, 206)


class NoAnswerError(PublishError):
    """Nobody answered; ``may_pass`` says whether somebody may in a while."""

    def __init__(self, message: str, *, hint: str, may_pass: bool) -> None:
        super().__init__(message, hint=hint)
        self.may_pass = may_pass


def fetch(
    get: Get,
    url: PresignedUrl,
    byte_range: str | None,
    limit: int,
    *,
    patience: Patience | None = None,
    take: Callable[[bytes], None] | None = None,
    deadline: float = DEADLINE,
) -> Fetched:
    """GET the URL.

    Args:
        get: makes the request.
        url: the URL.
        byte_range: the Range to ask for; None: everything.
        limit: how many bytes of the body to read.
        patience: how long trouble is ridden out; None: not at all.
        take: is given the whole body of a good answer, piece by piece, instead of ``limit`` bytes being kept.
        deadline: seconds that one request may take (``exchange``).

    Raises:
        NoAnswerError: nobody answered.
        PublishError: the store's trouble did not pass.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            answer = _once(get, url, byte_range, limit, take, deadline)
        except NoAnswerError as error:
            if patience is None or not error.may_pass:
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


def checked_range(
    url: PresignedUrl, answer: Fetched, first: int, last: int, size: int | None = None
) -> tuple[bytes, int]:
    """Return the bytes of a good answer to a request for a range, and the object's length.

    Args:
        url: what was asked.
        answer: what it answered.
        first: the first byte that was asked for.
        last: the last one; the object may be shorter where its ``size`` is not known.
        size: the object's length, where that is known.

    Raises PublishError where it is anything else: the status alone says nothing.
    """
    match = CONTENT_RANGE.fullmatch(answer.content_range)
    begin, end, length = map(int, match.groups()) if match else (-1, -1, -1)
    expected = (first, min(last, length - 1), length if size is None else size)
    if match is None or (begin, end, length) != expected or len(answer.body) != end - begin + 1:
        received = f"{len(answer.body) or 'no'} {'byte' if len(answer.body) == 1 else 'bytes'}"
        raise PublishError(
            f"{where(url)} did not answer a request for its bytes {first} to {last} with them (Content-Range "
            f"'{escape(answer.content_range or 'missing', 80)}', {received}).",
            hint=_NO_STORE_HINT,
        )
    return answer.body, length


def where(url: PresignedUrl) -> str:
    """Return a URL's host and path, to be shown."""
    parts = urlsplit(url.reveal())
    return f"{escape(parts.hostname or '')}{escape(parts.path, 400)}"


def refused(url: PresignedUrl, answer: Fetched, moment: datetime | None = None) -> PublishError:
    """Return the error for an answer that is none of the object, given at that moment."""
    status, deadline = answer.status, url.deadline
    text = answer.body.decode("utf-8", "replace")
    code = _element("Code", text)
    detail = _element("Message", text)
    named = " ".join(filter(None, (f"HTTP {status}", code, f"({detail})" if detail else "")))
    message = f"The presigned URL of {where(url)} does not work: {named}."
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


def _once(
    get: Get,
    url: PresignedUrl,
    byte_range: str | None,
    limit: int,
    take: Callable[[bytes], None] | None,
    deadline: float,
) -> Fetched:
    headers = {"Accept-Encoding": "identity"} | ({"Range": byte_range} if byte_range else {})
    try:
        answer = get(url.reveal(), headers=headers, most=limit + 1, take=take, deadline=deadline)
    except UnansweredError as error:
        reason = escape(scrub(str(error), url), 200) or "no answer"
        raise NoAnswerError(
            f"The presigned URL of {where(url)} cannot be reached: {reason}.",
            hint=_CERTIFICATE_HINT if "CERTIFICATE_VERIFY_FAILED" in reason else _NETWORK_HINT,
            may_pass=error.may_pass,
        ) from None
    given = answer.headers
    return Fetched(answer.status, given.get("Content-Range", ""), given.get("Date"), answer.body)


def _element(name: str, text: str) -> str:
    """Return an element of S3's error body, fit to be shown; the rest of it echoes the request."""
    match = re.search(rf"<{name}>([^<]{{0,300}})</{name}>", text)
    return escape(scrub(match[1]), 200) if match else ""
