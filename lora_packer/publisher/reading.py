"""Adapters at a store or behind a URL: read by byte ranges, so that the weights stay where they are.

A ``.tar.gz`` is one stream, of which no part can be read without all that comes before it: it alone is fetched whole.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from lora_packer.adapter import AdapterSource
from lora_packer.adapter.archive_source import read_archive
from lora_packer.adapter.listed_source import ListedSource
from lora_packer.address import is_loopback
from lora_packer.errors import InconclusiveError, InputError, PublishError
from lora_packer.exchange import SILENCE, exchange
from lora_packer.http import connect, may_pass
from lora_packer.publisher.answers import objects_in
from lora_packer.publisher.connection import Connection, open_store
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.fetch import CONTENT_RANGE
from lora_packer.publisher.s3uri import SUFFIXES, parse_destination, parse_object
from lora_packer.publisher.stored import plain_etag
from lora_packer.ranges import Blocks, RangeFile
from lora_packer.redact import MASK, escape, scrub

if TYPE_CHECKING:
    import httpx2
    from boto3 import Session
    from mypy_boto3_s3 import S3Client

_ATTEMPTS = 3
_FIRST_PAUSE = 0.5  # seconds
_LIFE = 3600  # seconds of the URLs that are signed to read an object with; nobody else gets them
_PIECE = 16 << 20
_MOST_NAMES = 10_000
_HINTS = {
    401: "Give a URL that needs no login: a presigned one.",
    403: "A presigned URL may be over, or cut off; for an object of S3 the credentials need s3:GetObject.",
    404: "Check the address.",
}


@contextmanager
def open_elsewhere(adapter: str) -> Iterator[AdapterSource]:
    """Open ``s3://bucket/prefix/``, ``s3://bucket/key.zip`` or an ``https://`` URL of an archive.

    S3 is read with the credentials of the environment and of the usual files, from where they are configured for.

    Raises:
        InputError: it is no such address, or there is no adapter.
        InconclusiveError: who is asked does not answer, or not these credentials.
    """
    if adapter.startswith("s3://"):
        with open_object(adapter) if adapter.endswith(SUFFIXES) else _prefix(adapter) as source:
            yield source
        return
    with _url(adapter) as file, _archive(file) as source:
        yield source


# --- a URL -----------------------------------------------------------------------------------------------------------


@contextmanager
def fetched(archive: str) -> Iterator[tuple[str, BinaryIO]]:
    """Fetch the archive at ``s3://bucket/key.zip`` or behind an ``https://`` URL, into a temporary file without a name.

    Yields what to call it, without a secret, and the file. Raises InputError, InconclusiveError.
    """
    opened = _object(archive) if archive.startswith("s3://") else _url(archive)
    with opened as file, tempfile.TemporaryFile() as whole:
        _fetch_whole(file, file.size(), whole, f"{file.name} has", "Free some, or name another folder with TMPDIR.")
        yield file.name, cast(BinaryIO, whole)


@contextmanager
def _url(text: str) -> Iterator[_File]:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        raise InputError("The adapter's URL is none.", hint="Write it like https://host/adapter.zip.") from None
    name = f"{parts.scheme}://{escape(host)}{f':{parts.port}' if parts.port else ''}{escape(parts.path, 400)}"
    if parts.scheme != "https" and not is_loopback(host):
        raise InputError(f"{name} is not https: anybody could answer in its place.", hint="Use its https address.")
    with connect(text, timeout=SILENCE, follow_redirects=True) as http:
        yield _File(http, text, name)


@contextmanager
def _archive(file: _File) -> Iterator[AdapterSource]:
    """Read an archive at the other end: a zip in place, a tar.gz once it is here."""
    size = file.size()
    blocks = Blocks(size, file.fetch)
    if blocks(0, min(2, size)) == b"\x1f\x8b":
        with tempfile.TemporaryFile() as whole:
            hint = "Pack the adapter as a .zip, of which only the beginning of the weights is read."
            _fetch_whole(file, size, whole, f"{file.name} is a .tar.gz of", hint)
            with read_archive(file.name, cast(BinaryIO, whole)) as source:
                yield source
        return
    with read_archive(file.name, cast(BinaryIO, RangeFile(size, blocks)), remote=True) as source:
        yield source


def _fetch_whole(
    file: _File, size: int, into: BinaryIO | tempfile._TemporaryFileWrapper[bytes], what: str, hint: str
) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise InputError(
            f"{what} {size:,} bytes, which are read as a whole, and there is room for {free:,}.", hint=hint
        )
    for begin in range(0, size, _PIECE):
        into.write(file.fetch(begin, min(size, begin + _PIECE)))


# --- S3 --------------------------------------------------------------------------------------------------------------


@contextmanager
def open_object(uri: str, session: Session | None = None, endpoint_url: str | None = None) -> Iterator[AdapterSource]:
    """Open the archive at ``s3://bucket/key``, with a session of one's own. Raises InputError, InconclusiveError."""
    with _object(uri, session, endpoint_url) as file, _archive(file) as source:
        yield source


