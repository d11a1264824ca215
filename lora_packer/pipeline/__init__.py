"""The steps that lead to a presigned URL: check -> pack -> upload -> presign -> prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.adapter import REQUIRED, AdapterSource
from lora_packer.errors import CheckFailedError, InconclusiveError, InputError
from lora_packer.hub import repo_in
from lora_packer.inspector import Report, check
from lora_packer.inspector.check import BaseSource
from lora_packer.inspector.profiles import DEFAULT_TARGET
from lora_packer.packager import Archive, CheckedFile, LeftOut, Member, plan_archive
from lora_packer.packager import pack as write_archive
from lora_packer.packager.digest import digest
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.pack import format_of
from lora_packer.packager.source import Source

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.publisher import Content, Published

DEFAULT_EXPIRY = timedelta(hours=12)

# The service wants 100 minutes when the URL is handed over, so a URL that was asked for with just those gets a little
# more: minutes pass between minting and submitting.
_SHORTEST = timedelta(minutes=100)
_SLACK = timedelta(minutes=10)

# Tells a step's name and what it proved.
Note = Callable[[str, str], None]
Progress = Callable[[int, int], None]


def silent(_stage: str, _text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How the adapter is checked before anything else happens; the fields are ``check``'s arguments."""

    base_config: BaseSource | None = None
    base_model: str | None = None
    target: str = DEFAULT_TARGET
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    skip: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What ``publish`` did: the check, the archive that was sent, and the object with its presigned URL."""

    report: Report | None
    archive: Packed
    published: Published


def pack(
    adapter: str | Path,
    output: str | Path,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    check: bool = True,
    include_extras: bool = False,
    compress: bool = False,
) -> Archive:
    """Check an adapter and pack it into a root-level ``.zip`` or ``.tar.gz`` (the suffix of ``output`` chooses).

    The same adapter gives the same bytes, whatever the clock, umask, order or folder.

    Raises:
        CheckFailedError, InconclusiveError: the check (left out with ``check=False``) did not pass.
        PackError: packing failed; nothing was left behind.
        InputError: there is nothing to read, or ``output`` has another suffix.
    """
    options = CheckOptions(base_config, base_model, target, skip=not check)
    report = run_check(adapter, options, silent)
    return write_archive(
        adapter_folder(adapter),
        Path(output),
        include_extras=include_extras,
        compress=compress,
        checked=report.checked if report else {},
    )


def run_check(
    adapter: str | Path | AdapterSource, options: CheckOptions, note: Note, *, sha256: bool = True
) -> Report | None:
    """Check the adapter unless told not to; ``sha256`` is whether who packs it wants its files' SHA-256.

    Raises CheckFailedError, InconclusiveError.
    """
    if options.skip:
        note("check", "skipped, as told")
        return None
    report = check(
        adapter,
        base_config=options.base_config,
        base_model=options.base_model,
        target=options.target,
        select=options.select,
        ignore=options.ignore,
        checksums="sha256" if sha256 else "crc32",
    )
    counts = report.summary
    if report.status == "failed":
        count = counts["errors"]
        errors = "1 error" if count == 1 else f"{count} errors"
        message = f"The adapter failed its check with {errors}; nothing was packed or sent."
        raise CheckFailedError(message, report=report)
    if report.status == "inconclusive":
        reason = report.unchecked[0].reason
        raise InconclusiveError(f"The adapter could not be checked: {reason}", report=report)
    fits = f"{report.adapter.tensors} tensors are those that {report.base_model.model_type} and the config call for"
    warned = f", {counts['warnings']} warning{'s' if counts['warnings'] > 1 else ''}" if counts["warnings"] else ""
    note("check", f"{fits}{warned}")
    return report


def local_path(adapter: str | Path) -> Path:
    """Return where an adapter is on this machine. Raises InputError for a Hub repository."""
    repo = repo_in(str(adapter))
    if repo is not None:
        raise InputError(
            f"{repo} is on the Hub, where the service fetches it itself: there is nothing to pack.",
            hint="Submit it with `lora-packer submit`, or download it and give the folder.",
        )
    return Path(adapter)


def adapter_folder(adapter: str | Path) -> Path:
    """Return the adapter's folder. Raises InputError where it is none."""
    path = local_path(adapter)
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is not a folder.", hint="An archive is packed already: publish it as it is.")
    return path


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that can be sent: planned from a folder and written nowhere, or a finished file.

    Attributes:
        stem: its name without the suffix.
        format: ``zip`` or ``tar.gz``.
        content: its bytes.
        members: what it holds; of a finished file that is not known.
        left_out: what stays behind in the folder.
        path: where the finished file is; None where there is none.
    """

    stem: str
    format: str
    content: Content
    members: tuple[Member, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    path: Path | None = None

    @property
    def name(self) -> str:
        """Its name, with the suffix."""
        return f"{self.stem}.{self.format}"

    def to_dict(self, sha256: str) -> dict[str, Any]:
        """Return the archive as receipts have it, given its SHA-256."""
        return {
            "path": str(self.path) if self.path else None,
            "format": self.format,
            "size": self.content.size,
            "sha256": sha256,
            "members": [asdict(member) for member in self.members],
            "left_out": [asdict(entry) for entry in self.left_out],
        }


def finished_archive(path: Path, stem: str | None = None, *, crc32: int | None = None) -> Packed:
    """Return a finished archive; a change to it is noticed from now on, or since its CRC-32 was made.

    Raises InputError, PackError.
    """
    archive_format = _format_of_finished(path)
    source = Source.at(path.resolve())
    return Packed(stem or adapter_name(path), archive_format, FileSlice(source, 0, source.size, crc32), path=path)


def _format_of_finished(path: Path) -> str:
    try:
        return format_of(path)
    except InputError:
        raise InputError(f"{str(path)!r} is neither a folder nor a .zip or .tar.gz archive.") from None


def plan_folder(
    adapter: str | Path,
    stem: str,
    checked: Mapping[str, CheckedFile],
    *,
    include_extras: bool = False,
    sha256: bool = True,
) -> Packed:
    """Plan the archive of a folder, with the checksums that were made of its files. Raises PackError, InputError."""
    plan = plan_archive(adapter_folder(adapter), include_extras=include_extras, checked=checked, sha256=sha256)
    return Packed(stem, plan.format, plan, plan.members, plan.left_out)


def note_planned(packed: Packed, note: Note) -> None:
    """Tell what will be sent."""
    if packed.path is not None:
        note("pack", f"{packed.path.name} is an archive already")
        return
    names = ", ".join(member.name for member in packed.members)
    note("pack", f"{names} at the root of {packed.name}, {packed.content.size:,} bytes, sent without a file of it")


def note_packed(archive: Archive, note: Note) -> None:
    """Tell what was packed."""
    names = ", ".join(member.name for member in archive.members)
    note("pack", f"{names} at the root of {archive.path.name}, {archive.size:,} bytes, sha256 {archive.sha256[:16]}...")


def read_files(adapter: Path) -> dict[str, CheckedFile]:
    """Read what will be packed, or the finished archive, for its checksums; what is not there is left to the check.

    Raises PackError where a file cannot be read, InputError where it is no archive: before it is read.
    """
    if adapter.is_file():
        _format_of_finished(adapter)
    found = {}
    for path in [adapter / name for name in REQUIRED] if adapter.is_dir() else [adapter]:
        if path.is_file():
            source = Source.at(path.resolve(), path.name)
            found[path.name] = CheckedFile(source.state, digest(source))
    return found


def publish(
    adapter: str | Path,
    *,
    to: str,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    name: str | None = None,
    options: CheckOptions = CheckOptions(),
    include_extras: bool = False,
    allow_private_endpoint: bool = False,
    journal: Path | None = None,
    verify_full: bool = False,
    session: Session | None = None,
    note: Note = silent,
    progress: Progress | None = None,
) -> Publication:
    """Check, pack, upload to S3, mint a presigned URL and prove it.

    Args:
        adapter: a folder or a finished archive.
        to: ``s3://bucket/prefix/``; the object's key is content-addressed below it.
        expires_in: how long the URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; default: what the environment says, else AWS.
        name: what the object's name begins with; default: the adapter's own name.
        options: how to check.
        include_extras: also pack README and tokenizer files.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too.
        journal: the file that names the upload while it is unfinished.
        verify_full: download everything by the URL and hash it.
        session: whose credentials to use; default: AWS's own chain.
        note: told each step and what it proved.
        progress: told (bytes sent, bytes in all).

    Raises:
        CheckFailedError, InconclusiveError, PackError, PublishError, CredentialsError, InputError.
    """
    from lora_packer.publisher import publish as publish_archive

    path, stem = local_path(adapter), name or adapter_name(adapter)
    finished = finished_archive(path, stem) if path.is_file() else None
    # The archive's own SHA-256 names what is sent; nobody asks for those of its members.
    report = run_check(adapter, options, note, sha256=False)
    checked = report.checked if report else {}
    packed = finished or plan_folder(path, stem, checked, include_extras=include_extras, sha256=False)
    note_planned(packed, note)
    published = publish_archive(
        packed.content,
        packed.name,
        to,
        expires_in=with_slack(expires_in),
        endpoint_url=endpoint_url,
        allow_private_endpoint=allow_private_endpoint,
        journal=journal,
        verify_full=verify_full,
        session=session,
        note=lambda text: note("note", text),
        progress=progress,
    )
    note_published(published, note)
    return Publication(report, packed, published)


def note_published(published: Published, note: Note) -> None:
    """Tell what an upload and its URL proved."""
    stored = published.object
    done = "uploaded" if stored.uploaded else "was there already, nothing sent"
    note("upload", f"{stored.uri} {done}, {stored.size:,} bytes")
    note_proven(published, note)


def note_proven(published: Published, note: Note) -> None:
    """Tell what a URL proved."""
    proof = published.proof
    note("presign", f"SigV4 GET URL on {proof.host}, good until {published.deadline:%Y-%m-%d %H:%M} UTC")
    if not published.signer_lifetime_known:
        note("warning", "how long the credentials live is unknown; the URL ends with them, maybe before that")
    note("prove", f"a ranged GET of the URL answered {proof.status} for {proof.size:,} bytes")
    for fact in proof.proven[1:]:
        note("prove", fact)
    for doubt in proof.warnings:
        note("warning", doubt)


def with_slack(expires_in: timedelta) -> timedelta:
    """Return how long to mint a URL for that has to live ``expires_in`` when it is handed over."""
    return _SHORTEST + _SLACK if _SHORTEST <= expires_in < _SHORTEST + _SLACK else expires_in


def adapter_name(adapter: str | Path) -> str:
    """Return what to call an adapter: its folder's name, or its archive's without the suffix."""
    name = Path(adapter).resolve().name
    for suffix in (".tar.gz", ".zip"):
        name = name.removesuffix(suffix)
    return name or "adapter"
