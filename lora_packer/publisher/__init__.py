"""Upload an archive to S3, mint a presigned URL that lives as long as it says, and prove it.

The rooms: ``s3uri`` (where), ``credentials`` (who, and how long), ``client`` (how), ``upload`` and ``multipart``
(once, and resumable), ``presign``, ``prove``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.duration import format_duration
from lora_packer.publisher.client import connect, s3_client
from lora_packer.publisher.credentials import Signer, new_session, signer
from lora_packer.publisher.multipart import Progress
from lora_packer.publisher.presign import DEFAULT as DEFAULT_EXPIRY
from lora_packer.publisher.presign import MINIMUM as MINIMUM_EXPIRY
from lora_packer.publisher.presign import presign, validate_expiry
from lora_packer.publisher.prove import Proof, prove, utc_now
from lora_packer.publisher.s3uri import parse_destination
from lora_packer.publisher.store import StoredObject
from lora_packer.publisher.upload import key_for, upload
from lora_packer.redact import PresignedUrl

if TYPE_CHECKING:
    import httpx2
    from boto3 import Session
    from mypy_boto3_s3 import S3Client

__all__ = [
    "DEFAULT_EXPIRY",
    "MINIMUM_EXPIRY",
    "Proof",
    "Published",
    "StoredObject",
    "publish",
    "refresh_url",
]


@dataclass(frozen=True, slots=True)
class Published:
    """An archive that is at the store, with a URL that was proven.

    Attributes:
        object: what is there.
        url: downloads it, with nothing else needed; a secret.
        deadline: when the URL ends at the latest (UTC): its own expiry or the end of the credentials.
        signer_lifetime_known: False where the URL may end earlier, with credentials that do not tell their end.
        proof: what a request to the URL showed.
    """

    object: StoredObject
    url: PresignedUrl
    deadline: datetime
    signer_lifetime_known: bool
    proof: Proof

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: without the URL's query, which is the secret."""
        return {
            "object": self.object.to_dict(),
            "url": self.url.reveal().partition("?")[0],
            "deadline": self.deadline.isoformat(timespec="seconds"),
            "signer_lifetime_known": self.signer_lifetime_known,
            "proof": self.proof.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class _Account:
    """A session and what else is needed to speak to one store with it."""

    session: Session
    renew: Callable[[], Session] | None
    endpoint_url: str | None
    now: Callable[[], datetime]

    def signer(self) -> Signer:
        return signer(self.session, MINIMUM_EXPIRY, now=self.now, renew=self.renew)


def publish(
    archive_path: Path,
    sha256: str,
    to: str,
    *,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    session: Session | None = None,
    now: Callable[[], datetime] = utc_now,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    transport: httpx2.BaseTransport | None = None,
) -> Published:
    """Upload the archive, unless it is there already; mint a presigned URL and prove it.

    Whatever can be known to fail fails before the first byte is sent: options, credentials that end too early, a
    bucket that is not there, a URL that would have the wrong form.

    Args:
        archive_path: the archive, named ``.zip`` or ``.tar.gz``.
        sha256: its SHA-256 in hex.
        to: ``s3://bucket/prefix/``.
        expires_in: how long the URL shall live: 100 minutes to 7 days.
        endpoint_url: an S3-compatible store; None: what the AWS configuration names, else AWS.
        session: a boto3 session; None: a new one from the environment and the usual files.
        now: the clock (UTC).
        note: told what the user should know, as sentences.
        progress: told how many bytes are at the store, of how many.
        transport: carries the proving request; None: the network.

    Raises:
        InputError: an option makes no sense, or the archive cannot be read.
        CredentialsError: there are no credentials, they are refused, or they are known to end too early.
        PublishError: the upload failed, or the URL does not work.
    """
    validate_expiry(expires_in)
    destination = parse_destination(to)
    key = key_for(archive_path, sha256, destination)
    account = _account(session, endpoint_url, now)
    first = account.signer()
    client = connect(account.session, destination.bucket, endpoint_url=endpoint_url)
    _mint(account, first, client, destination.bucket, key, None, expires_in)  # its form is known before its object is
    stored = upload(archive_path, sha256, destination, client, progress=progress)
    return _url(account, client, stored, expires_in, note, transport)


def refresh_url(
    stored: StoredObject,
    *,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    session: Session | None = None,
    now: Callable[[], datetime] = utc_now,
    note: Callable[[str], None] | None = None,
    transport: httpx2.BaseTransport | None = None,
) -> Published:
    """Mint and prove a new URL for an object that an earlier run uploaded; nothing is sent.

    Args and errors are those of ``publish``.
    """
    validate_expiry(expires_in)
    account = _account(session, endpoint_url, now)
    account.signer()
    client = connect(account.session, stored.bucket, endpoint_url=endpoint_url)
    return _url(account, client, replace(stored, uploaded=False), expires_in, note, transport)


def _account(session: Session | None, endpoint_url: str | None, now: Callable[[], datetime]) -> _Account:
    if session is not None:
        return _Account(session, None, endpoint_url, now)
    return _Account(new_session(), new_session, endpoint_url, now)


def _url(
    account: _Account,
    client: S3Client,
    stored: StoredObject,
    expires_in: timedelta,
    note: Callable[[str], None] | None,
    transport: httpx2.BaseTransport | None,
) -> Published:
    # Asked again: an upload takes its time, and the credentials may be others by now.
    final = account.signer()
    url, granted = _mint(account, final, client, stored.bucket, stored.key, stored.version_id, expires_in)
    if granted < expires_in and note:
        note(
            f"The URL lives for {format_duration(granted)}, not {format_duration(expires_in)}: that is how long the "
            f"credentials from {final.description} live."
        )
    proof = prove(url, size=stored.size, transport=transport, now=account.now)
    deadline = proof.deadline if final.expires_at is None else min(proof.deadline, final.expires_at)
    return Published(stored, url, deadline, final.lifetime_known, proof)


def _mint(
    account: _Account,
    by: Signer,
    client: S3Client,
    bucket: str,
    key: str,
    version_id: str | None,
    expires_in: timedelta,
) -> tuple[PresignedUrl, timedelta]:
    """Return a URL that lives as long as asked for, or as long as its signer, and how long that is."""
    granted = expires_in if by.expires_at is None else min(expires_in, by.expires_at - account.now())
    minting = s3_client(account.session, endpoint_url=account.endpoint_url, region=client.meta.region_name, signer=by)
    return presign(minting, by, bucket=bucket, key=key, version_id=version_id, expires_in=granted), granted
