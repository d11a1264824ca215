"""Proves a presigned URL with the requests that its downloader will make: plain GETs, at once.

Not a HEAD: the method is signed. They show signature, host and region, permission, that the object is there and how
long it is, both its ends, that the clocks agree, and that a URL may grow as old as the service needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from lora_packer.duration import format_duration
from lora_packer.errors import PublishError
from lora_packer.frozen import frozen
from lora_packer.publisher.credentials import Signer
from lora_packer.publisher.downloads import Get
from lora_packer.publisher.fetch import Fetched, NoAnswerError, checked_range, fetch, refused, where
from lora_packer.publisher.presign import MINIMUM
from lora_packer.publisher.retry import Patience, utc_now
from lora_packer.publisher.sigv4 import backdated
from lora_packer.redact import PresignedUrl, escape
from lora_packer.threads import ahead

MAXIMUM_SKEW = timedelta(minutes=5)
"""A URL is dated by this machine's clock and judged by the store's."""

END = 64
"""How many bytes of each end are looked at."""

_MAGIC = {".zip": b"PK\x03\x04", ".tar.gz": b"\x1f\x8b"}
# More than the clocks may differ by.
_PROBE_MARGIN = timedelta(minutes=6)
_CANNOT = (
    "that other networks may fetch it (aws:SourceIp and VPC conditions, an authority of your own for the certificate)",
    "that no key, role or policy is revoked or changed before the deadline",
)


@frozen
class Proof:
    """What the requests to the URL showed.

    Attributes:
        status: the HTTP status of the first.
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


@frozen
class Expected:
    """What the URL must give.

    Attributes:
        key: the object's key.
        size: its length in bytes; None where only the answer tells.
        sha256: its SHA-256 in hex, or None where nobody knows it.
        ends: its first and last bytes (``END`` of each, fewer where it is shorter), or None where nobody knows them.
    """

    key: str
    size: int | None
    sha256: str | None
    ends: tuple[bytes, bytes] | None = None


def prove(
    get: Get,
    url: PresignedUrl,
    expected: Expected,
    by: Signer,
    *,
    full: bool = False,
    now: Callable[[], datetime] = utc_now,
    patience: Patience | None = None,
) -> Proof:
    """Prove the URL; say what was proven, what could not be, and what looks doubtful.

    Args:
        get: makes the requests.
        url: the URL.
        expected: what it must give.
        by: who signed it.
        full: download everything and hash it.
        now: the clock (UTC).
        patience: how long trouble is ridden out; None: not at all.

    Raises:
        PublishError: the URL does not work, gives other bytes, or the clocks are too far apart for it to live as long
            as it says.
    """
    old = ahead(_old_age, get, url, by, now)
    tail = None if expected.size is None else ahead(fetch, get, url, _tail(expected.size), END)
    proof, first = look_at(get, url, size=expected.size, now=now, patience=patience)
    proven = [
        "a plain GET from here is answered: signature, host, permission, the object and its length",
        _ends(url, expected, first, _last_bytes(get, url, proof.size, tail, patience)),
    ]
    cannot = list(_CANNOT)
    if full:
        proven.append(_whole(get, url, proof.size, expected))
    else:
        cannot.insert(0, "the bytes between its ends, which were not downloaded (--verify full does that)")
    warnings = []
    doubt = old.result()
    age = format_duration(MINIMUM)
    if doubt is None:
        proven.append(f"the URL still works {age} after signing: no bucket policy (s3:signatureAge) ends it earlier")
    else:
        warnings.append(f"it is not certain that the URL still works {age} after signing: {doubt}")
    if not by.lifetime_known:
        cannot.append(f"how long the credentials from {by.description} live; the URL ends with them")
    return replace(proof, proven=tuple(proven), not_proven=tuple(cannot), warnings=tuple(warnings))


