"""Our own multipart upload: boto3's transfer manager neither resumes nor writes only what is not there.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lora_packer.errors import LoraPackerError, PublishError
from lora_packer.publisher.s3errors import S3Error
from lora_packer.publisher.sending import Sending, Sent, once
from lora_packer.publisher.store import contradicts, plain_etag, plain_version
from lora_packer.publisher.unfinished import Begun, abort_if_possible, uploads_of
from lora_packer.publisher.workers import work_off

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

PART_SIZE = 16 << 20
"""Bytes in a part, but for the last; larger where there would be more than 10,000. An archive no longer is one
request."""

_MAX_PARTS = 10_000
_MIB = 1 << 20
_THREADS = 4
_RESTARTS = 3
# The upload is gone, or cannot be completed: what was sent is lost, and sent again
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
_LOST = frozenset({"NoSuchUpload", "InvalidPart", "ConditionalRequestConflict"})


@dataclass(frozen=True, slots=True)
class _Upload:
    """An upload that was begun: its id, the parts it has, and whether there may be another that nobody knows of."""

    id: str
    parts: dict[int, tuple[str, int]]
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _SentPart:
    number: int
    size: int
    etag: str
    md5: bytes


def send_parts(sending: Sending) -> Sent:
    """Send the archive in parts; continue an upload of this key that an earlier run left.

    What cannot be continued later is aborted, so that nothing unfinished stays behind and costs money.

    Raises:
        S3Error: the store refused, or cannot be reached.
        PublishError: the archive is not what its SHA-256 says, or the journal cannot be written.
    """
    for restart in range(_RESTARTS + 1):
        try:
            return _attempt(sending)
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


def _attempt(sending: Sending) -> Sent:
    upload = _left_over(sending) or _create(sending)
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


def _left_over(sending: Sending) -> _Upload | None:
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
            parts = _parts_of(sending, upload_id)
        except S3Error as error:
            if error.transient:
                raise
            # Gone, or its parts may not be listed: it cannot be continued.
            abort_if_possible(connection, _begun(sending, upload_id))
            continue
        for other in set(candidates) - {upload_id}:
            abort_if_possible(connection, _begun(sending, other))
        sending.note(upload_id)
        return _Upload(upload_id, parts)
    return None


def _parts_of(sending: Sending, upload_id: str) -> dict[int, tuple[str, int]]:
    archive = sending.archive

    def request(client: S3Client) -> list[PartTypeDef]:
        pages = client.get_paginator("list_parts").paginate(Bucket=archive.bucket, Key=archive.key, UploadId=upload_id)
        return [part for page in pages for part in page.get("Parts", [])]

    parts = sending.connection.call("ListParts", archive.uri, request)
    return {part["PartNumber"]: (part["ETag"], part["Size"]) for part in parts}


def _create(sending: Sending) -> _Upload:
    """Begin an upload; where the answer is lost, look for it: each one that is made costs until it is aborted."""
    connection, archive = sending.connection, sending.archive
    sending.note(None)  # from now on there may be one

    def request(client: S3Client) -> str:
        return client.create_multipart_upload(
            Bucket=archive.bucket,
            Key=archive.key,
            ContentType=archive.content_type,
            Metadata={"sha256": archive.sha256},
        )["UploadId"]

    attempt, blind = 0, False
    while True:
        attempt += 1
        try:
            upload_id = connection.call("CreateMultipartUpload", archive.uri, request, repeat=False)
        except S3Error as error:
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
        return _Upload(upload_id, {}, doubtful=attempt > 1)


def _send(sending: Sending, upload: _Upload) -> list[_SentPart]:
    archive = sending.archive
    sha256 = hashlib.sha256()
    done: list[_SentPart] = []

    def cut() -> Iterator[_Part]:
        for number, offset in enumerate(range(0, archive.size, archive.part_size), start=1):
            length = min(archive.part_size, archive.size - offset)
            data = archive.read(offset, length)
            if len(data) != length:
                raise archive.changed()
            sha256.update(data)
            yield _Part(number, data)

    def finish(part: _SentPart) -> None:
        done.append(part)
        if sending.progress:
            sending.progress(sum(each.size for each in done), archive.size)

    work_off(cut(), partial(_send_part, sending, upload), finish, threads=_THREADS)
    # Nothing is visible at the store before Complete: this is in time.
    if sha256.hexdigest() != archive.sha256:
        raise archive.changed()
    return sorted(done, key=lambda part: part.number)


def _send_part(sending: Sending, upload: _Upload, part: _Part) -> _SentPart:
    archive, size = sending.archive, len(part.data)
    md5 = hashlib.md5(part.data, usedforsecurity=False)
    kept_etag, kept_size = upload.parts.get(part.number, ("", -1))
    if kept_size == size and plain_etag(kept_etag) == md5.hexdigest():
        return _SentPart(part.number, size, kept_etag, md5.digest())
    answer = sending.connection.call(
        "UploadPart",
        archive.uri,
        lambda client: client.upload_part(
            Bucket=archive.bucket,
            Key=archive.key,
            UploadId=upload.id,
            PartNumber=part.number,
            Body=part.data,
            ContentMD5=b64encode(md5.digest()).decode(),
        ),
    )
    etag = answer.get("ETag", "")
    if contradicts(plain_etag(etag), md5.hexdigest(), answer.get("ServerSideEncryption")):
        raise PublishError(
            f"Part {part.number} of {archive.uri} is not at the store as it was sent (its ETag is another MD5).",
            hint="Something changes the bytes on the way: a proxy, or the store. Run it again.",
        )
    return _SentPart(part.number, size, etag, md5.digest())


def _complete(sending: Sending, upload: _Upload, parts: list[_SentPart]) -> Sent:
    """Make the object of the parts; whether that was done is for the object to say where the answer does not."""
    connection, archive = sending.connection, sending.archive
    listed: list[CompletedPartTypeDef] = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
    md5s = all(plain_etag(part.etag) == part.md5.hex() for part in parts)
    whole = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
    expected = f"{whole}-{len(parts)}" if md5s else None

    def request(client: S3Client) -> Callable[..., Any]:
        return partial(
            client.complete_multipart_upload,
            Bucket=archive.bucket,
            Key=archive.key,
            UploadId=upload.id,
            MultipartUpload={"Parts": listed},
        )

    attempt = 0
    while True:
        attempt += 1
        try:
            answer = once(connection, "CompleteMultipartUpload", archive.uri, request, repeat=False)
        except S3Error as error:
            # Gone, because an earlier try completed it?
            if not error.transient and error.code != "NoSuchUpload":
                raise
            failure = error
        else:
            # Some stores leave the ETag out; an answer of 200 with nothing in it is none.
            if any(answer.get(name) for name in ("ETag", "Location", "Key")):
                return Sent(plain_etag(answer.get("ETag")), expected, plain_version(answer.get("VersionId")))
            failure = _answered_nothing(archive.uri)
        if sending.is_there():
            return Sent("", expected, None)
        if failure.code == "NoSuchUpload":
            raise failure
        connection.patience.wait(attempt, failure)


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