@contextmanager
def _object(uri: str, session: Session | None = None, endpoint_url: str | None = None) -> Iterator[_File]:
    bucket, key = parse_object(uri)
    with _told(uri), _store(bucket, session, endpoint_url) as (connection, http):
        yield _signed(connection, http, bucket, key)


@contextmanager
def _prefix(uri: str) -> Iterator[AdapterSource]:
    place = parse_destination(uri)
    with _told(str(place)), _store(place.bucket) as (connection, http):

        def listed(client: S3Client) -> Mapping[str, int]:
            pages = client.get_paginator("list_objects_v2")
            found = objects_in(pages.paginate(Bucket=place.bucket, Prefix=place.prefix), str(place))
            names = sorted((item.key.removeprefix(place.prefix), item.size) for item in found)
            kept = ((name, size) for name, size in names if name and not name.endswith("/") and name.count("/") <= 1)
            return dict(islice(kept, _MOST_NAMES))

        sizes = connection.call("ListObjectsV2", str(place), listed)
        if not sizes:
            raise InputError(f"there is nothing below {place}.", hint="Check the bucket and the prefix.")

        def opened(name: str) -> BinaryIO:
            file = _signed(connection, http, place.bucket, place.prefix + name)
            return cast(BinaryIO, RangeFile(sizes[name], file.fetch))

        yield ListedSource(str(place), sizes, opened, "folder")


@contextmanager
def _store(
    bucket: str, session: Session | None = None, endpoint_url: str | None = None
) -> Iterator[tuple[Connection, httpx2.Client]]:
    store = open_store(session, endpoint_url, True, None, None)
    connection = store.connect(bucket)
    with store.downloader(connection.endpoint_url) as http:
        yield connection, http


def _signed(connection: Connection, http: httpx2.Client, bucket: str, key: str) -> _File:
    url = connection.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_LIFE)
    return _File(http, url, f"s3://{bucket}/{key}")


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Nothing is published here: what is not there is bad input, what is not answered could not be checked."""
    try:
        yield
    except PublishError as error:
        missing = isinstance(error, S3Error) and error.status == 404
        kind = InputError if missing else InconclusiveError
        hint = f"Check {where}." if missing else error.hint
        raise kind(str(error.message), hint=hint) from None


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    """A file that answers requests for ranges of it.

    Attributes:
        http: carries the requests.
        url: where it is; a secret.
        name: what to call it.
    """

    http: httpx2.Client
    url: str
    name: str
    _length: int | None = None
    _version: str = ""

    def size(self) -> int:
        """Return its length in bytes. Raises InputError, InconclusiveError."""
        if self._length is None:
            self.fetch(0, 1)
        return self._length or 0

    def fetch(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to ``end``. Raises InputError, InconclusiveError."""
        import httpx2

        attempt = 1
        while True:
            try:
                return self._once(begin, end)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                if attempt == _ATTEMPTS or not may_pass(error):
                    reason = escape(scrub(str(error)).replace(self.url, MASK), 200) or "no answer"
                    raise InconclusiveError(
                        f"{self.name} cannot be read: {reason}.", hint="Check the address, the network and the proxy."
                    ) from None
            time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
            attempt += 1

    def _once(self, begin: int, end: int) -> bytes:
        import httpx2

        headers = {"Accept-Encoding": "identity", "Range": f"bytes={begin}-{end - 1}"}
        answer = exchange(self.http, "GET", self.url, most=end - begin, headers=headers)
        if answer.status == 429 or answer.status >= 500:
            raise httpx2.ReadError(f"HTTP {answer.status}")
        if answer.status == 416 and begin == 0:
            raise InputError(f"{self.name} is empty.")
        if not answer.is_success:
            raise self._refused(answer.status)
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != begin:
            raise InputError(
                f"the server of {self.name} answers no byte ranges.", hint="Download it, and give the file's path."
            )
        length, version = int(match[3]), plain_etag(answer.headers.get("ETag"))
        known = self._length is not None
        if known and (length, version or self._version) != (self._length, self._version or version):
            raise InputError(f"{self.name} changed while it was being read.", hint="Run the command again.")
        self._length, self._version = length, version
        if len(answer.body) != min(end, length) - begin:
            raise httpx2.ReadError(f"the answer ended after {len(answer.body)} of {end - begin} bytes")
        return answer.body

    def _refused(self, status: int) -> InputError | InconclusiveError:
        kind = InputError if status in (404, 410) else InconclusiveError
        return kind(f"{self.name} cannot be read: HTTP {status}.", hint=_HINTS.get(status))
