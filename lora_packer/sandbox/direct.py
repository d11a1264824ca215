"""The sandbox's direct uploads, version 2: an address for each part of a file, and a revision of what was sent."""

from __future__ import annotations

import hashlib
import secrets
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.sandbox.answers import Refused, not_found
from lora_packer.sandbox.archive import ArchiveRefused, inspect_files

MAX_PART = 32 * 2**20  # bytes; the vendor's command line sends 20 MiB


@dataclass(slots=True)
class _File:
    """A file on its way: its digest as it was told, and the parts that arrived."""

    digest: str
    count: int
    upload_id: str = field(default_factory=lambda: f"upload-{uuid.uuid4()}")
    signature: str = field(default_factory=lambda: secrets.token_hex(32))
    parts: dict[int, bytes] = field(default_factory=dict)


@frozen
class Revision:
    """What a model's files and their sizes were at one time, and what the validation said: None where it passed."""

    id: str
    created_at: datetime
    refused: str | None
    files: Mapping[str, int] = field(default_factory=dict)


class DirectUploads:
    """Every direct upload since the start, by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, dict[str, _File]] = {}
        self._revisions: dict[str, list[Revision]] = {}

    def create(self, model_id: str, files: list[dict[str, Any]], address: str) -> dict[str, Any]:
        """Return an address for each part of each file; what arrived whole in an earlier try is not asked for again."""
        with self._lock:
            known = self._open.setdefault(model_id, {})
            answer = []
            for told in files:
                name, digest, count = told.get("path"), told.get("hash"), told.get("numParts")
                if not isinstance(name, str) or not isinstance(digest, str) or type(count) is not int or count < 1:
                    raise Refused(400, "each file needs path, hash and numParts", param="files")
                file = known.get(name)
                if file is None or file.digest != digest:
                    file = known[name] = _File(digest, count)
                if _digest(file) == digest:
                    answer.append({"path": name, "skipUpload": True})
                    continue
                place = f"{address}/direct/{model_id}/{file.upload_id}"
                parts = [
                    {"partNumber": number, "url": f"{place}/{number}?X-Amz-Signature={file.signature}", "headers": {}}
                    for number in range(1, count + 1)
                ]
                answer.append({"path": name, "uploadId": file.upload_id, "parts": parts})
            return {"files": answer}

    def put(self, model_id: str, upload_id: str, number: str, signature: str, body: bytes) -> str:
        """Take a part and return its entity tag. Raises Refused."""
        with self._lock:
            found = [file for file in self._open.get(model_id, {}).values() if file.upload_id == upload_id]
            if not found or not secrets.compare_digest(found[0].signature.encode(), signature.encode()):
                raise Refused(403, "the request's signature does not match", "forbidden_error")
            if not number.isdecimal() or not 1 <= int(number) <= found[0].count:
                raise not_found(f"part {number}")
            found[0].parts[int(number)] = body
        return hashlib.md5(body, usedforsecurity=False).hexdigest()

    def complete(self, model_id: str, files: list[dict[str, Any]]) -> str:
        """Make a revision of what arrived, validate it, and return its id. Raises Refused."""
        with self._lock:
            known = self._open.get(model_id, {})
            for told in files:
                file = known.get(str(told.get("path")))
                if file is None or _digest(file) != file.digest or told.get("hash") != file.digest:
                    raise Refused(400, f"{told.get('path')} did not arrive whole", param="files")
            content = {name: b"".join(file.parts[n] for n in sorted(file.parts)) for name, file in known.items()}
            refused = None
            try:
                inspect_files(content)
            except ArchiveRefused as verdict:
                refused = str(verdict)
            sizes = {name: len(data) for name, data in content.items()}
            revision = Revision(f"rev_{uuid.uuid4().hex[:13]}", datetime.now(UTC), refused, sizes)
            self._revisions.setdefault(model_id, []).append(revision)
            del self._open[model_id]
            return revision.id

    def revisions(self, model_id: str) -> list[Revision]:
        """Return a model's revisions that were sent directly, oldest first."""
        with self._lock:
            return list(self._revisions.get(model_id, []))


def _digest(file: _File) -> str | None:
    """The digest of what arrived; None while a part is missing."""
    if len(file.parts) < file.count:
        return None
    digests = [hashlib.md5(file.parts[number], usedforsecurity=False) for number in sorted(file.parts)]
    if len(digests) == 1:
        return digests[0].hexdigest()
    whole = hashlib.md5(b"".join(one.digest() for one in digests), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(digests)}"
