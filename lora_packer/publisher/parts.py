"""One part of an upload: guarded by a checksum on its way, or found to be at the store already.

A store that refuses a part whose CRC-32 is wrong is sent that of each part, which costs next to nothing; others get
Content-MD5, which all are known to check. What a store does is found out, not assumed: many take checksums they do not
know, and some give them back, right or wrong.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import field
from io import BytesIO
from itertools import chain, repeat
from typing import TYPE_CHECKING

from lora_packer.errors import PublishError
from lora_packer.frozen import frozen
from lora_packer.publisher.answers import ListedPart, Written, written_in
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.payload import Sending
from lora_packer.publisher.stored import contradicts, encode_crc32, plain_etag

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What stores answer to a body that is not that of its CRC-32: S3 (and SeaweedFS), and MinIO.
_WRONG_CHECKSUM = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
_ONE_BYTE = bytearray(1)


@frozen
class Upload:
    """An upload that was begun.

    Attributes:
        id: the store's name of it.
        kept: the parts it has, by number.
        guarded: whether the store holds parts, and the whole, against their CRC-32.
        doubtful: whether there may be another one that nobody knows of.
    """

    id: str
    kept: Mapping[int, ListedPart] = field(default_factory=dict)
    guarded: bool = False
    doubtful: bool = False

    @property
    def has_parts(self) -> bool:
        """Whether any of its parts is more than what ``refuses_wrong_crc32`` sends."""
        return any(part.size > len(_ONE_BYTE) for part in self.kept.values())


@frozen
class Part:
    """A part to be sent.

    Attributes:
        number: its number.
        data: its bytes; a bytearray goes to the socket as it is, of bytes botocore makes a file.
        crc32: their CRC-32.
    """

    number: int
    data: bytearray
    crc32: int


@frozen
class SentPart:
    """A part that is at the store.

    Attributes:
        number: its number.
        size: its length in bytes.
        etag: the store's ETag of it, as it was answered.
        crc32: the store's CRC-32 of it, or an empty string.
        md5: that of its bytes, in hex, where the ETag was compared with it; else an empty string.
    """

    number: int
    size: int
    etag: str
    crc32: str
    md5: str

    @property
    def is_its_md5(self) -> bool:
        """Whether the store calls it by the MD5 of its bytes."""
        return bool(self.md5) and plain_etag(self.etag) == self.md5


def send_part(sending: Sending, upload: Upload, part: Part) -> SentPart:
    """Send a part, unless the upload has the very same one. Raises S3Error; PublishError: it came out as another."""
    kept = upload.kept.get(part.number)
    if kept is not None and kept.size == len(part.data):
        local = _md5(part.data).hex()
        if plain_etag(kept.etag) == local or kept.crc32 == encode_crc32(part.crc32):
            return SentPart(part.number, kept.size, kept.etag, kept.crc32, local)
    if upload.guarded:
        answer = _upload_part(sending, upload.id, part, ChecksumCRC32=encode_crc32(part.crc32))
        return SentPart(part.number, len(part.data), answer.etag or "", answer.crc32, "")
    md5 = _md5(part.data)
    answer = _upload_part(sending, upload.id, part, ContentMD5=b64encode(md5).decode())
    etag = answer.etag or ""
    if contradicts(plain_etag(etag), md5.hex(), answer.encryption):
        raise PublishError(
            f"Part {part.number} of {sending.archive.uri} is not at the store as it was sent (its ETag is another "
            "MD5).",
            hint="Something changes the bytes on the way: a proxy, or the store. Run it again.",
        )
    return SentPart(part.number, len(part.data), etag, "", md5.hex())


def refuses_wrong_crc32(sending: Sending, upload_id: str) -> bool:
    """Send one byte with the CRC-32 of another as the first part, and return whether it is refused.

    Where it is taken, the upload is not to be gone on with. Raises S3Error: another refusal, which would stop the
    upload as well.
    """
    wrong = Part(1, _ONE_BYTE, crc32=zlib.crc32(_ONE_BYTE) ^ 1)
    try:
        _upload_part(sending, upload_id, wrong, ChecksumCRC32=encode_crc32(wrong.crc32))
    except S3Error as error:
        if error.code in _WRONG_CHECKSUM:
            return True
        if error.status in (400, 501) and not error.resumable:  # the store does not know the header
            return False
        raise
    return False


def _upload_part(sending: Sending, upload_id: str, part: Part, **checksum: str) -> Written:
    archive = sending.archive
    # A store that refuses in the middle of a body is seen as a reset, which says nothing. So a part that failed is sent
    # as a file, which botocore asks for first (Expect: 100-continue, ``add_expect_header`` in botocore/handlers.py); to
    # ask for each would cost a round trip each time.
    bodies = chain((part.data,), map(BytesIO, repeat(part.data)))

    def request(client: S3Client) -> Written:
        answer = client.upload_part(
            Bucket=archive.bucket,
            Key=archive.key,
            UploadId=upload_id,
            PartNumber=part.number,
            Body=next(bodies),  # type: ignore[arg-type]
            **checksum,  # type: ignore[arg-type]
        )
        return written_in(answer)

    return sending.connection.call("UploadPart", archive.uri, request)


def _md5(data: bytearray) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
