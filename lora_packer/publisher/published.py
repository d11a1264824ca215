"""What was published: the URL of an object is minted and proven, and what that showed is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lora_packer.duration import format_duration
from lora_packer.frozen import frozen
from lora_packer.publisher.connection import Connection, Store
from lora_packer.publisher.credentials import Signer
from lora_packer.publisher.downloads import Get, downloads
from lora_packer.publisher.payload import Integrity
from lora_packer.publisher.presign import presign
from lora_packer.publisher.proof import Expected, Proof, prove
from lora_packer.publisher.stored import StoredObject
from lora_packer.redact import PresignedUrl
from lora_packer.threads import ahead

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_s3 import S3Client


@frozen
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


@frozen
class _Proven:
    """A URL that was minted and proven."""

    url: PresignedUrl
    by: Signer
    proof: Proof


class Proving:
    """Mints the URL of an object and proves it: beside the look at what was sent, or when it is asked for."""

    def __init__(
        self,
        store: Store,
        connection: Connection,
        bucket: str,
        expected: Expected,
        expires_in: timedelta,
        note: Callable[[str], None] | None,
        get: Get | None,
        *,
        full: bool,
    ) -> None:
        self._store, self._connection, self._get = store, connection, get
        self._bucket, self._expected, self._full = bucket, expected, full
        self._expires_in, self._note = expires_in, note
        self._begun: tuple[str | None, Session, Future[_Proven]] | None = None

    def begin(self, version_id: str | None) -> None:
        """Begin with this version, which was sent; all of it is not downloaded before it was looked at."""
        if not self._full:
            self._begun = version_id, self._store.session, ahead(self._prove, version_id)

    def of(self, stored: StoredObject) -> Published:
        """Return what was published. Raises CredentialsError, PublishError."""
        proven = self._of_what_was_sent(stored.version_id) or self._prove(stored.version_id)
        proof, final = proven.proof, proven.by
        if stored.integrity is not None:
            proof = _with_integrity(proof, Integrity(stored.integrity))
        if stored.size != proof.size:  # it could not be looked at but by the URL
            stored = replace(stored, size=proof.size)
        deadline = proof.deadline if final.expires_at is None else min(proof.deadline, final.expires_at)
        return Published(stored, proven.url, deadline, final.lifetime_known, proof)

    def _of_what_was_sent(self, version_id: str | None) -> _Proven | None:
        """Return what was begun, unless the object is of another version, or other credentials are used by now."""
        if self._begun is None:
            return None
        of_version, session, proven = self._begun
        is_of_it = of_version == version_id and session is self._store.session
        return proven.result() if is_of_it else None

    def _prove(self, version_id: str | None) -> _Proven:
        # Asked again: an upload takes its time, and the credentials may be others by now.
        store, final, key = self._store, self._store.signer(), self._expected.key
        url, granted = mint(store, final, self._connection.client, self._bucket, key, version_id, self._expires_in)
        if granted < self._expires_in and self._note:
            self._note(
                f"The URL lives for {format_duration(granted)}, not {format_duration(self._expires_in)}: that is how "
                f"long the credentials from {final.description} live."
            )
        get = self._get or downloads(self._connection.client)
        proof = prove(get, url, self._expected, final, full=self._full, now=store.now, patience=store.patience)
        return _Proven(url, final, proof)


def _with_integrity(proof: Proof, integrity: Integrity) -> Proof:
    """Add what was proven of the bytes while they were sent."""
    if integrity is Integrity.UNPROVEN:
        return replace(proof, not_proven=(integrity.sentence, *proof.not_proven))
    return replace(proof, proven=(*proof.proven, integrity.sentence))


def mint(
    store: Store,
    by: Signer,
    client: S3Client,
    bucket: str,
    key: str,
    version_id: str | None,
    expires_in: timedelta,
) -> tuple[PresignedUrl, timedelta]:
    """Return a URL that lives as long as asked for, or as long as its signer, and how long that is."""
    granted = expires_in if by.expires_at is None else min(expires_in, by.expires_at - store.now())
    minting = store.client(client.meta.region_name, by)
    return presign(minting, by, bucket=bucket, key=key, version_id=version_id, expires_in=granted), granted