def look_at(
    get: Get,
    url: PresignedUrl,
    *,
    size: int | None,
    now: Callable[[], datetime] = utc_now,
    patience: Patience | None = None,
) -> tuple[Proof, bytes]:
    """Ask the URL for its first bytes (``END`` of them, or all); return what that shows, and them.

    Args and errors are those of ``prove``; ``size`` is None where only the answer tells it.
    """
    host = urlsplit(url.reveal()).netloc.rpartition("@")[2]
    deadline = url.deadline
    if deadline is None:
        raise PublishError(f"The URL of {where(url)} does not say when it expires.", hint="Mint it with SigV4.")
    last = min(END, size or END) - 1
    answer = fetch(get, url, f"bytes=0-{last}", END, patience=patience)
    moment = now()
    skew = _skew(answer.date, moment)
    if skew is not None and abs(skew) > MAXIMUM_SKEW:
        direction = "behind" if skew > timedelta(0) else "ahead"
        raise PublishError(
            f"The clock of this machine is {format_duration(abs(skew))} {direction} of {escape(host)}: a presigned URL "
            "is dated by it and would not live as long as it says.",
            hint="Set the clock (NTP) and run it again; what is uploaded stays.",
        )
    if not answer.is_good:
        raise refused(url, answer, moment)
    first, found = checked_range(url, answer, 0, last)
    if size is not None and found != size:
        raise PublishError(
            f"{where(url)} is {found} bytes long, not {size}: another object is there.",
            hint="Somebody replaced it: publish again.",
        )
    skew_seconds = None if skew is None else round(skew.total_seconds(), 1)
    return Proof(answer.status, found, moment, deadline, skew_seconds, host), first


def _tail(size: int) -> str:
    """The Range of the last bytes."""
    return f"bytes={max(0, size - END)}-{size - 1}"


def _last_bytes(
    get: Get, url: PresignedUrl, size: int, asked: Future[Fetched] | None, patience: Patience | None
) -> bytes:
    """Return them; where they were asked for and trouble came instead, it is ridden out now."""
    answer = None
    if asked is not None:
        with suppress(NoAnswerError):
            answer = asked.result()
    if answer is None or answer.status >= 500:
        answer = fetch(get, url, _tail(size), END, patience=patience)
    if not answer.is_good:
        raise refused(url, answer)
    return checked_range(url, answer, max(0, size - END), size - 1, size)[0]


def _ends(url: PresignedUrl, expected: Expected, first: bytes, last: bytes) -> str:
    if expected.ends is not None:
        if (first, last) != expected.ends:
            raise _other_bytes(url)
        return f"its first and last {len(first)} bytes are the archive's"
    suffix = next(suffix for suffix in _MAGIC if expected.key.endswith(suffix))
    if not first.startswith(_MAGIC[suffix]):
        raise PublishError(f"{url} does not begin like a {suffix} archive.", hint="Publish the adapter anew.")
    return f"its first and last {len(first)} bytes can be read, and it begins like a {suffix} archive"


def _whole(get: Get, url: PresignedUrl, size: int, expected: Expected) -> str:
    sha256 = hashlib.sha256()
    received = 0

    def take(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)
        sha256.update(chunk)

    # Not tried again: half a download is in the hash.
    answer = fetch(get, url, None, 0, take=take)
    if answer.status != 200:
        raise refused(url, answer)
    if received != size or sha256.hexdigest() != (expected.sha256 or sha256.hexdigest()):
        raise _other_bytes(url)
    if expected.sha256 is None:
        return f"all its {received:,} bytes were downloaded; their SHA-256 is {sha256.hexdigest()}"
    return f"all its {received:,} bytes were downloaded, and have the archive's SHA-256"


def _old_age(get: Get, url: PresignedUrl, by: Signer, now: Callable[[], datetime]) -> str | None:
    """Ask with a URL that claims to be as old as the service may find this one; return what speaks against it."""
    old = backdated(url, by.secret_key, signed_at=now() - MINIMUM, lives=MINIMUM + _PROBE_MARGIN)
    try:
        answer = fetch(get, old, "bytes=0-0", 1)
    except PublishError as error:
        return error.message
    return None if answer.is_good else refused(old, answer).message


def _skew(date: str | None, moment: datetime) -> timedelta | None:
    try:
        return parsedate_to_datetime(date).astimezone(UTC) - moment if date else None
    except (ValueError, OverflowError):
        return None


def _other_bytes(url: PresignedUrl) -> PublishError:
    return PublishError(f"{url} gives other bytes than the archive's.", hint="Somebody replaced it: publish again.")
