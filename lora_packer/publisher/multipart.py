"""Our own multipart upload: boto3's transfer manager neither resumes nor writes only what is not there.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lora_packer.errors import LoraPackerError, PublishError
from lora_packer.packager.crc32 import crc32_combine, fastest_crc32
from lora_packer.publisher.content import changed_error
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.parts import Kept, Part, SentPart, Upload, refuses_wrong_crc32, send_part
from lora_packer.publisher.sending import Integrity, Sending, Sent, once
from lora_packer.publisher.stored import encode_crc32, plain_etag, plain_version
from lora_packer.publisher.unfinished import Begun, abort_if_possible, uploads_of
from lora_packer.threads import unordered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ListPartsOutputTypeDef

PART_SIZE = 8 << 20
"""Bytes in a part, but for the last; larger where there would be more than 10,000. An archive that is no longer than
one part is sent in one request.

SeaweedFS took parts of 8 MiB with a tenth less work than parts of 16, and a fifth less than parts of 5 or 32.
"""

_MAX_PARTS = 10_000
_MIB = 1 << 20
_THREADS = 6
_RESTARTS = 3
# The upload is gone, or cannot be completed: what was sent is lost, and sent again
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
_LOST = frozenset({"NoSuchUpload", "InvalidPart", "ConditionalRequestConflict"})
# The store is to hold the whole object against one CRC-32, made of those of its parts
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
_ALGORITHM: Final = "CRC32"
_TYPE: Final = "FULL_OBJECT"


def send_parts(sending: Sending) -> Sent:
    """Send the archive in parts; continue an upload of this key that an earlier run left.

    What cannot be continued later is aborted, so that nothing unfinished stays behind and costs money.

    Raises:
        S3Error: the store refused, or cannot be reached.
        PublishError: the archive is not what its SHA-256 says, or the journal cannot be written.
    """
    guard = True
    for restart in range(_RESTARTS + 1):
        try:
            return _attempt(sending, guard=guard)
        except _WholeRefusedError:
            if restart == _RESTARTS:
                raise
            guard = False
        except S3Error as error:
            if error.code not in _LOST or restart == _RESTARTS:
                raise
            # Another run of the same archive may have completed it.
            if error.code == "NoSuchUpload" and sending.is_there():
                sending.forget()
                return Sent("", None, None)
        if sending.progress:
            sending.progress(0, sending.archive.size)
    raise AssertionError("unreachable")


class _WholeRefusedError(S3Error):
    """Complete was refused with the whole object's CRC-32: not every store that checks those of parts knows that."""


def _attempt(sending: Sending, *, guard: bool) -> Sent:
    upload = _left_over(sending) or _begin(sending, guard=guard)
    try:
        sent = _complete(sending, upload, _send(sending, upload))
    except LoraPackerError as error:
        if isinstance(error, S3Error) and error.resumable:
            error.hint = f"{error.hint or 'Run it again.'} The parts already sent are kept."
        else:
            _abort(sending, upload.id)
        raise
    if upload.doubtful:
        _abort_all(sending)
    sending.forget()
    return sent


def _begin(sending: Sending, *, guard: bool) -> Upload:
    """Begin an upload that the store guards by CRC-32, where it was seen to refuse a wrong one; else a plain one."""
    upload = _create(sending, guard=guard)
    if upload.guarded and not _is_guarded(sending, upload):
        # Not gone on with: some stores do not let a part be replaced.
        _abort(sending, upload.id)
        return replace(_create(sending, guard=False), doubtful=upload.doubtful)
    return upload


def _is_guarded(sending: Sending, upload: Upload) -> bool:
    try:
        return refuses_wrong_crc32(sending, upload.id)
    except S3Error as error:
        if not error.resumable:
            _abort(sending, upload.id)
        raise


def _left_over(sending: Sending) -> Upload | None:
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
        listed = [found.upload_id for found in uploads_of(connection, archive.bucket, archive.key)]
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


def _listed(sending: Sending, upload_id: str) -> Upload:
    """Return an unfinished upload with its parts. Raises S3Error where they are not listed."""
    archive = sending.archive

    def request(client: S3Client) -> list[ListPartsOutputTypeDef]:
        pages = client.get_paginator("list_parts").paginate(Bucket=archive.bucket, Key=archive.key, UploadId=upload_id)
        return list(pages)

    pages = sending.connection.call("ListParts", archive.uri, request)
    kept = {part["PartNumber"]: Kept.of(part) for page in pages for part in page.get("Parts", [])}
    return Upload(upload_id, kept, guarded=all(page.get("ChecksumType") == _TYPE for page in pages))


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
        )
        return (create(ChecksumAlgorithm=_ALGORITHM, ChecksumType=_TYPE) if guard else create())["UploadId"]

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
            _abort(sending, upload_id)
            raise
        return Upload(upload_id, guarded=guard, doubtful=attempt > 1)


