"""An upload to go on with: what an earlier run left of this very archive, else a new one."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from lora_packer.errors import PublishError
from lora_packer.publisher.answers import ListedPart, parts_in, upload_id_in
from lora_packer.publisher.client import is_aws
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.parts import Upload, refuses_wrong_crc32
from lora_packer.publisher.payload import Sending
from lora_packer.publisher.unfinished import Begun, abort_if_possible, uploads_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The store is to hold the whole object against one CRC-32, made of those of its parts
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
_ALGORITHM: Final = "CRC32"
WHOLE: Final = "FULL_OBJECT"
"""S3's name of that type of checksum."""


def begin(sending: Sending, listed: Future[list[Begun]] | None = None, *, guard: bool) -> Upload:
    """Return the upload that an earlier run left, else begin one; the journal knows it before it is used.

    ``guard`` is whether a new one is to be guarded by CRC-32, where the store is known to refuse a wrong one.
    ``listed`` has the unfinished uploads, where they were asked for ahead.

    Raises:
        S3Error: the store refused, or cannot be reached.
        PublishError: the journal cannot be written.
    """
    return _left_over(sending, listed) or _new(sending, guard=guard)


def abort(sending: Sending, upload_id: str) -> None:
    """Abort an upload of the archive, on the way out of another trouble, and have the journal forget it."""
    abort_if_possible(sending.connection, _begun(sending, upload_id))
    sending.forget()


def _new(sending: Sending, *, guard: bool) -> Upload:
    """Begin an upload that the store guards by CRC-32, where it is known to refuse a wrong one; else a plain one."""
    upload = _create(sending, guard=guard)
    if upload.guarded and not _is_guarded(sending, upload):
        # Not gone on with: some stores do not let a part be replaced.
        abort(sending, upload.id)
        return replace(_create(sending, guard=False), doubtful=upload.doubtful)
    return upload


def _is_guarded(sending: Sending, upload: Upload) -> bool:
    # AWS documents that it refuses one: it need not be tried
    # (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
    if is_aws(sending.connection.endpoint_url):
        return True
    try:
        return refuses_wrong_crc32(sending, upload.id)
    except S3Error as error:
        if not error.resumable:
            abort(sending, upload.id)
        raise


def _left_over(sending: Sending, ahead: Future[list[Begun]] | None) -> Upload | None:
    """Return the unfinished upload of this very key and its parts: the journal's, else the newest; abort the others.

    The key has the content's digest in it: an upload of it is an earlier run's, of the same bytes.
    """
    connection, archive = sending.connection, sending.archive
    noted = [
        entry.upload_id
        for entry in sending.journal.uploads
        if entry.is_of(connection.endpoint_url, archive.bucket, archive.key) and entry.upload_id is not None
    ]
    try:
        found = _asked(ahead)
        if found is None:
            found = uploads_of(connection, archive.bucket, archive.key)
        listed = [upload.upload_id for upload in found if upload.key == archive.key]
    except S3Error as error:
        # Not allowed to list, or a store that cannot: then the journal alone knows.
        if error.transient:
            raise
        listed = []
    candidates = [*listed, *noted]
    while candidates:
        upload_id = candidates.pop()
        try:
            upload: Upload | None = _listed(sending, upload_id)
        except S3Error as error:
            if error.transient:
                raise
            upload = None
        if upload is None or (upload.guarded and not upload.has_parts):
            # Gone, or its parts may not be listed; or it ended before it was seen whether the store guards it.
            abort_if_possible(connection, _begun(sending, upload_id))
            continue
        for other in set(candidates) - {upload_id}:
            abort_if_possible(connection, _begun(sending, other))
        sending.note(upload_id)
        return upload
    return None


def _asked(ahead: Future[list[Begun]] | None) -> list[Begun] | None:
    """Return what was asked for ahead; None where the answer was trouble that may pass. Raises S3Error."""
    try:
        return None if ahead is None else ahead.result()
    except S3Error as error:
        if not error.transient:
            raise
        return None


def _listed(sending: Sending, upload_id: str) -> Upload:
    """Return an unfinished upload with its parts. Raises S3Error where they are not listed."""
    archive = sending.archive

    def request(client: S3Client) -> tuple[dict[int, ListedPart], str | None]:
        pages = client.get_paginator("list_parts").paginate(Bucket=archive.bucket, Key=archive.key, UploadId=upload_id)
        return parts_in(pages, archive.uri)

    kept, checksum_type = sending.connection.call("ListParts", archive.uri, request)
    return Upload(upload_id, kept, guarded=checksum_type == WHOLE)


def _create(sending: Sending, *, guard: bool) -> Upload:
    """Begin an upload; where the answer is lost, look for it: each one that is made costs until it is aborted."""
    connection, archive = sending.connection, sending.archive
    sending.note(None)  # from now on there may be one

    def request(client: S3Client) -> str:
        create = partial(
            client.create_multipart_upload,
            Bucket=archive.bucket,
            Key=archive.key,
            ContentType=archive.content_type,
            Metadata={"sha256": archive.sha256},
            **archive.encryption,  # type: ignore[arg-type]
        )
        answer = create(ChecksumAlgorithm=_ALGORITHM, ChecksumType=WHOLE) if guard else create()
        return upload_id_in(answer, archive.uri)

    attempt, blind = 0, False
    while True:
        attempt += 1
        try:
            upload_id = connection.call("CreateMultipartUpload", archive.uri, request, repeat=False)
        except S3Error as error:
            if guard and error.status in (400, 501) and not error.resumable:
                guard, attempt = False, attempt - 1  # the store does not know checksums, and nothing was begun
                continue
            if not error.transient:
                sending.forget()
                raise
            connection.patience.wait(attempt, error)
            try:
                made = uploads_of(connection, archive.bucket, archive.key)
            except S3Error as listing:
                if listing.transient:
                    raise
                if blind:
                    raise error from None
                made, blind = [], True
            if not made:
                continue
            upload_id, attempt = made[-1].upload_id, attempt + 1
        try:
            sending.note(upload_id)
        except PublishError:
            abort(sending, upload_id)
            raise
        return Upload(upload_id, guarded=guard, doubtful=attempt > 1)


def _begun(sending: Sending, upload_id: str) -> Begun:
    return Begun(sending.archive.bucket, sending.archive.key, upload_id, None)
