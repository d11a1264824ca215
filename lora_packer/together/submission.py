"""What is submitted, and what the service says about it: values, checked once at the edge."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeGuard
from urllib.parse import parse_qsl, unquote, urlsplit

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.hub import HubRepo
from lora_packer.redact import PresignedUrl, Secret, escape, scrub

# The documented states of a v1 job (JobInfoSuccessResponse in openapi.yaml of github.com/togethercomputer/openapi),
# and one more that the vendor's own script takes for an end (upload_custom_model.py in
# github.com/togethercomputer/skills). Any other word, such as the "Processing" of the upload page, is a job under way.
COMPLETE = "Complete"
_FAILURES = ("Failed", "Cancelled")
_KNOWN = {status.lower(): status for status in ("Queued", "Running", COMPLETE, *_FAILURES)}

SUBMITTED = "Submitted"
"""The status of a job that was created and not looked at yet; the service's answer to a submission names none."""

_SKEW = timedelta(minutes=15)
_LONGEST_SOURCE = 2_000  # characters; an object's key has 1,024 bytes at the most
_SHORTEST_SECRET = 20  # characters; a shorter value of a query is a date, a number or a word

_ADDRESS = re.compile(r"https?://|[\w.-]+/[\w.-]+$")
_SOURCE = re.compile(r"https?://|[\w.-]+/[\w.-]+(?:@[\w.-]+)?$")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]+")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class Bytes(Protocol):
    """A file's bytes, held to what they were when they were checked."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def known_crc32(self) -> int | None:
        """Their CRC-32, where they were read before."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError where the file changed."""


@frozen
class LocalFiles:
    """An adapter's files on this machine, sent to the service directly: version 2 only.

    Attributes:
        files: each file's name at the adapter's root, and its bytes.
    """

    files: tuple[tuple[str, Bytes], ...]

    def __str__(self) -> str:
        return ", ".join(name for name, _ in self.files)


ModelSource = PresignedUrl | HubRepo | LocalFiles


@frozen
class Submission:
    """One adapter to upload.

    Attributes:
        model_name: the bare name of the adapter; the service puts the account's name before it.
        source: where the service finds the adapter.
        base_model: the id under which the service hosts the base model.
        description: free text, or None.
        hf_token: a token for a private or gated repository; goes with a Hub source only.

    Raises InputError where a name cannot be one.
    """

    model_name: str
    source: ModelSource
    base_model: str
    description: str | None = None
    hf_token: Secret | None = None

    def __post_init__(self) -> None:
        validate_names(self.model_name, self.base_model)
        if self.hf_token and not isinstance(self.source, HubRepo):
            raise InputError(
                "A Hugging Face token goes with a Hub source only.", hint="Leave it out for a presigned URL."
            )

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What the request holds, and the service may echo: the Hub's token; or the URL, and each value of its query
        by itself, since an error of S3's repeats them one by one."""
        if not isinstance(self.source, PresignedUrl):
            return (self.hf_token,) if self.hf_token else ()
        values = (value for _, value in parse_qsl(urlsplit(self.source.reveal()).query))
        return (self.source, *(Secret(value) for value in values if len(value) >= _SHORTEST_SECRET))

    def address(self) -> str:
        """Return what the service is told to fetch: a secret, where it is a presigned URL.

        Raises InputError for local files, and for a revision: neither version of the API has a field for one.
        """
        if isinstance(self.source, PresignedUrl):
            return self.source.reveal()
        if isinstance(self.source, LocalFiles):
            raise InputError(
                "Version 1 of the API takes no files: it fetches them from an address.",
                hint="Leave out --api v1 with a key of a project, or publish them to S3 with --to.",
            )
        if self.source.revision not in (None, "main"):
            raise InputError(
                f"The service takes no revision: it would upload the default branch of {self.source.id}, not "
                f"'{self.source.revision}'.",
                hint="Leave the revision out, or publish that revision's files through S3.",
            )
        return self.source.url


