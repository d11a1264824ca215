"""What more than one byte shows of a URL: both ends of the archive, all of it, and whether it may grow old."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lora_packer.duration import format_duration
from lora_packer.errors import PublishError
from lora_packer.publisher.credentials import Signer
from lora_packer.publisher.presign import MINIMUM
from lora_packer.publisher.proof import Proof, fetch, prove, refused, utc_now
from lora_packer.publisher.retry import Patience
from lora_packer.publisher.sigv4 import backdated
from lora_packer.redact import PresignedUrl, escape

if TYPE_CHECKING:
    import httpx2

END = 64
"""How many bytes of each end are looked at."""

_MAGIC = {".zip": b"PK\x03\x04", ".tar.gz": b"\x1f\x8b"}
# More than the clocks may differ by.
_PROBE_MARGIN = timedelta(minutes=6)
_CANNOT = (
    "that other networks may fetch it (aws:SourceIp and VPC conditions, an authority of your own for the certificate)",
    "that no key, role or policy is revoked or changed before the deadline",
)


@dataclass(frozen=True, slots=True)
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


def gather(
    url: PresignedUrl,
    expected: Expected,
    by: Signer,
    *,
    full: bool = False,
    transport: httpx2.BaseTransport | None = None,
    now: Callable[[], datetime] = utc_now,
    patience: Patience | None = None,
) -> Proof:
    """Prove the URL; say what was proven, what could not be, and what looks doubtful.

    Args:
        url: the URL.
        expected: what it must give.
        by: who signed it.
        full: download everything and hash it.
        transport: carries the requests; None: the network.
        now: the clock (UTC).
        patience: how long trouble is ridden out; None: not at all.

    Raises:
        PublishError: the URL does not work, or gives other bytes.
    """
    proof = prove(url, size=expected.size, transport=transport, now=now, patience=patience)
    get = _Getter(url, proof.size, transport, patience)
    proven = ["a plain GET from here is answered: signature, host, permission, the object and its length"]
    cannot = list(_CANNOT)
    proven.append(_ends(get, expected))
    if full:
        proven.append(_whole(get, expected))
    else:
        cannot.insert(0, "the bytes between its ends, which were not downloaded (--verify full does that)")
    warnings = []
    doubt = _old_age(url, by, transport, now)
    age = format_duration(MINIMUM)
    if doubt is None:
        proven.append(f"a URL that is {age} old is accepted: no policy (s3:signatureAge) ends it before")
    else:
        warnings.append(f"whether a URL that is {age} old is accepted is doubtful: {doubt}")
    if not by.lifetime_known:
        cannot.append(f"how long the credentials from {by.description} live; the URL ends with them")
    return replace(proof, proven=tuple(proven), not_proven=tuple(cannot), warnings=tuple(warnings))


@dataclass(frozen=True, slots=True)
class _Getter:
    url: PresignedUrl
    size: int
    transport: httpx2.BaseTransport | None
    patience: Patience | None

    def range(self, first: int, last: int) -> bytes:
        """Return those bytes, both included, having checked that they are what was answered."""
        length = last - first + 1
        answer = fetch(self.url, f"bytes={first}-{last}", length, transport=self.transport, patience=self.patience)
        if answer.status not in (200, 206):
            raise refused(self.url, answer)
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.content_range)
        if match is None or match.groups() != (str(first), str(last), str(self.size)) or len(answer.body) != length:
            raise PublishError(
                f"{self.url} did not answer a request for its bytes {first} to {last} with them (Content-Range "
                f"'{escape(answer.content_range or 'missing', 80)}', {len(answer.body)} bytes).",
                hint="What answers there is not an S3 store: check --endpoint-url and the proxy settings.",
            )
        return answer.body


def _ends(get: _Getter, expected: Expected) -> str:
    count = min(END, get.size)
    if count == 0:
        raise PublishError(f"{get.url} is empty.", hint="Upload the archive anew.")
    first, last = get.range(0, count - 1), get.range(get.size - count, get.size - 1)
    if expected.ends is not None:
        if (first, last) != expected.ends:
            raise _other_bytes(get.url)
        return f"its first and last {count} bytes are the archive's"
    suffix = next(suffix for suffix in _MAGIC if expected.key.endswith(suffix))
    if not first.startswith(_MAGIC[suffix]):
        raise PublishError(f"{get.url} does not begin like a {suffix} archive.", hint="Publish the adapter anew.")
    return f"its first and last {count} bytes can be read, and it begins like a {suffix} archive"


def _whole(get: _Getter, expected: Expected) -> str:
    sha256 = hashlib.sha256()
    received = 0

    def take(chunk: bytes) -> None:
        nonlocal received
        received += len(chunk)
        sha256.update(chunk)

    # Not tried again: half a download is in the hash.
    answer = fetch(get.url, None, 0, transport=get.transport, patience=None, take=take)
    if answer.status != 200:
        raise refused(get.url, answer)
    if received != get.size or sha256.hexdigest() != (expected.sha256 or sha256.hexdigest()):
        raise _other_bytes(get.url)
    if expected.sha256 is None:
        return f"all its {received:,} bytes were downloaded; their SHA-256 is {sha256.hexdigest()}"
    return f"all its {received:,} bytes were downloaded, and have the archive's SHA-256"


def _old_age(
    url: PresignedUrl,
    by: Signer,
    transport: httpx2.BaseTransport | None,
    now: Callable[[], datetime],
) -> str | None:
    """Ask with a URL that claims to be as old as the service may find this one; return what speaks against it."""
    old = backdated(url, by.secret_key, signed_at=now() - MINIMUM, lives=MINIMUM + _PROBE_MARGIN)
    try:
        answer = fetch(old, "bytes=0-0", 1, transport=transport)
        if answer.status in (200, 206):
            return None
        return refused(old, answer).message
    except PublishError as error:
        return error.message


def _other_bytes(url: PresignedUrl) -> PublishError:
    return PublishError(f"{url} gives other bytes than the archive's.", hint="Somebody replaced it: publish again.")
