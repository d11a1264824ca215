"""Sending an adapter's files to a model of version 2 directly, without a bucket of one's own in between.

The service is told each file's digest and number of parts, and answers with an address for each part. Requests, part
size and digests are those of the vendor's command line (lib/cli/api/models/upload.py in together 3.1.1).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lora_packer.errors import InputError, PackError, ServiceError
from lora_packer.exchange import WORK_DEADLINE, exchange, is_final
from lora_packer.frozen import frozen
from lora_packer.together import refusal
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.source import parse_address
from lora_packer.together.submission import Bytes, LocalFiles
from lora_packer.together.v2.project import project_path
from lora_packer.together.v2.told_places import Place, Remote, remotes_in, require_revision

if TYPE_CHECKING:
    import httpx2

PART_SIZE = 20 * 2**20  # bytes

_WORKERS = 8
_ATTEMPTS = 5
_LARGEST_ANSWER = 2**16  # bytes of what a store says of a part that it took
_CHUNK = 2**20  # bytes


@frozen
class _Part:
    number: int
    size: int


@frozen
class _File:
    name: str
    content: Bytes
    digest: str
    parts: tuple[_Part, ...]


def send_files(client: Client, model_id: str, source: LocalFiles, *, part_size: int = PART_SIZE) -> None:
    """Send the files to the model, which makes a revision of them. What the service has already is not sent again.

    Raises ServiceError where the service refuses or its answer is not to be had, InputError where a file is empty,
    PackError where one cannot be read or is not what was checked.
    """
    files = [_file(name, content, part_size) for name, content in source.files]
    purpose = Purpose(
        action=f"send {source} to the model {model_id}",
        in_doubt="Run the same command again: it looks first, and what arrived is not sent again.",
    )
    told = [{"path": file.name, "hash": file.digest, "numParts": len(file.parts)} for file in files]
    body: dict[str, Any] = {"objectId": model_id, "files": told}
    path = project_path(client, "models", "upload", "create")
    answer = client.request("POST", path, body, retry=True, purpose=purpose)
    remote = remotes_in(answer, {file.name: {part.number for part in file.parts} for file in files}, purpose)
    with client.anonymous(WORK_DEADLINE) as http, ThreadPoolExecutor(_WORKERS) as pool:
        send = _Sender(client, http, purpose, part_size)
        done = [send.file(file, remote[file.name], pool) for file in files]
    path = project_path(client, "models", "upload", "complete")
    answer = client.request("POST", path, {"objectId": model_id, "files": done}, retry=False, purpose=purpose)
    require_revision(answer, purpose)


def _file(name: str, content: Bytes, part_size: int) -> _File:
    """A file in parts with its digest: the MD5 of its one part, else S3's of several.

    The service holds what is sent to the digest, and its CRC-32 is held to that of the check: so what is sent later is
    what was checked.
    """
    digests = []
    parts: list[_Part] = []
    crc32 = 0
    for offset in range(0, content.size, part_size):
        block = content.read(offset, part_size)
        digests.append(hashlib.md5(block, usedforsecurity=False))
        parts.append(_Part(len(parts) + 1, len(block)))
        crc32 = zlib.crc32(block, crc32)
    if not parts:
        raise InputError(f"{name} is empty.", hint="Give an adapter with weights in it.")
    if content.known_crc32 not in (None, crc32):
        raise PackError(
            f"{name} is not the file that was checked: it changed since then.",
            hint="Wait until whatever writes it is done, and run it again.",
        )
    if len(parts) == 1:
        return _File(name, content, digests[0].hexdigest(), tuple(parts))
    whole = hashlib.md5(b"".join(one.digest() for one in digests), usedforsecurity=False)
    return _File(name, content, f"{whole.hexdigest()}-{len(parts)}", tuple(parts))


@frozen
class _Sender:
    client: Client
    http: httpx2.Client
    purpose: Purpose
    part_size: int

    def file(self, file: _File, remote: Remote, pool: ThreadPoolExecutor) -> dict[str, Any]:
        """Send a file's parts at once and return what completes it."""
        told = {"path": file.name, "hash": file.digest}
        if remote.is_there:
            return {**told, "skipUpload": True}
        tags = list(pool.map(lambda part: self.part(file, part, remote.parts[part.number]), file.parts))
        parts = [{"partNumber": part.number, "hash": tag} for part, tag in zip(file.parts, tags, strict=True)]
        return {**told, "uploadDetails": {"uploadId": remote.upload_id, "parts": parts}}

    def part(self, file: _File, part: _Part, place: Place) -> str:
        """Send one part, again where that may help, and return the entity tag that it got. Raises ServiceError."""
        import httpx2

        try:
            url = parse_address(place.url, allow_loopback=self.client.is_loopback)
        except InputError:
            raise refusal.unreadable(self.purpose, 200, "has an address that nothing is sent to") from None
        headers = {**place.headers, "Content-Length": str(part.size)}
        purpose = self.purpose.keeping(url).keeping(self.client.token)
        attempt = 0
        while True:
            attempt += 1
            failure: ServiceError
            try:
                answer = exchange(
                    self.http,
                    "PUT",
                    url.reveal(),
                    most=_LARGEST_ANSWER,
                    headers=headers,
                    content=self._read(file, part),
                    deadline=WORK_DEADLINE,
                )
            except httpx2.RequestError as trouble:
                what = f"the connection broke at part {part.number} of {file.name}"
                failure = refusal.unanswered(purpose, what, type(trouble).__name__, sent=True)
                if is_final(trouble):
                    raise failure from None
            else:
                tag = answer.headers.get("etag", "").strip().strip('"')
                if answer.status == 200 and tag:
                    return tag
                if answer.status == 200:
                    raise refusal.unreadable(purpose, 200, f"has no entity tag for part {part.number}")
                failure = refusal.refused(purpose, answer.status, answer.body, answer.headers)
                if 400 <= answer.status < 500:
                    failure.hint = purpose.in_doubt  # the address is the service's own: it has to give another
            if attempt == _ATTEMPTS or not refusal.is_transient(failure):
                raise failure
            self.client.pause(attempt)

    def _read(self, file: _File, part: _Part) -> Iterator[bytes]:
        begin = (part.number - 1) * self.part_size
        for offset in range(0, part.size, _CHUNK):
            yield file.content.read(begin + offset, min(_CHUNK, part.size - offset))
