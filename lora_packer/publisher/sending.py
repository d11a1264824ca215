"""An archive on its way to a store: what, where, over which connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from lora_packer.publisher.connection import Connection
from lora_packer.publisher.content import Content, Fingerprint
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.stored import look

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Progress = Callable[[int, int], None]
"""``progress(done, total)``: bytes that are at the store, and all bytes."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Archive:
    """What is sent, and where.

    Attributes:
        bucket: the bucket.
        key: the key in it.
        content: its bytes.
        fingerprint: what they are.
        content_type: what kind of archive they are.
        part_size: how many of them a part has, but for the last.
    """

    bucket: str
    key: str
    content: Content
    fingerprint: Fingerprint
    content_type: str
    part_size: int

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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
