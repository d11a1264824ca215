"""What a store answers, read field by field: one small reader for each shape, which every call uses.

botocore gives what it found in an answer; what a store left out is not there, and nobody else looks into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from lora_packer.frozen import frozen
from lora_packer.publisher.errors import S3Error

MAX_PAGES = 200
"""Pages of a list that are read; an upload has ten at most, and nobody has 200,000 unfinished uploads."""


@frozen
class ListedUpload:
    """An unfinished upload, as ListMultipartUploads has it."""

    key: str
    upload_id: str
    begun_at: datetime


@frozen
class ListedObject:
    """An object, as ListObjectsV2 has it; ``size`` in bytes."""

    key: str
    size: int


@frozen
class ListedPart:
    """A part, as ListParts has it; ``crc32`` is empty where that is not told."""

    number: int
    size: int
    etag: str
    crc32: str


@frozen
class Head:
    """What HeadObject tells; what it does not is None."""

    size: int
    metadata: Mapping[str, str]
    etag: str | None
    version_id: str | None
    crc32: str
    checksum_type: str | None


@frozen
class Written:
    """What a request that wrote something tells; what it does not is None. ``is_empty``: it told nothing at all."""

    etag: str | None
    version_id: str | None
    encryption: str | None
    crc32: str
    is_empty: bool


def uploads_in(pages: Iterable[Any], where: str) -> list[ListedUpload]:
    """Return the unfinished uploads of the pages, the newest last. Raises S3Error."""
    operation = "ListMultipartUploads"
    found = [
        ListedUpload(
            _text(item, "Key", operation, where),
            _text(item, "UploadId", operation, where),
            _moment(item, "Initiated", operation, where),
        )
        for page in limited(pages, operation, where)
        for item in _objects(page.get("Uploads"))
    ]
    return sorted(found, key=lambda upload: upload.begun_at)


def objects_in(pages: Iterable[Any], where: str) -> list[ListedObject]:
    """Return the objects of the pages. Raises S3Error."""
    operation = "ListObjectsV2"
    return [
        ListedObject(_text(item, "Key", operation, where), _number(item, "Size", operation, where))
        for page in limited(pages, operation, where)
        for item in _objects(page.get("Contents"))
    ]


def parts_in(pages: Iterable[Any], where: str) -> tuple[dict[int, ListedPart], str | None]:
    """Return the parts of the pages by their numbers, and the type of the whole's checksum where all tell the same."""
    operation = "ListParts"
    parts: dict[int, ListedPart] = {}
    kinds: set[str | None] = set()
    for page in limited(pages, operation, where):
        kinds.add(_optional(page, "ChecksumType"))
        for item in _objects(page.get("Parts")):
            number = _number(item, "PartNumber", operation, where)
            size, etag = _number(item, "Size", operation, where), _text(item, "ETag", operation, where)
            parts[number] = ListedPart(number, size, etag, _optional(item, "ChecksumCRC32") or "")
    return parts, kinds.pop() if len(kinds) == 1 else None


def upload_id_in(answer: Any, where: str) -> str:
    """Return the id of an upload that was begun. Raises S3Error."""
    return _text(answer, "UploadId", "CreateMultipartUpload", where)


def head_in(answer: Any, where: str) -> Head:
    """Return what is told of an object. Raises S3Error."""
    return Head(
        _number(answer, "ContentLength", "HeadObject", where),
        _fields(answer.get("Metadata")),
        _optional(answer, "ETag"),
        _optional(answer, "VersionId"),
        _optional(answer, "ChecksumCRC32") or "",
        _optional(answer, "ChecksumType"),
    )


def written_in(answer: Any) -> Written:
    """Return what is told of a part or an object that was written; nothing of it has to be."""
    return Written(
        _optional(answer, "ETag"),
        _optional(answer, "VersionId"),
        _optional(answer, "ServerSideEncryption"),
        _optional(answer, "ChecksumCRC32") or "",
        not any(answer.get(name) for name in ("ETag", "Location", "Key")),
    )


def headers_in(answer: Any) -> Mapping[str, str]:
    """Return the headers of an answer, their names in lower case."""
    return _fields(_fields(answer.get("ResponseMetadata")).get("HTTPHeaders"))


def status_in(answer: Any) -> int | None:
    """Return an answer's HTTP status; None where none is known."""
    status = _fields(answer.get("ResponseMetadata")).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def limited(pages: Iterable[Any], operation: str, where: str) -> Iterator[Any]:
    """Give the pages of a list. Raises S3Error where it has no end."""
    for count, page in enumerate(pages):
        if count == MAX_PAGES:
            raise _wrong(operation, where, f"with more than {MAX_PAGES} pages")
        yield page


def _text(item: Any, name: str, operation: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(operation, where, f"without {name}")
    return value


def _number(item: Any, name: str, operation: str, where: str) -> int:
    value = item.get(name)
    if type(value) is not int or value < 0:
        raise _wrong(operation, where, f"without {name}")
    return value


def _moment(item: Any, name: str, operation: str, where: str) -> datetime:
    """A time with its zone; one without is UTC, as all of S3's are."""
    value = item.get(name)
    if not isinstance(value, datetime):
        raise _wrong(operation, where, f"without {name}")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _optional(item: Any, name: str) -> str | None:
    value = item.get(name)
    return value if isinstance(value, str) else None


def _objects(value: Any) -> list[Any]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _fields(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _wrong(operation: str, where: str, what: str) -> S3Error:
    return S3Error(
        f"{operation} on {where} was answered {what}.",
        hint="What answers there is not quite an S3 store: check --endpoint-url and the proxy settings.",
        status=200,
        code="WrongAnswer",
    )
