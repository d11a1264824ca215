"""``publish``: check, plan, upload, presign, prove; the first half of a release by way of S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.arguments import BaseSource, require_duration, require_path, require_text
from lora_packer.errors import LoraPackerError
from lora_packer.frozen import frozen
from lora_packer.pipeline import Note, Progress, silent
from lora_packer.pipeline.check import CheckOptions, run_check
from lora_packer.pipeline.local import NO_FILES, Files
from lora_packer.pipeline.notes import note_planned, note_proven, note_published
from lora_packer.pipeline.pack import ArchiveOptions, Packed, finished_archive, plan_folder
from lora_packer.pipeline.place import Here, Place, open_place
from lora_packer.pipeline.read_ahead import read_ahead
from lora_packer.targets import DEFAULT_TARGET
from lora_packer.threads import ahead

if TYPE_CHECKING:
    from boto3.session import Session

    from lora_packer.inspector import Report
    from lora_packer.packager.meter import Meter
    from lora_packer.publisher import Opened, Published, Scouted
    from lora_packer.redact import PresignedUrl

DEFAULT_EXPIRY = timedelta(hours=12)

# The service wants 100 minutes when the URL is handed over, so a URL that was asked for with just those gets a little
# more: minutes pass between minting and submitting.
_SHORTEST = timedelta(minutes=100)
_SLACK = timedelta(minutes=10)


@frozen
class StoreOptions:
    """Where an archive is uploaded to, and how its URL is minted.

    Attributes:
        to: ``s3://bucket/prefix/``; the object's key is content-addressed below it.
        expires_in: how long the URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; None: what the environment says, else AWS.
        allow_private_endpoint: take an endpoint that the internet does not reach, and http, too.
        verify_full: download everything by the URL and hash it.
        session: whose credentials to use; None: AWS's own chain.
    """

    to: str
    expires_in: timedelta = DEFAULT_EXPIRY
    endpoint_url: str | None = None
    allow_private_endpoint: bool = False
    verify_full: bool = False
    session: Session | None = None

    def __post_init__(self) -> None:
        require_text(self.to, "to")
        require_duration(self.expires_in, "expires_in")


@frozen
class Publication:
    """What ``publish`` did: the check, the archive that was sent, and the object with its presigned URL."""

    report: Report | None
    archive: Packed
    published: Published


def publish(
    adapter: str | Path,
    *,
    to: str,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    name: str | None = None,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    check: bool = True,
    options: CheckOptions | None = None,
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
        adapter: a folder or a finished archive; or one on the Hub, at a store or behind a URL, as for ``check``.
        to: ``s3://bucket/prefix/``; the object's key is content-addressed below it.
        expires_in: how long the URL shall live, 100 minutes to 7 days.
        endpoint_url: of an S3-compatible store; default: what the environment says, else AWS.
        name: what the object's name begins with; default: the adapter's own name.
        base_config, base_model, target: what to check against, as for ``check``.
        check: whether to check at all.
        options: how to check, instead of the four before.
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
    require_path(adapter, "adapter")
    checks = options or CheckOptions(base_config, base_model, target, skip=not check)
    store = StoreOptions(to, expires_in, endpoint_url, allow_private_endpoint, verify_full, session)
    archive = ArchiveOptions(include_extras, name, checks.allow_credentials)
    with open_place(adapter, checks, note, extras=include_extras) as place:
        is_file = isinstance(place, Here) and place.path.is_file()
        finished = finished_archive(place.path, name) if is_file else None

        def plan(files: Files, meter: Meter | None = None) -> Packed:
            return finished or plan_folder(place.path, files, archive, sha256=False, meter=meter)

        # Nobody reads what is not checked, or not here yet, before its store was asked.
        is_read = isinstance(place, Here) and not checks.skip
        with read_ahead(partial(plan, NO_FILES)) if is_read else nullcontext() as reading:
            opened = judge_store(store, journal, note)
            scouting = ahead(reading.scout, opened) if reading else None
            with answering(opened, place) as look:
                # The archive's own SHA-256 names what is sent; nobody asks for those of its members.
                report = run_check(place.source, checks, note, sha256=False, progress=look)
            packed = plan(report.checked if report else NO_FILES)
            note_planned(packed, note)
            scouted = scouting.result() if reading and scouting and reading.of(packed) else None
            return Publication(
                report, packed, upload(packed, store, journal, note, progress, opened=opened, scouted=scouted)
            )


def presign(
    s3uri: str,
    *,
    expires_in: timedelta = DEFAULT_EXPIRY,
    endpoint_url: str | None = None,
    allow_private_endpoint: bool = False,
    verify_full: bool = False,
    session: Session | None = None,
    note: Note = silent,
) -> Published:
    """Mint and prove a presigned URL for an archive that is already at the store; nothing is sent.

    ``published.url.reveal()`` is the URL. The arguments are those of ``publish``; ``s3uri`` is ``s3://bucket/key``.
    Raises PublishError, CredentialsError, InputError.
    """
    from lora_packer.publisher import presign_object

    require_text(s3uri, "s3uri")
    require_duration(expires_in, "expires_in")
    published = presign_object(
        s3uri,
        expires_in=with_slack(expires_in),
        endpoint_url=endpoint_url,
        allow_private_endpoint=allow_private_endpoint,
        verify_full=verify_full,
        session=session,
        note=lambda text: note("note", text),
    )
    note_proven(published, note)
    return published


def judge_store(store: StoreOptions, journal: Path | None, note: Note) -> Opened:
    """Judge destination, options and credentials, before the weights are read; ask the bucket, too (``answering``).

    Raises PublishError, CredentialsError, InputError.
    """
    from lora_packer.publisher import open_destination

    return open_destination(
        store.to,
        expires_in=with_slack(store.expires_in),
        endpoint_url=store.endpoint_url,
        session=store.session,
        allow_private_endpoint=store.allow_private_endpoint,
        journal=journal,
        note=lambda text: note("note", text),
    )


@contextmanager
def answering(opened: Opened | None, place: Place) -> Iterator[Progress]:
    """Let an adapter be read while the bucket answers, which takes as long as some round trips.

    The bucket's refusal comes before whatever is found meanwhile. Who reads much calls the function that is given, as
    he would tell progress: it raises as soon as the bucket has refused. An adapter that is elsewhere is not brought
    here before the bucket has answered. Without a destination nothing is asked.

    Raises PublishError, InputError.
    """
    if opened is None:
        yield lambda _done, _total: None
        return
    if not isinstance(place, Here):
        opened.connection()
    try:
        yield lambda _done, _total: opened.require()
    except LoraPackerError:
        opened.connection()
        raise
    opened.connection()


def upload(
    packed: Packed,
    store: StoreOptions,
    journal: Path | None,
    note: Note,
    progress: Progress | None,
    *,
    accept: Callable[[PresignedUrl], object] | None = None,
    opened: Opened | None = None,
    scouted: Scouted | None = None,
) -> Published:
    """Upload an archive (nothing is sent that is there already), mint a URL and prove it.

    ``accept`` is told the URL's form before a byte is sent, and raises where who is to fetch it could not. ``opened``
    is what ``judge_store`` returned, where that was asked, and ``scouted`` what was asked about the archive meanwhile.
    Raises PackError, PublishError, CredentialsError, InputError.
    """
    from lora_packer.publisher import publish as publish_archive

    published = publish_archive(
        packed.content,
        packed.name,
        store.to,
        expires_in=with_slack(store.expires_in),
        endpoint_url=store.endpoint_url,
        allow_private_endpoint=store.allow_private_endpoint,
        journal=journal,
        verify_full=store.verify_full,
        session=store.session,
        accept=accept,
        opened=opened,
        scouted=scouted,
        note=lambda text: note("note", text),
        progress=progress,
    )
    note_published(published, note)
    return published


def with_slack(expires_in: timedelta) -> timedelta:
    """Return how long to mint a URL for that has to live ``expires_in`` when it is handed over."""
    return _SHORTEST + _SLACK if _SHORTEST <= expires_in < _SHORTEST + _SLACK else expires_in