def validate_names(model_name: str, base_model: str) -> None:
    """Raise InputError where the adapter's new name or the base model's id cannot be one."""
    if not _MODEL_NAME.fullmatch(model_name):
        bare = model_name.rpartition("/")[2]
        suggestion = f" Write {bare!r}." if _MODEL_NAME.fullmatch(bare) else ""
        raise InputError(
            f"The model name '{escape(model_name)}' is not a bare name of letters, digits, '.', '_' and '-'.",
            hint=f"Leave the account's name out: the service puts it in front.{suggestion}",
        )
    if not base_model or not _is_one_word(base_model):
        raise InputError(
            f"The base model '{escape(base_model)}' is not a model id: expected one word without spaces.",
            hint="Give the id under which the service hosts the base, like meta-llama/Llama-3.3-70B-Instruct.",
        )


@frozen
class StatusUpdate:
    """One step of a job, in the service's words (escaped and clipped)."""

    status: str
    message: str
    timestamp: str


@frozen
class Job:
    """An upload job. All text is the service's own, escaped and clipped.

    Attributes:
        id: the job's id.
        status: ``Queued``, ``Running``, ``Complete``, ``Failed``, ``Cancelled``; any other word as the service wrote
            it; ``Submitted`` before the first look.
        model_name: the name to deploy and call the adapter by (``<account>/<name>``), or None where not told.
        model_id: the service's id of the model, or None where not told.
        updates: the steps so far, oldest first.
        raw_status: the status as the service wrote it; empty before the first look.
        source: the address or repository that it was told to fetch, without a query; None where that is not told.
    """

    id: str
    status: str
    model_name: str | None = None
    model_id: str | None = None
    updates: tuple[StatusUpdate, ...] = ()
    raw_status: str = ""
    source: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the adapter is uploaded."""
        return self.status == COMPLETE

    @property
    def has_failed(self) -> bool:
        """Whether the job ended without an adapter."""
        return self.status in _FAILURES

    @property
    def is_in_trouble(self) -> bool:
        """Whether something broke off at the service that it may take up again."""
        return self.status == "Error"

    def to_dict(self) -> dict[str, Any]:
        """Return the job as the JSON output has it."""
        return asdict(self)


@frozen
class Sent:
    """A submission whose answer was lost, by which its job is told from those of others.

    Attributes:
        address: what the service was told to fetch, without a query; None where it was told none.
        at: when (UTC, ISO 8601); None where that is not known.
    """

    address: str | None
    at: str | None

    def may_be(self, source: object, created_at: object) -> bool:
        """Whether a job can be that submission's, by what the service tells of it.

        Its source decides, where that is told as a URL or as a repository's ``org/name``. Else the job is none that
        was made before; clocks may differ by 15 minutes, as at S3.
        """
        if self.address is not None and isinstance(source, str) and _ADDRESS.match(source):
            return _path(source) == _path(self.address)
        sent, made = moment(self.at), moment(created_at)
        return sent is None or made is None or made > sent - _SKEW


def _path(address: str) -> str:
    """The path of an address, without its query: a repository, or an object's key."""
    return unquote(urlsplit(address).path).strip("/")


def moment(value: object) -> datetime | None:
    """Return the time (ISO 8601, UTC where it names no zone); None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def news(job: Job, heard: set[StatusUpdate]) -> str:
    """Return what the job's updates say that was not heard before, as one line; it is heard then."""
    fresh = [update for update in job.updates if update not in heard]
    heard.update(fresh)
    return "; ".join(update.message for update in fresh if update.message)


def canonical_status(status: str) -> str:
    """Return a known status in its documented spelling, whatever its case, and any other escaped."""
    return _KNOWN.get(status.strip().lower()) or escape(status, 60)


def told_source(value: object) -> str | None:
    """Return the address or repository that a job was told to fetch, without what may be a secret; None for any other
    word of the service's, such as ``remote_archive``."""
    if not isinstance(value, str) or not _SOURCE.match(value):
        return None
    return escape(scrub(value.partition("?")[0].partition("#")[0]), _LONGEST_SOURCE)


def is_job_id(value: object) -> TypeGuard[str]:
    """Whether this can be a job's id: one word that is safe in an address and on a command line."""
    return isinstance(value, str) and _JOB_ID.fullmatch(value) is not None


def _is_one_word(text: str) -> bool:
    return len(text) <= 256 and text.isascii() and text.isprintable() and " " not in text