def _send(sending: Sending, upload: Upload) -> list[SentPart]:
    archive = sending.archive
    crc32_of, crc32 = fastest_crc32(), 0
    done: list[SentPart] = []
    free: list[bytearray] = []

    def cut() -> Iterator[Part]:
        nonlocal crc32
        for number, offset in enumerate(range(0, archive.size, archive.part_size), start=1):
            length = min(archive.part_size, archive.size - offset)
            # Memory that was used before: the kernel would clear new one for each part. It is not cut to length: a
            # request that failed may still hold a view of it.
            data = free.pop() if free and length == archive.part_size else bytearray(length)
            with memoryview(data) as buffer:
                archive.content.read_into(offset, buffer)
            part = Part(number, data, crc32_of(data, 0))
            crc32 = crc32_combine(crc32, part.crc32, length)
            yield part

    def send(part: Part) -> SentPart:
        sent = send_part(sending, upload, part)
        free.append(part.data)
        return sent

    def finish(part: SentPart) -> None:
        done.append(part)
        if sending.progress:
            sending.progress(sum(each.size for each in done), archive.size)

    unordered(cut(), send, finish, threads=_THREADS)
    # Nothing is visible at the store before Complete: this is in time.
    if crc32 != archive.fingerprint.crc32:
        raise changed_error()
    return sorted(done, key=lambda part: part.number)


def _complete(sending: Sending, upload: Upload, parts: list[SentPart]) -> Sent:
    """Make the object of the parts; whether that was done is for the object to say where the answer does not."""
    connection, archive = sending.connection, sending.archive
    md5s = all(part.is_its_md5 for part in parts)
    whole = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in parts), usedforsecurity=False).hexdigest()
    expected = f"{whole}-{len(parts)}" if md5s else None
    integrity = Integrity.PARTS_CRC32 if upload.guarded else Integrity.MD5 if md5s else Integrity.UNPROVEN

    def request(client: S3Client) -> Callable[..., Any]:
        complete = partial(
            client.complete_multipart_upload,
            Bucket=archive.bucket,
            Key=archive.key,
            UploadId=upload.id,
            MultipartUpload={"Parts": [_completed(part) for part in parts]},
        )
        if not upload.guarded:
            return complete
        crc32 = encode_crc32(archive.fingerprint.crc32)
        return partial(complete, ChecksumCRC32=crc32, ChecksumType=_TYPE, MpuObjectSize=archive.size)

    attempt = 0
    while True:
        attempt += 1
        try:
            answer = once(connection, "CompleteMultipartUpload", archive.uri, request, repeat=False)
        except S3Error as error:
            if upload.guarded and error.status in (400, 501) and error.code not in _LOST and not error.resumable:
                raise _WholeRefusedError(error.message, hint=error.hint, status=error.status, code=error.code) from None
            # Gone, because an earlier try completed it?
            if not error.transient and error.code != "NoSuchUpload":
                raise
            failure = error
        else:
            # Some stores leave the ETag out; an answer of 200 with nothing in it is none.
            if any(answer.get(name) for name in ("ETag", "Location", "Key")):
                etag, version = plain_etag(answer.get("ETag")), plain_version(answer.get("VersionId"))
                return Sent(etag, expected, version, integrity)
            failure = _answered_nothing(archive.uri)
        if sending.is_there():
            return Sent("", expected, None, integrity)
        if failure.code == "NoSuchUpload":
            raise failure
        connection.patience.wait(attempt, failure)


def _completed(part: SentPart) -> CompletedPartTypeDef:
    crc32: CompletedPartTypeDef = {"ChecksumCRC32": part.crc32} if part.crc32 else {}
    return {"PartNumber": part.number, "ETag": part.etag, **crc32}


def _answered_nothing(where: str) -> S3Error:
    message = f"CompleteMultipartUpload on {where} was answered with 200 and nothing else, and the object is not there."
    return S3Error(message, hint="Run it again in a while.", status=200, code="EmptyAnswer", transient=True)


def _begun(sending: Sending, upload_id: str) -> Begun:
    return Begun(sending.archive.bucket, sending.archive.key, upload_id, None)


def _abort(sending: Sending, upload_id: str) -> None:
    abort_if_possible(sending.connection, _begun(sending, upload_id))
    sending.forget()


def _abort_all(sending: Sending) -> None:
    """Abort what a lost answer to Create may have left: the object is there, nobody needs them."""
    with suppress(S3Error):
        for found in uploads_of(sending.connection, sending.archive.bucket, sending.archive.key):
            abort_if_possible(sending.connection, found)


def fitting_part_size(size: int, wanted: int) -> int:
    """Return the size of all parts but the last: the wanted one, or the whole MiB that keep the parts few enough.

    The same archive gets the same parts in every run.
    """
    needed = -(-size // _MAX_PARTS)
    return max(wanted, -(-needed // _MIB) * _MIB)
