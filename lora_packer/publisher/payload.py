"""What is sent: an archive's bytes, in a file or only planned, their digests, and where they go to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import cycle
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from lora_packer.errors import InputError, PublishError
from lora_packer.frozen import frozen
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.digest import Digests
from lora_packer.packager.meter import Meter
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.stored import look
from lora_packer.redact import escape

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Large, because the threads that read and hash and those that run Python take turns at each.
_CHUNK = 4 << 20
_BUFFERS = 4

Progress = Callable[[int, int], None]
"""``progress(done, total)``: bytes that are at the store, and all bytes."""

NOT_ENCRYPTED: Mapping[str, str] = MappingProxyType({})
"""The object is encrypted as the bucket has it: with the store's own keys, where nothing else is set."""

# https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, x-amz-server-side-encryption
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_KMS = "aws:kms"

Answer = TypeVar("Answer")

Body = tuple[bytearray, bytes]
"""An archive that is sent in one request, and its MD5."""


class Content(Protocol):
    """Bytes that can be read in any range, at any time, from any thread: a planned archive, or a file's."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def known_crc32(self) -> int | None:
        """The CRC-32 of all of it, where that is known from an earlier reading."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError where they changed."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``. Raises PackError likewise."""


@frozen
class Fingerprint:
    """What bytes are: their SHA-256, in hex, and their CRC-32."""

    sha256: str
    crc32: int


def fingerprint(content: Content, meter: Meter | None = None) -> Fingerprint:
    """Read the content once, in bounded memory.

    Raises:
        PackError: it cannot be read, or changed.
        PublishError: it is not what was read before.
    """
    meter, digests = meter or Meter(), Digests()
    buffers = cycle([memoryview(bytearray(min(_CHUNK, content.size))) for _ in range(_BUFFERS)])
    with digests.aside(_BUFFERS) as take:
        for offset in range(0, content.size, _CHUNK):
            data = next(buffers)[: content.size - offset]
            content.read_into(offset, data)
            take(data)
            meter.add(len(data))
    if content.known_crc32 not in (None, digests.crc32):
        raise changed_error()
    return Fingerprint(digests.sha256, digests.crc32)


def read_body(content: Content, found: Fingerprint) -> Body:
    """Read an archive that is sent in one request. Raises PackError; PublishError where it changed."""
    # Not bytes, of which botocore makes a file; before one is sent, it asks whether it may (one round trip more).
    data = bytearray(content.size)
    with memoryview(data) as buffer:
        content.read_into(0, buffer)
    if fastest_crc32()(data, 0) != found.crc32:
        raise changed_error()
    return data, hashlib.md5(data, usedforsecurity=False).digest()


def changed_error() -> PublishError:
    """Return the error for bytes that are not those that were read before."""
    return PublishError(
        "The archive's bytes are not those that were checked: its files changed meanwhile.",
        hint="Wait until whatever writes them is done, and run it again.",
    )


@frozen
class Archive:
    """What is sent, and where.

    Attributes:
        bucket: the bucket.
        key: the key in it.
        content: its bytes.
        fingerprint: what they are.
        content_type: what kind of archive they are.
        part_size: how many of them a part has, but for the last.
        encryption: how the store is to encrypt them: botocore's parameters, or none.
    """

    bucket: str
    key: str
    content: Content
    fingerprint: Fingerprint
    content_type: str
    part_size: int
    encryption: Mapping[str, str]

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.content.size

    @property
    def sha256(self) -> str:
        """Their SHA-256, in hex."""
        return self.fingerprint.sha256

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


def encryption_of(sse: str | None, kms_key_id: str | None) -> Mapping[str, str]:
    """Return how the store is to encrypt an object, as botocore's parameters.

    Args:
        sse: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``; None: as the bucket has it, or ``aws:kms`` with a key's id.
        kms_key_id: the key's id, ARN or alias; None: the account's own for S3.

    Raises InputError where that makes no sense.
    """
    if kms_key_id is not None:
        sse = sse or _KMS
    if sse is None:
        return NOT_ENCRYPTED
    if sse not in _ENCRYPTIONS:
        raise InputError(
            f"'{escape(sse, 40)}' is no way to encrypt an object.", hint=f"Choose {', '.join(_ENCRYPTIONS)}."
        )
    if kms_key_id is None:
        return {"ServerSideEncryption": sse}
    if not sse.startswith(_KMS) or not kms_key_id or not kms_key_id.isascii() or not kms_key_id.isprintable():
        raise InputError(
            f"The KMS key '{escape(kms_key_id, 80)}' does not go with {sse}, or is no key's id, ARN or alias.",
            hint="A key is for aws:kms and aws:kms:dsse.",
        )
    return {"ServerSideEncryption": sse, "SSEKMSKeyId": kms_key_id}


class Integrity(StrEnum):
    """What shows that the bytes at the store are those that were sent."""

    CRC32 = "crc32"
    PARTS_CRC32 = "parts-crc32"
    MD5 = "md5"
    UNPROVEN = "unproven"

    @property
    def sentence(self) -> str:
        """The same in words."""
        return _SENTENCES[self]


_SENTENCES = {
    Integrity.CRC32: "the store held every part against its CRC-32 as it came, and tells the archive's for the whole",
    Integrity.PARTS_CRC32: "the store held every part against its CRC-32 as it came; it tells none for the whole",
    Integrity.MD5: "the store's ETag is made of the MD5 of the bytes that were sent",
    Integrity.UNPROVEN: "that the store has every byte as it was sent: its ETag is no MD5 of theirs",
}


@frozen
class Sent:
    """What the store answered to the last request of an upload.

    Attributes:
        etag: the ETag, without quotes; some stores leave it out.
        expected_etag: what it must be, or None at a store whose ETags are no MD5s.
        version_id: the version that was made, or None.
        integrity: what shows that they are the bytes that were sent.
    """

    etag: str
    expected_etag: str | None
    version_id: str | None
    integrity: Integrity = Integrity.UNPROVEN


@frozen
class Sending:
    """An archive on its way.

    Attributes:
        connection: to the store.
        archive: what is sent.
        journal: knows the upload before it is used.
        progress: told how much is there.
    """

    connection: Connection
    archive: Archive
    journal: Journal
    progress: Progress | None = None

    def note(self, upload_id: str | None) -> None:
        """Have the journal know the upload."""
        self.journal.begin(self.connection.endpoint_url, self.archive.bucket, self.archive.key, upload_id)

    def forget(self) -> None:
        """Have the journal forget the upload."""
        self.journal.drop(self.connection.endpoint_url, self.archive.bucket, self.archive.key)

    def is_there(self) -> bool:
        """Return whether the finished object is at the store."""
        archive = self.archive
        return look(self.connection, archive.bucket, archive.key).is_copy_of(archive.size, archive.sha256)


def once(
    connection: Connection,
    operation: str,
    where: str,
    request: Callable[[S3Client], Callable[..., Answer]],
    *,
    repeat: bool = True,
) -> Answer:
    """Make a request that writes only where nothing is (If-None-Match); plainly at a store that does not know that."""
    try:
        return connection.call(operation, where, lambda client: request(client)(IfNoneMatch="*"), repeat=repeat)
    except S3Error as error:
        if error.status != 501:
            raise
    return connection.call(operation, where, lambda client: request(client)(), repeat=repeat)
