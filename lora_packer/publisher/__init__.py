"""Upload an archive to S3, mint a presigned URL that lives as long as it says, and prove it.

The rooms: ``s3uri`` and ``opened`` (where), ``credentials`` (who, and how long), ``client``, ``models`` and
``connection`` (one store, through trouble: ``retry``, ``errors``), ``payload`` (what), ``upload``, ``multipart``,
``begin`` and ``parts`` (once, and resumable), ``scout`` and ``stored`` (what is there), ``journal`` and
``unfinished`` (what a kill leaves), ``presign`` and ``sigv4`` (the URL), ``proof``, ``fetch``, ``downloads`` and
``published`` (what it gives).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.errors import PublishError
from lora_packer.packager.meter import Meter
from lora_packer.publisher.connection import open_store
from lora_packer.publisher.downloads import Get
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.opened import Opened, open_destination
from lora_packer.publisher.payload import Content, Fingerprint, Progress, encryption_of, fingerprint
from lora_packer.publisher.presign import DEFAULT as DEFAULT_EXPIRY
from lora_packer.publisher.presign import MINIMUM as MINIMUM_EXPIRY
from lora_packer.publisher.presign import validate_expiry
from lora_packer.publisher.proof import END, Expected, Proof
from lora_packer.publisher.published import Proving, Published, mint
from lora_packer.publisher.retry import Patience, utc_now
from lora_packer.publisher.s3uri import digest_in, key_for, parse_destination, parse_object, split_suffix
from lora_packer.publisher.scout import Scouted, scout
from lora_packer.publisher.stored import Look, StoredObject, look
from lora_packer.publisher.unfinished import Begun
from lora_packer.publisher.unfinished import clean as clean_uploads
from lora_packer.publisher.upload import upload
from lora_packer.redact import PresignedUrl
from lora_packer.threads import aside

if TYPE_CHECKING:
    from boto3 import Session

__all__ = [
    "DEFAULT_EXPIRY",
    "MINIMUM_EXPIRY",
    "Begun",
    "Content",
    "Fingerprint",
    "Opened",
    "Patience",
    "Proof",
    "Published",
    "Scouted",
    "StoredObject",
    "clean",
    "digest_in",
    "fingerprint",
    "look_at",
    "open_destination",
    "presign_object",
    "publish",
    "scout",
    "split_suffix",
]


def publish(
    content: Content,
    name: str,
    to: str,
    *,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    session: Session | None = None,
    allow_private_endpoint: bool = False,
    journal: Path | None = None,
    verify_full: bool = False,
    accept: Callable[[PresignedUrl], object] | None = None,
    opened: Opened | None = None,
    scouted: Scouted | None = None,
    sse: str | None = None,
    sse_kms_key_id: str | None = None,
    now: Callable[[], datetime] = utc_now,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
    get: Get | None = None,
) -> Published:
    """Upload an archive, unless it is there already; mint a presigned URL and prove it.

    Whatever can be known to fail fails before the first byte is sent: options, credentials that end too early, a
    bucket that is not there, a URL that would have the wrong form.

    Args:
        content: the archive's bytes, in a file or only planned; they are read twice, for their digests and to be sent.
        name: the archive's name, which ends in ``.zip`` or ``.tar.gz``.
        to: ``s3://bucket/prefix/``.
        expires_in: how long the URL shall live: 100 minutes to 7 days.
        endpoint_url: an S3-compatible store; None: what the AWS configuration names, else AWS.
        session: a boto3 session; None: a new one from the environment and the usual files, and another one where its
            credentials expire on the way.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too.
        journal: the file that names the upload while it is unfinished; it is gone when nothing is. None: a killed
            upload is found by its key, where the credentials may list.
        verify_full: download everything by the URL and hash it, instead of both ends alone.
        accept: told the URL that the archive will have, before a byte is sent; raises where who is to fetch it could
            not.
        opened: the destination, where it is open already: then ``to``, ``endpoint_url``, ``session``,
            ``allow_private_endpoint``, ``now`` and ``patience`` are those it was opened with.
        scouted: the content, where somebody reads it for its fingerprint already, and asks the store about it
            (``scout``); then ``opened`` is the destination that was asked.
        sse: how the store is to encrypt the object: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``; None: as the bucket
            has it.
        sse_kms_key_id: the KMS key to encrypt it with; None: the account's own for S3.
        now: the clock (UTC).
        note: told what the user should know, as sentences.
        progress: told how many bytes are at the store, of how many.
        patience: how long trouble is ridden out; None: 15 minutes without any success.
        get: makes the proving requests; None: whoever carries the upload.

    Raises:
        InputError: an option makes no sense, or the journal cannot be read.
        PackError: the archive cannot be read, or its files changed.
        CredentialsError: there are no credentials, they are refused, or they are known to end too early.
        PublishError: the upload failed, or the URL does not work.
    """
    validate_expiry(expires_in)
    opened = scouted.opened if scouted else opened
    destination = parse_destination(to) if opened is None else opened.destination
    split_suffix(name)
    encryption = encryption_of(sse, sse_kms_key_id)
    unfinished = Journal(journal, now=now)
    meter = Meter()
    # To import boto3 and make the first client takes as long as to hash some hundred megabytes.
    with aside(meter.stop, fingerprint, content, meter) if scouted is None else nullcontext(scouted.found) as hashed:
        opened = opened or open_destination(
            to,
            expires_in=expires_in,
            endpoint_url=endpoint_url,
            session=session,
            allow_private_endpoint=allow_private_endpoint,
            note=note,
            patience=patience,
            now=now,
        )
        scouted = scouted or scout(opened, name, content, hashed)
        store, connection = opened.store, opened.connection()
        first = store.signer()
        read = hashed.result()
    key = key_for(name, read.sha256, destination)
    url, _ = mint(store, first, connection.client, destination.bucket, key, None, expires_in)
    if accept is not None:
        accept(url)
    ends = content.read(0, END), content.read(max(0, content.size - END), END)
    expected = Expected(key, content.size, read.sha256, ends)
    proving = Proving(store, connection, destination.bucket, expected, expires_in, note, get, full=verify_full)
    stored = upload(
        content,
        name,
        read,
        destination,
        connection,
        journal=unfinished,
        progress=progress,
        encryption=encryption,
        scouted=scouted,
        sent=proving.begin,
    )
    return proving.of(stored)


def presign_object(
    uri: str,
    *,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    session: Session | None = None,
    allow_private_endpoint: bool = False,
    verify_full: bool = False,
    now: Callable[[], datetime] = utc_now,
    note: Callable[[str], None] | None = None,
    patience: Patience | None = None,
    get: Get | None = None,
) -> Published:
    """Mint and prove a URL for the archive at ``s3://bucket/key``, whoever put it there.

    Its SHA-256 is known only where its metadata has one, as that of ``publish`` does. Args and errors are those of
    ``publish``; a PublishError where it is not there.
    """
    validate_expiry(expires_in)
    bucket, key = parse_object(uri)
    store = open_store(session, endpoint_url, allow_private_endpoint, patience, note, now)
    store.signer()
    connection = store.connect(bucket)
    there = look(connection, bucket, key)
    if there.state == "absent":
        raise PublishError(f"There is no object s3://{bucket}/{key}.", hint="`lora-packer publish` puts one there.")
    size = None if there.state == "denied" else there.size
    found = StoredObject(bucket, key, there.size, there.sha256, there.etag, there.version_id, uploaded=False)
    expected = Expected(key, size, there.sha256)
    return Proving(store, connection, bucket, expected, expires_in, note, get, full=verify_full).of(found)


def look_at(uri: str, session: Session | None = None, endpoint_url: str | None = None) -> Look:
    """Look at what is under ``s3://bucket/key`` now. Raises PublishError, CredentialsError, InputError."""
    bucket, key = parse_object(uri)
    return look(open_store(session, endpoint_url, True, None, None).connect(bucket), bucket, key)


def clean(
    to: str,
    *,
    endpoint_url: str | None = None,
    session: Session | None = None,
    allow_private_endpoint: bool = False,
    journal: Path | None = None,
    note: Callable[[str], None] | None = None,
    patience: Patience | None = None,
) -> list[Begun]:
    """Remove the unfinished uploads of archives below a destination, and no others; return them.

    Ours are those in the journal, and those right below the prefix whose key has the form of ours. Args and errors are
    those of ``publish``.
    """
    destination = parse_destination(to)
    unfinished = Journal(journal)
    store = open_store(session, endpoint_url, allow_private_endpoint, patience, note)
    return clean_uploads(store.connect(destination.bucket), destination, unfinished)
