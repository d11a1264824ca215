"""Our own multipart upload: boto3's transfer manager neither resumes nor writes only what is not there.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from lora_packer.errors import LoraPackerError
from lora_packer.packager.crc32 import crc32_combine, fastest_crc32
from lora_packer.publisher.answers import written_in
from lora_packer.publisher.begin import WHOLE, abort, begin
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.parts import Part, SentPart, Upload, send_part
from lora_packer.publisher.payload import Integrity, Sending, Sent, changed_error, once
from lora_packer.publisher.stored import encode_crc32, plain_etag, plain_version
from lora_packer.publisher.unfinished import Begun, abort_if_possible, uploads_of
from lora_packer.threads import unordered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_SIZE = 8 << 20
"""Bytes in a part, but for the last; larger where there would be more than 10,000.

SeaweedFS took parts of 8 MiB with a tenth less work than parts of 16, and a fifth less than parts of 5 or 32.
"""

_MAX_PARTS = 10_000
_MIB = 1 << 20
_THREADS = 6
_RESTARTS = 3
# S3 may answer 200 and an error, which is to be tried again; one that does so for ever is not waited for.
_COMPLETIONS = 5
# The upload is gone, or cannot be completed: what was sent is lost, and sent again
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
_LOST = frozenset({"NoSuchUpload", "InvalidPart", "ConditionalRequestConflict"})


def send_parts(sending: Sending, listed: Future[list[Begun]] | None = None) -> Sent:
    """Send the archive in parts; continue an upload of this key that an earlier run left.

    What cannot be continued later is aborted, so that nothing unfinished stays behind and costs money. ``listed`` has
    the unfinished uploads, where they were asked for ahead.

    Raises:
        S3Error: the store refused, or cannot be reached.
        PublishError: the archive is not what its SHA-256 says, or the journal cannot be written.
    """
    guard = True
    for restart in range(_RESTARTS + 1):
        try:
            return _attempt(sending, listed if restart == 0 else None, guard=guard)
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
    raise AssertionError("unreachable")


class _WholeRefusedError(S3Error):
    """Complete was refused with the whole object's CRC-32: not every store that checks those of parts knows that."""


def _attempt(sending: Sending, listed: Future[list[Begun]] | None, *, guard: bool) -> Sent:
    upload = begin(sending, listed, guard=guard)
    try:
        sent = _complete(sending, upload, _send(sending, upload))
    except LoraPackerError as error:
        if isinstance(error, S3Error) and error.resumable:
            error.hint = f"{error.hint or 'Run it again.'} The parts already sent are kept."
        else:
            abort(sending, upload.id)
        raise
    if upload.doubtful:
        _abort_all(sending)
    sending.forget()
    return sent


def _send(sending: Sending, upload: Upload) -> list[SentPart]:
    archive = sending.archive
    crc32_of, crc32 = fastest_crc32(), 0
    done: list[SentPart] = []
    # What an earlier run sent is told before anything else, so that nobody takes it for the speed of this one.
    before = {
        number: part.size
        for number, part in upload.kept.items()
        if part.size == min(archive.part_size, archive.size - (number - 1) * archive.part_size)
    }
    there = sum(before.values())
    if sending.progress:
        sending.progress(there, archive.size)
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
        nonlocal there
        done.append(part)
        there += part.size - before.get(part.number, 0)
        if sending.progress:
            sending.progress(there, archive.size)

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
        return partial(complete, ChecksumCRC32=crc32, ChecksumType=WHOLE, MpuObjectSize=archive.size)

    attempt = 0
    while True:
        attempt += 1
        try:
            answer = written_in(once(connection, "CompleteMultipartUpload", archive.uri, request, repeat=False))
        except S3Error as error:
            if upload.guarded and error.status in (400, 501) and error.code not in _LOST and not error.resumable:
                raise _WholeRefusedError(error.message, hint=error.hint, status=error.status, code=error.code) from None
            # Gone, because an earlier try completed it?
            if not error.transient and error.code != "NoSuchUpload":
                raise
            failure = error
        else:
            # Some stores leave the ETag out; an answer of 200 with nothing in it is none.
            if not answer.is_empty:
                etag, version = plain_etag(answer.etag), plain_version(answer.version_id)
                return Sent(etag, expected, version, integrity)
            failure = _answered_nothing(archive.uri)
        if sending.is_there():
            return Sent("", expected, None, integrity)
        if failure.code == "NoSuchUpload" or (failure.status in (200, 500) and attempt == _COMPLETIONS):
            raise failure
        connection.patience.wait(attempt, failure)


def _completed(part: SentPart) -> CompletedPartTypeDef:
    crc32: CompletedPartTypeDef = {"ChecksumCRC32": part.crc32} if part.crc32 else {}
    return {"PartNumber": part.number, "ETag": part.etag, **crc32}


def _answered_nothing(where: str) -> S3Error:
    message = f"CompleteMultipartUpload on {where} was answered with 200 and nothing else, and the object is not there."
    return S3Error(message, hint="Run it again in a while.", status=200, code="EmptyAnswer", transient=True)


def _abort_all(sending: Sending) -> None:
    """Abort what a lost answer to Create may have left: the object is there, nobody needs them."""
    with suppress(S3Error):
        for found in uploads_of(sending.connection, sending.archive.bucket, sending.archive.key):
            abort_if_possible(sending.connection, found)


def goes_in_one(size: int, part_size: int = PART_SIZE) -> bool:
    """Return whether an archive is sent in one request: where it would be no more than two parts.

    To begin and end an upload in parts, and to find out what the store does with checksums, takes three round trips.
    """
    return size <= 2 * part_size


def fitting_part_size(size: int, wanted: int) -> int:
    """Return the size of all parts but the last: the wanted one, or the whole MiB that keep the parts few enough.

    The same archive gets the same parts in every run.
    """
    needed = -(-size // _MAX_PARTS)
    return max(wanted, -(-needed // _MIB) * _MIB)
