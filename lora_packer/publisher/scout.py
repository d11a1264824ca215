"""What a store is asked about an archive that is still being read: looks that change nothing.

Each would take a round trip of its own once the archive may be sent, and the store has time while it is checked.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from lora_packer.frozen import frozen
from lora_packer.publisher.bounds import session_of
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.multipart import goes_in_one
from lora_packer.publisher.opened import Opened
from lora_packer.publisher.payload import Body, Content, Fingerprint, read_body
from lora_packer.publisher.s3uri import key_for, keys_begin
from lora_packer.publisher.stored import Look, look
from lora_packer.publisher.unfinished import Begun, uploads_below
from lora_packer.threads import ahead

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The proof makes three requests at once, beside a look at what was sent. An upload in one request leaves one connection
# or two, and another one takes as long to open as one request or more; an upload in parts has six.
_MORE_CONNECTIONS = 3
_LONG = 1 << 20  # bytes: from here on it takes longer to send them than to open a connection


@frozen
class Scouted:
    """An archive that is being read, and what is asked about it meanwhile.

    Another run may send the same archive between the look and the upload. Then the store has it twice over, or refuses
    the second one (If-None-Match), which is as good.

    Attributes:
        opened: the destination that was asked.
        found: what the archive is.
        body: its bytes, where it is sent in one request.
        listed: the unfinished uploads of archives of its name, where it is sent in parts.
        looked: the key that it gets, and what is there.
    """

    opened: Opened
    found: Future[Fingerprint]
    body: Future[Body] | None
    listed: Future[list[Begun]] | None
    looked: Future[tuple[str, Look]]

    def look(self, connection: Connection, key: str) -> Look | None:
        """Return what is under its key; None where another region or key was asked, or the answer was trouble."""
        if connection.client is self.opened.store.client():
            with suppress(Exception):  # whoever asks again is told what is wrong
                looked_at, there = self.looked.result()
                return there if looked_at == key else None
        return None


def scout(opened: Opened, name: str, content: Content, found: Future[Fingerprint]) -> Scouted:
    """Begin to ask a store about an archive of this name, whose fingerprint is being made. Raises nothing."""
    in_one, destination = goes_in_one(content.size), opened.destination

    def looked() -> tuple[str, Look]:
        client = opened.store.client()
        key = key_for(name, found.result().sha256, destination)
        if in_one and content.size >= _LONG:
            ahead(_open_connections, client, destination.bucket, key)
        # The bucket is asked for its region at the same time: where it is another one, this was asked in vain.
        return key, look(Connection(client), destination.bucket, key, repeat=False)

    def listed() -> list[Begun]:
        return uploads_below(opened.connection(), destination.bucket, keys_begin(name, destination), repeat=False)

    return Scouted(
        opened,
        found,
        ahead(lambda: read_body(content, found.result())) if in_one else None,
        None if in_one else ahead(listed),
        ahead(looked),
    )


def _open_connections(client: S3Client, bucket: str, key: str) -> None:
    """Open those of the proof; what cannot be opened now will be when it is needed."""
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})  # for its host alone
    for _ in range(_MORE_CONNECTIONS):
        ahead(session_of(client).open, url)
