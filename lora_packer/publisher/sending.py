"""An archive on its way to a store: what, where, over which connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lora_packer.errors import PublishError
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3errors import S3Error
from lora_packer.publisher.store import look

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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
