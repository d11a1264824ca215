"""An object at the store, and how one is looked at."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from lora_packer.errors import PublishError
from lora_packer.frozen import frozen
from lora_packer.publisher.answers import Head, head_in
from lora_packer.publisher.errors import S3Error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lora_packer.publisher.connection import Connection

_MD5 = re.compile(r"[0-9a-f]{32}")


@frozen
class StoredObject:
    """An archive that is at the store.

    Attributes:
        bucket: its bucket.
        key: its key.
        size: its length in bytes.
        sha256: the SHA-256 of its content, in hex; None for an object of others whose metadata does not say.
        etag: the store's ETag, without quotes; empty where the store did not say.
        version_id: its version in a versioned bucket, or None.
        uploaded: whether this run sent it; False where the same bytes were there already.
        integrity: what shows that its bytes are those that were sent: ``crc32`` (the store checked that of every part
            and tells the whole's), ``parts-crc32`` (it does not tell), ``md5`` (its ETag is made of it), ``unproven``;
            None where this run did not send it.
    """

    bucket: str
    key: str
    size: int
    sha256: str | None
    etag: str
    version_id: str | None
    uploaded: bool
    integrity: str | None = None

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    def to_dict(self) -> dict[str, Any]:
        """Return the object as a receipt has it; ``StoredObject(**data)`` is the way back."""
        return asdict(self)


@frozen
class Look:
    """What a HEAD of one key answered.

    Attributes:
        state: ``found``, ``absent``, or ``denied`` where the store does not say.
        size: the object's length in bytes.
        sha256: the digest in its metadata, or None.
        etag: its ETag, without quotes.
        version_id: its version, or None.
        crc32: the CRC-32 of all of it, as S3 writes them, where that was asked for and is known; else empty.
    """

    state: Literal["found", "absent", "denied"]
    size: int = -1
    sha256: str | None = None
    etag: str = ""
    version_id: str | None = None
    crc32: str = ""

    def is_copy_of(self, size: int, sha256: str) -> bool:
        """Return whether it is an object of that size which says it has that digest."""
        return self.state == "found" and self.size == size and self.sha256 == sha256


def look(connection: Connection, bucket: str, key: str, *, checksum: bool = False, repeat: bool = True) -> Look:
    """Look at the object under a key, and where it has a checksum at that, which not every store takes.

    ``repeat`` is whether trouble that may pass is ridden out.

    Raises:
        S3Error: that fails for another reason than absent or denied.
    """

    where = f"s3://{bucket}/{key}"

    def head(client: S3Client) -> Head:
        if checksum:
            return head_in(client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"), where)
        return head_in(client.head_object(Bucket=bucket, Key=key), where)

    try:
        answer = connection.call("HeadObject", where, head, repeat=repeat)
    except S3Error as error:
        if error.status == 404:
            return Look("absent")
        # Without s3:ListBucket, S3 answers 403 for what is not there
        # (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html).
        if error.status == 403:
            return Look("denied")
        raise
    # Some stores capitalise the names of metadata.
    metadata = {name.lower(): value for name, value in answer.metadata.items()}
    return Look(
        "found",
        size=answer.size,
        sha256=metadata.get("sha256"),
        etag=plain_etag(answer.etag),
        version_id=plain_version(answer.version_id),
        # Of another type it is made of the parts' checksums, and says nothing to us.
        crc32=answer.crc32 if answer.checksum_type == "FULL_OBJECT" else "",
    )


def encode_crc32(crc32: int) -> str:
    """Return a CRC-32 as S3 writes it: base64 of its four bytes, the highest first."""
    return b64encode(crc32.to_bytes(4, "big")).decode()


def plain_etag(etag: str | None) -> str:
    """Return an ETag without its quotes."""
    return (etag or "").strip('"')


def plain_version(version_id: str | None) -> str | None:
    """Return the version, or None for ``null``: the one that an overwrite replaces pins nothing."""
    return None if version_id in (None, "", "null") else version_id


def contradicts(etag: str, md5: str, encryption: str | None) -> bool:
    """Return whether a store's ETag proves other bytes than those with this MD5 (in hex).

    An ETag is an MD5 unless the store encrypts with keys of its own or its customer's, or makes its ETags otherwise
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    return encryption in (None, "AES256") and bool(_MD5.fullmatch(etag)) and etag != md5


def other_object(bucket: str, key: str) -> PublishError:
    """Return the error for a key that is taken by other bytes."""
    return PublishError(
        f"s3://{bucket}/{key} is taken by another object (its size or its sha256 metadata differs); nothing was "
        "overwritten.",
        hint="Publish below another prefix, or remove that object if it is yours.",
    )
