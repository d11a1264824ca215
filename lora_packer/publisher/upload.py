"""Sends an archive to the store once: not again where it is already, and never over another object."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lora_packer.errors import PublishError
from lora_packer.publisher.answers import written_in
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.multipart import PART_SIZE, fitting_part_size, goes_in_one, send_parts
from lora_packer.publisher.payload import (
    NOT_ENCRYPTED,
    Archive,
    Content,
    Fingerprint,
    Integrity,
    Progress,
    Sending,
    Sent,
    once,
    read_body,
)
from lora_packer.publisher.s3uri import Destination, key_for, split_suffix
from lora_packer.publisher.scout import Scouted
from lora_packer.publisher.stored import (
    Look,
    StoredObject,
    contradicts,
    encode_crc32,
    look,
    other_object,
    plain_etag,
    plain_version,
)
from lora_packer.publisher.unfinished import abort_if_possible, abort_superseded, uploads_of
from lora_packer.threads import ahead

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectOutputTypeDef

# Not Content-Encoding: gzip, which would make clients unpack a .tar.gz while they download it.
_CONTENT_TYPES = {".zip": "application/zip", ".tar.gz": "application/gzip"}
_MULTIPART_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


def upload(
    content: Content,
    name: str,
    found: Fingerprint,
    destination: Destination,
    connection: Connection,
    *,
    journal: Journal | None = None,
    progress: Progress | None = None,
    part_size: int = PART_SIZE,
    encryption: Mapping[str, str] = NOT_ENCRYPTED,
    scouted: Scouted | None = None,
    sent: Callable[[str | None], object] = lambda _version: None,
) -> StoredObject:
    """Put an archive below the destination, under a key made from its name and its digest, and look at it there.

    An upload that a killed run left unfinished is continued: parts that are at the store and equal the local bytes are
    kept, only the others are sent.

    Args:
        content: the archive's bytes; they are read once more, and held against their fingerprint.
        name: the archive's name, which ends in ``.zip`` or ``.tar.gz``.
        found: the content's fingerprint.
        destination: where to.
        connection: to the store.
        journal: knows what is unfinished; what it has of other objects in this bucket is removed first.
        progress: told how much is there.
        part_size: bytes in a part, at least 5 MiB; an archive no longer than two is sent in one request.
        encryption: how the store is to encrypt the object (``encryption_of``).
        scouted: what was asked about it ahead.
        sent: told the version that was made, as far as the store says, before it is looked at.

    Raises:
        InputError: the name is none of an archive.
        PackError: the content cannot be read, or it changed.
        PublishError: the store refused, its key is taken by another object, or the content is not what its fingerprint
            says.
    """
    archive = Archive(
        bucket=destination.bucket,
        key=key_for(name, found.sha256, destination),
        content=content,
        fingerprint=found,
        content_type=_CONTENT_TYPES[split_suffix(name)[1]],
        part_size=fitting_part_size(content.size, part_size),
        encryption=encryption,
    )
    return _upload(Sending(connection, archive, journal or Journal(), progress), scouted, sent)


def _upload(sending: Sending, scouted: Scouted | None, tell: Callable[[str | None], object]) -> StoredObject:
    connection, archive = sending.connection, sending.archive
    abort_superseded(connection, sending.journal, archive.bucket, archive.key)
    in_one = goes_in_one(archive.size, archive.part_size)
    looked = body = listed = None
    if scouted:
        looked, body, listed = scouted.look(connection, archive.key), scouted.body, scouted.listed
    if in_one and body is None:
        body = ahead(read_body, archive.content, archive.fingerprint)
    if there := _already_there(sending, looked):
        return there
    if sending.progress and in_one:
        sending.progress(0, archive.size)
    try:
        sent = _put(sending, *body.result()) if in_one and body else send_parts(sending, listed)
    except S3Error as error:
        # Somebody was faster, and the same bytes are as good as ours; or it was we, and the answer was lost.
        if error.status == 412 and (there := _already_there(sending)):
            return replace(there, uploaded=error.attempts > 1)
        raise
    if sending.progress and in_one:
        sending.progress(archive.size, archive.size)
    tell(sent.version_id)
    return _confirm(sending, sent)


def _already_there(sending: Sending, looked: Look | None = None) -> StoredObject | None:
    connection, archive = sending.connection, sending.archive
    there = looked or look(connection, archive.bucket, archive.key)
    if there.is_copy_of(archive.size, archive.sha256):
        _forget_unfinished(sending)
        return _stored(archive, there.etag, there.version_id, None)
    if there.state == "found":
        raise other_object(archive.bucket, archive.key)
    return None


def _forget_unfinished(sending: Sending) -> None:
    """Where the journal has an upload of what is there already: a killed run completed it, and maybe began another."""
    connection, archive = sending.connection, sending.archive
    if any(entry.is_of(connection.endpoint_url, archive.bucket, archive.key) for entry in sending.journal.uploads):
        with suppress(S3Error):
            for found in uploads_of(connection, archive.bucket, archive.key):
                abort_if_possible(connection, found)
        sending.forget()


def _put(sending: Sending, data: bytearray, md5: bytes) -> Sent:
    archive = sending.archive

    def request(client: S3Client) -> Callable[..., PutObjectOutputTypeDef]:
        return partial(
            client.put_object,
            Bucket=archive.bucket,
            Key=archive.key,
            Body=data,  # type: ignore[arg-type]
            ContentType=archive.content_type,
            ContentMD5=b64encode(md5).decode(),
            Metadata={"sha256": archive.sha256},
            **archive.encryption,  # type: ignore[arg-type]
        )

    answer = written_in(once(sending.connection, "PutObject", archive.uri, request))
    etag, encryption = plain_etag(answer.etag), answer.encryption
    expected = md5.hex() if etag == md5.hex() or contradicts(etag, md5.hex(), encryption) else None
    integrity = Integrity.MD5 if expected else Integrity.UNPROVEN
    return Sent(etag, expected, plain_version(answer.version_id), integrity)


def _confirm(sending: Sending, sent: Sent) -> StoredObject:
    """Look at what was written: an answer of 200 alone is no proof."""
    connection, archive = sending.connection, sending.archive
    guarded = sent.integrity is Integrity.PARTS_CRC32
    there = look(connection, archive.bucket, archive.key, checksum=guarded)
    if there.state == "absent":
        raise PublishError(
            f"The store accepted {archive.uri}, but it is not there.", hint="Run it again; look at the store's health."
        )
    if there.state == "denied":
        there = Look("found", archive.size, archive.sha256, sent.etag, sent.version_id)
    if not there.is_copy_of(archive.size, archive.sha256):
        raise other_object(archive.bucket, archive.key)
    told = there.crc32 if guarded else ""
    is_ours = not told or told == encode_crc32(archive.fingerprint.crc32)
    if not is_ours or _differs(there.etag, sent.expected_etag):
        # Its metadata says it is ours: the next run would take it for good.
        with suppress(S3Error):
            connection.call(
                "DeleteObject",
                archive.uri,
                lambda client: client.delete_object(Bucket=archive.bucket, Key=archive.key),
            )
        raise PublishError(
            f"The bytes at {archive.uri} are not those that were sent (their {'ETag' if is_ours else 'CRC-32'} "
            "differs); the object was removed.",
            hint="Run it again; if it happens again, the store or a proxy before it changes bytes.",
        )
    integrity = Integrity.CRC32 if told else sent.integrity
    return _stored(archive, there.etag, there.version_id or sent.version_id, integrity)


def _differs(etag: str, expected: str | None) -> bool:
    """Return whether an ETag of the expected form has another value; some stores show another form in a HEAD."""
    if expected is None or not _MULTIPART_ETAG.fullmatch(etag):
        return False
    return ("-" in etag) == ("-" in expected) and etag != expected


def _stored(archive: Archive, etag: str, version_id: str | None, integrity: Integrity | None) -> StoredObject:
    """Return what is at the store now; ``integrity`` is None where this run did not send it."""
    said = None if integrity is None else integrity.value
    return StoredObject(
        archive.bucket, archive.key, archive.size, archive.sha256, etag, version_id, integrity is not None, said
    )
