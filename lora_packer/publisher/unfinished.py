"""Uploads that were begun and not finished: found, aborted. They cost money and show in no listing of objects."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lora_packer.frozen import frozen
from lora_packer.publisher.answers import ListedUpload, uploads_in
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3uri import Destination, are_of_one_name, is_object_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@frozen
class Begun:
    """An unfinished upload, as the store lists it; ``begun_at`` is None where only the journal knows it."""

    bucket: str
    key: str
    upload_id: str
    begun_at: datetime | None

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


def uploads_of(connection: Connection, bucket: str, key: str) -> list[Begun]:
    """Return the unfinished uploads of one key, the newest last. Raises S3Error: they may not be listed."""
    return [found for found in uploads_below(connection, bucket, key) if found.key == key]


def abort(connection: Connection, upload: Begun) -> None:
    """Abort an upload; one that is gone is fine. Raises S3Error."""

    def request(client: S3Client) -> None:
        client.abort_multipart_upload(Bucket=upload.bucket, Key=upload.key, UploadId=upload.upload_id)

    try:
        connection.call("AbortMultipartUpload", upload.uri, request)
    except S3Error as error:
        if error.code != "NoSuchUpload" and error.status != 404:
            raise


def abort_if_possible(connection: Connection, upload: Begun) -> None:
    """Abort an upload on the way out of another trouble, which is the one to be told."""
    with suppress(S3Error):
        abort(connection, upload)


def abort_superseded(connection: Connection, journal: Journal, bucket: str, key: str) -> None:
    """Abort what the journal has of an adapter's older content, which ``key`` takes the place of.

    Uploads of other adapters are left alone: one journal may serve several.
    """
    for entry in journal.uploads:
        is_here = (entry.endpoint_url, entry.bucket) == (connection.endpoint_url, bucket)
        if is_here and entry.key != key and are_of_one_name(entry.key, key):
            with suppress(S3Error):
                for found in _journalled(connection, bucket, entry.key, entry.upload_id):
                    abort(connection, found)
                journal.drop(entry.endpoint_url, entry.bucket, entry.key)


def clean(connection: Connection, destination: Destination, journal: Journal) -> list[Begun]:
    """Abort the unfinished uploads of archives below the destination; return them.

    Ours are those in the journal, and those right below the prefix whose key has the form of ours (a name, a digest,
    an archive's suffix). Others are left alone.

    Raises:
        S3Error: they may not be listed or aborted.
    """
    bucket, prefix = destination.bucket, destination.prefix
    ours = [
        entry
        for entry in journal.uploads
        if (entry.endpoint_url, entry.bucket) == (connection.endpoint_url, bucket) and entry.key.startswith(prefix)
    ]
    keys = {entry.key for entry in ours}
    try:
        listed = uploads_below(connection, bucket, prefix)
    except S3Error:
        found = [Begun(bucket, entry.key, entry.upload_id, None) for entry in ours if entry.upload_id is not None]
        if not found:
            raise
    else:
        found = [upload for upload in listed if upload.key in keys or _is_ours(upload.key, prefix)]
    for upload in found:
        abort(connection, upload)
    for entry in ours:
        journal.drop(entry.endpoint_url, entry.bucket, entry.key)
    return found


def _is_ours(key: str, prefix: str) -> bool:
    return is_object_key(key) and "/" not in key.removeprefix(prefix)


def _journalled(connection: Connection, bucket: str, key: str, upload_id: str | None) -> list[Begun]:
    if upload_id is not None:
        return [Begun(bucket, key, upload_id, None)]
    return uploads_of(connection, bucket, key)


def uploads_below(connection: Connection, bucket: str, prefix: str, *, repeat: bool = True) -> list[Begun]:
    """Return the unfinished uploads whose key begins like this, the newest last. Raises S3Error.

    ``repeat`` is whether trouble that may pass is ridden out.
    """
    where = f"s3://{bucket}/{prefix}"

    def request(client: S3Client) -> list[ListedUpload]:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return uploads_in(pages, where)

    found = connection.call("ListMultipartUploads", where, request, repeat=repeat)
    return [Begun(bucket, upload.key, upload.upload_id, upload.begun_at) for upload in found]
