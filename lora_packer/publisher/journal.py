"""The journal of unfinished uploads: what was begun is on the disk before it is used.

A run that was killed leaves an upload at the store that costs money and shows in no listing of objects. The journal
names it, for the next run to finish and for ``publish --clean`` to remove. It is a help, not a truth: parts are always
verified, and without it an upload is found by its key, where the credentials may list.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_packer.errors import InputError, PublishError
from lora_packer.files import followed, read_whole, write_whole
from lora_packer.frozen import frozen
from lora_packer.publisher.s3uri import is_object_key
from lora_packer.redact import escape

SCHEMA_VERSION = 1
_BEGINNING = '{\n  "journal": "lora-packer uploads"'
_MAX_BYTES = 1_000_000


@frozen
class Unfinished:
    """An upload that was begun.

    Attributes:
        endpoint_url: at which store.
        bucket: its bucket.
        key: its key, which names the content.
        upload_id: the store's name of it; None where the answer that had it never came.
        begun_at: when, in UTC.
    """

    endpoint_url: str
    bucket: str
    key: str
    upload_id: str | None
    begun_at: str

    def is_of(self, endpoint_url: str, bucket: str, key: str) -> bool:
        """Return whether it is an upload of that object at that store."""
        return (self.endpoint_url, self.bucket, self.key) == (endpoint_url, bucket, key)


class Journal:
    """The unfinished uploads in a file, or in memory alone where there is no path.

    One journal is for one upload at a time; what else is in it was left by earlier runs.

    Raises:
        InputError: the file is there and is none of ours, or is no regular file: it is not touched.
    """

    def __init__(self, path: Path | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        self._uploads: list[Unfinished] = _load(path) if path is not None else []

    @property
    def uploads(self) -> tuple[Unfinished, ...]:
        """What is in it."""
        return tuple(self._uploads)

    def begin(self, endpoint_url: str, bucket: str, key: str, upload_id: str | None) -> None:
        """Note the upload of an object, instead of what was noted for it. Raises PublishError: it cannot be written."""
        begun_at = self._now().astimezone(UTC).isoformat(timespec="seconds")
        rest = [found for found in self._uploads if not found.is_of(endpoint_url, bucket, key)]
        self._uploads = [*rest, Unfinished(endpoint_url, bucket, key, upload_id, begun_at)]
        try:
            self._write()
        except OSError as error:
            raise PublishError(
                f"The upload's journal '{escape(str(self._path))}' cannot be written: {error.strerror or error}.",
                hint="Make room, or put it elsewhere; without it a killed upload may be left behind at the store.",
            ) from None

    def drop(self, endpoint_url: str, bucket: str, key: str) -> None:
        """Take an object's uploads out: they are finished or gone.

        Where that cannot be written the upload is no worse: the next run finds that it is gone.
        """
        if any(found.is_of(endpoint_url, bucket, key) for found in self._uploads):
            self._uploads = [found for found in self._uploads if not found.is_of(endpoint_url, bucket, key)]
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        if not self._uploads:
            followed(self._path).unlink(missing_ok=True)  # a link stays, as it does when it is written through
            return
        uploads = [asdict(found) for found in self._uploads]
        data = {"journal": "lora-packer uploads", "schema_version": SCHEMA_VERSION, "uploads": uploads}
        write_whole(self._path, json.dumps(data, indent=2) + "\n")


def _load(path: Path) -> list[Unfinished]:
    try:
        data = read_whole(path, _MAX_BYTES)
    except FileNotFoundError:
        return []
    except ValueError:
        data = b"too long"
    except OSError as error:
        raise InputError(
            f"The upload's journal '{escape(str(path))}' cannot be read: {error.strerror or error}."
        ) from None
    # Torn: a file system that lost its last seconds leaves nothing, zeros, or a beginning.
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    if not text.startswith(_BEGINNING[: len(text)]):
        raise InputError(
            f"'{escape(str(path))}' is not an upload's journal; it was not touched.", hint="Choose another file."
        )
    try:
        return [_parse(found) for found in json.loads(text)["uploads"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _parse(found: Any) -> Unfinished:
    entry = Unfinished(**found)
    texts = [entry.endpoint_url, entry.bucket, entry.key, entry.begun_at, entry.upload_id or ""]
    if not all(isinstance(text, str) for text in texts) or not is_object_key(entry.key):
        raise ValueError("not an upload of ours")
    return entry
