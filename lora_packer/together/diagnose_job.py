"""Why a job stands still: what can be found out from here about what the service is to read.

A job that is looked at was looked at with the key, so the key is accepted. Most often the source can no longer be read
(docs.together.ai/docs/dedicated-endpoints/adapter, "Troubleshooting").
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, LoraPackerError
from lora_packer.exchange import Answer, exchange
from lora_packer.http import connect
from lora_packer.hub import Hub, HubRepo
from lora_packer.names import CONFIG_NAME, REQUIRED
from lora_packer.ranges import RangeFile
from lora_packer.redact import PresignedUrl, escape, scrub
from lora_packer.together.submission import LocalFiles, ModelSource, moment

if TYPE_CHECKING:
    import httpx2

_AGAIN = (
    "Once the job has failed, run the same command again: it mints a new URL and submits again. A job that never ends "
    "keeps its name: then choose a new --model-name and another --receipt."
)
_FILES = set(REQUIRED)
_TIMEOUT = 15.0  # seconds
_HEAD = 2**16  # bytes
_MAX_RANGE = 2**24  # bytes; more than the directory of any archive with an adapter in it
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")


def why_it_stands_still(
    source: ModelSource | None,
    good_until: object = None,
    now: datetime | None = None,
    *,
    transport: httpx2.BaseTransport | None = None,
) -> str:
    """Return what can be told of a job that stands still, in sentences for a person.

    Args:
        source: what was submitted, which is tried; None where it is not at hand any more.
        good_until: what a receipt has for the time (ISO 8601) until which the presigned URL is good.
        now: the time; default: the clock's.
        transport: what carries the requests to a presigned URL; None is the network.
    """
    if isinstance(source, HubRepo):
        found = _repo(source)
    elif isinstance(source, PresignedUrl):
        found = _url(source, transport)
    elif isinstance(source, LocalFiles):
        found = "All files were sent, so the service may be slow."
    else:
        found = _told(good_until, now or datetime.now(UTC))
    return f"The service accepts the key. {found}"


def _told(good_until: object, now: datetime) -> str:
    """What a receipt tells of a URL that is not at hand."""
    deadline = moment(good_until)
    if deadline is None:
        return (
            "Most often it cannot read the source: check that the presigned URL has not expired (--url-file tries it), "
            "or for a Hub repo that HF_TOKEN may read it."
        )
    if deadline > now:
        return f"The presigned URL is good for {format_duration(deadline - now)} more, so the service may be slow."
    gone = format_duration(now - deadline)
    return f"The presigned URL expired {gone} ago, so the source can no longer be read. {_AGAIN}"


def _repo(repo: HubRepo) -> str:
    """What reading a Hub repository now, with HF_TOKEN, tells."""
    try:
        with Hub.from_environment() as hub:
            hub.snapshot(repo).open(CONFIG_NAME).read(1)
    except LoraPackerError as error:
        return str(error)
    return f"{repo} can be read from here, so the service may be slow."


def _url(url: PresignedUrl, transport: httpx2.BaseTransport | None) -> str:
    """What reading a presigned URL now tells: whether it is alive, and whether it points to an archive with an adapter
    at its root. Only the archive's ends are fetched: what a .tar.gz has further on stays unknown."""
    import httpx2

    try:
        with connect(url.reveal(), timeout=_TIMEOUT, transport=transport) as http:
            return _tried(url, http)
    except InputError as wrong:
        what = str(wrong)
    except (httpx2.HTTPError, httpx2.InvalidURL) as trouble:
        what = f"a GET of it ended in {type(trouble).__name__}."
    return f"Whether the presigned URL is alive cannot be told: {what}"


def _tried(url: PresignedUrl, http: httpx2.Client) -> str:
    head, answer = _range(url, http, 0, _HEAD)
    if answer.status not in (200, 206):
        said = _CODE.search(head)
        code = f" ({said[1].decode()})" if said else ""
        return f"The presigned URL is dead: a GET of it answers HTTP {answer.status}{code}. {_AGAIN}"
    size = _size(answer)
    if size is None:
        return "The presigned URL is alive, but does not answer ranges: whether the archive opens cannot be told."
    try:
        missing = _missing(RangeFile(size, lambda begin, end: _range(url, http, begin, end)[0]), size, head)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        why = escape(scrub(str(error), url), 100)
        return f"The presigned URL is alive, but the archive does not open: {why}. Pack it with `lora-packer pack`."
    if missing:
        return f"The presigned URL is alive, but the archive has no {' and no '.join(sorted(missing))} at its root."
    return "The presigned URL is alive and the archive opens, so the service may be slow."


def _range(url: PresignedUrl, http: httpx2.Client, begin: int, end: int) -> tuple[bytes, Answer]:
    """The bytes from ``begin`` to ``end``, as far as they are there; never more than were asked for."""
    if end - begin > _MAX_RANGE:
        raise ValueError("its directory is too large")
    headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
    answer = exchange(http, "GET", url.reveal(), most=end - begin, headers=headers)
    return answer.body, answer


def _size(answer: Answer) -> int | None:
    """The whole object's size, where the answer is a range of it."""
    size = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(size) if answer.status == 206 and re.fullmatch(r"[0-9]{1,20}", size) else None


def _missing(file: RangeFile, size: int, head: bytes) -> set[str]:
    """What an adapter needs and the archive's root does not have, as far as its ends tell. Raises what zipfile, tarfile
    and gzip do."""
    if head.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            return _FILES - {name.removeprefix("./") for name in archive.namelist()}
    if not head.startswith(b"\x1f\x8b"):
        raise ValueError("it is neither a .zip nor a .tar.gz")
    names = set()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(head)) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                names.add(member.name.removeprefix("./"))
            while stream.read(_HEAD):  # to the end, where the checksum is compared
                pass
    except (EOFError, tarfile.TarError):
        if size <= len(head) or not names:
            raise
        return set()  # what comes after the first bytes is not known
    return _FILES - names
