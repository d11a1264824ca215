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
from typing import TYPE_CHECKING, TypeVar

from lora_packer.errors import LoraPackerError, PublishError
from lora_packer.publisher.s3errors import S3Error, s3_call
from lora_packer.publisher.store import contradicts, look, plain_etag, plain_version
from lora_packer.publisher.workers import work_off

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_SIZE = 16 << 20
"""Bytes in a part, but for the last; larger where there would be more than 10,000. An archive no longer is one
request."""

_MAX_PARTS = 10_000
_MIB = 1 << 20
_THREADS = 4

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: that range of the archive's bytes."""

Progress = Callable[[int, int], None]
"""``progress(done, total)``: bytes that are at the store, and all bytes."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Archive:
    """What is sent, and where.

    Attributes:
        bucket: the bucket.
        key: the key in it.
        read: gives any range of the bytes.
        size: how many there are.
        sha256: their SHA-256, in hex.
        content_type: what they are.
        part_size: how many a part has, but for the last.
    """

    bucket: str
    key: str
    read: Read
    size: int
    sha256: str
    content_type: str
    part_size: int

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    def changed(self) -> PublishError:
        """Return the error for bytes that are not those of ``sha256``."""
        return PublishError(
            "The archive's bytes are not those of its SHA-256: it changed since it was packed.",
            hint="Pack it again.",
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """What the store answered to the last request of an upload.

    Attributes:
        etag: the ETag, without quotes; some stores leave it out.
        expected_etag: what it must be, or None at a store whose ETags are no MD5s.
        version_id: the version that was made, or None.
    """

    etag: str
    expected_etag: str | None
    version_id: str | None


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


def send_parts(client: S3Client, archive: Archive, progress: Progress | None = None) -> Sent:
    """Send the archive in parts; continue an upload of this key that an earlier run left.

    What cannot be continued later is aborted, so that nothing unfinished stays behind and costs money.

    Raises:
        S3Error: the store refused, or cannot be reached.
        PublishError: the archive is not what its SHA-256 says.
    """
    upload_id, kept = _left_over(client, archive) or (_create(client, archive), {})
    try:
        parts = _send(client, archive, upload_id, kept, progress)
        return _complete(client, archive, upload_id, parts)
    except LoraPackerError as error:
        if isinstance(error, S3Error) and error.resumable:
            error.hint = f"{error.hint or 'Run it again.'} The parts already sent are kept."
        else:
            _abort(client, archive, upload_id)
        raise


def once(operation: str, where: str, call: Callable[..., Answer]) -> Answer:
    """Make a request that writes only where nothing is (If-None-Match); plainly at a store that does not know that."""
    try:
        with s3_call(operation, where):
            return call(IfNoneMatch="*")
    except S3Error as error:
        if error.status != 501:
            raise
    with s3_call(operation, where):
        return call()


def _left_over(client: S3Client, archive: Archive) -> tuple[str, dict[int, tuple[str, int]]] | None:
    """Return the newest unfinished upload of this very key and its parts; abort the older ones.

    The key has the content's digest in it: an upload of it is an earlier run's, of the same bytes.
    """
    try:
        with s3_call("ListMultipartUploads", archive.uri):
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=archive.bucket, Prefix=archive.key)
            uploads = [found for page in pages for found in page.get("Uploads", []) if found["Key"] == archive.key]
        uploads.sort(key=lambda found: found["Initiated"])
        if not uploads:
            return None
        newest = uploads.pop()["UploadId"]
        for found in uploads:
            _abort(client, archive, found["UploadId"])
        with s3_call("ListParts", archive.uri):
            listing = client.get_paginator("list_parts").paginate(
                Bucket=archive.bucket, Key=archive.key, UploadId=newest
            )
            parts = [part for page in listing for part in page.get("Parts", [])]
    except S3Error:
        # Not allowed to list, or a store that cannot: what was left over is not to be had. Trouble with the store
        # itself shows again in the next request.
        return None
    return newest, {part["PartNumber"]: (part["ETag"], part["Size"]) for part in parts}


def _create(client: S3Client, archive: Archive) -> str:
    with s3_call("CreateMultipartUpload", archive.uri):
        return client.create_multipart_upload(
            Bucket=archive.bucket,
            Key=archive.key,
            ContentType=archive.content_type,
            Metadata={"sha256": archive.sha256},
        )["UploadId"]


def _send(
    client: S3Client,
    archive: Archive,
    upload_id: str,
    kept: dict[int, tuple[str, int]],
    progress: Progress | None,
) -> list[_SentPart]:
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
        if progress:
            progress(sum(each.size for each in done), archive.size)

    work_off(cut(), partial(_send_part, client, archive, upload_id, kept), finish, threads=_THREADS)
    # Nothing is visible at the store before Complete: this is in time.
    if sha256.hexdigest() != archive.sha256:
        raise archive.changed()
    return sorted(done, key=lambda part: part.number)


def _send_part(
    client: S3Client, archive: Archive, upload_id: str, kept: dict[int, tuple[str, int]], part: _Part
) -> _SentPart:
    size = len(part.data)
    md5 = hashlib.md5(part.data, usedforsecurity=False)
    kept_etag, kept_size = kept.get(part.number, ("", -1))
    if kept_size == size and plain_etag(kept_etag) == md5.hexdigest():
        return _SentPart(part.number, size, kept_etag, md5.digest())
    with s3_call("UploadPart", archive.uri):
        answer = client.upload_part(
            Bucket=archive.bucket,
            Key=archive.key,
            UploadId=upload_id,
            PartNumber=part.number,
            Body=part.data,
            ContentMD5=b64encode(md5.digest()).decode(),
        )
    etag = answer.get("ETag", "")
    if contradicts(plain_etag(etag), md5.hexdigest(), answer.get("ServerSideEncryption")):
        raise PublishError(
            f"Part {part.number} of {archive.uri} is not at the store as it was sent (its ETag is another MD5).",
            hint="Something changes the bytes on the way: a proxy, or the store. Run it again.",
        )
    return _SentPart(part.number, size, etag, md5.digest())


def _complete(client: S3Client, archive: Archive, upload_id: str, parts: list[_SentPart]) -> Sent:
    listed: list[CompletedPartTypeDef] = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
    request = partial(
        client.complete_multipart_upload,
        Bucket=archive.bucket,
        Key=archive.key,
        UploadId=upload_id,
        MultipartUpload={"Parts": listed},
    )
    md5s = all(plain_etag(part.etag) == part.md5.hex() for part in parts)
    whole = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
    expected = f"{whole}-{len(parts)}" if md5s else None
    try:
        answer = once("CompleteMultipartUpload", archive.uri, request)
    except S3Error as error:
        # Where the answer was lost botocore asks again, and the upload is gone because it was completed.
        if error.code != "NoSuchUpload" or not look(client, archive.bucket, archive.key).is_copy_of(
            archive.size, archive.sha256
        ):
            raise
        return Sent("", expected, None)
    return Sent(plain_etag(answer.get("ETag")), expected, plain_version(answer.get("VersionId")))


def _abort(client: S3Client, archive: Archive, upload_id: str) -> None:
    with suppress(S3Error), s3_call("AbortMultipartUpload", archive.uri):
        client.abort_multipart_upload(Bucket=archive.bucket, Key=archive.key, UploadId=upload_id)


def fitting_part_size(size: int, wanted: int) -> int:
    """Return the size of all parts but the last: the wanted one, or the whole MiB that keep the parts few enough.

    The same archive gets the same parts in every run.
    """
    needed = -(-size // _MAX_PARTS)
    return max(wanted, -(-needed // _MIB) * _MIB)
