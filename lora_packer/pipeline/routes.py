"""How an adapter gets to the service: by way of S3, from the Hub, or directly; told apart once, by ``choose``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from lora_packer.adapter import REQUIRED
from lora_packer.errors import InputError
from lora_packer.hub import repo_in
from lora_packer.inspector.opening import is_stored_archive
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.plan import changed_since_checked
from lora_packer.packager.source import Source
from lora_packer.pipeline import Progress
from lora_packer.pipeline.by_hub import ByHub
from lora_packer.pipeline.by_object import ByObject
from lora_packer.pipeline.check import CheckOptions, check_section, recheck, run_check
from lora_packer.pipeline.existing import archive_told, unproven
from lora_packer.pipeline.local import Files, read_files
from lora_packer.pipeline.notes import note_planned
from lora_packer.pipeline.pack import ArchiveOptions, Packed, finished_archive, plan_folder
from lora_packer.pipeline.place import Elsewhere, Here, Place
from lora_packer.pipeline.publish import StoreOptions, answering, judge_store, upload
from lora_packer.pipeline.reach import require_reachable
from lora_packer.pipeline.receipt import Receipt, Section
from lora_packer.pipeline.service import Run
from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.publisher import Opened, Published
    from lora_packer.together import Job, ModelSource


class Route(Protocol):
    """One way to the service.

    Attributes:
        DONE: the steps between the check and the submission, in the order in which they are told.
    """

    DONE: ClassVar[tuple[str, ...]]

    @property
    def name(self) -> str:
        """What to call the adapter."""

    @property
    def asked(self) -> Mapping[str, str]:
        """What a receipt holds a later run to, beside what every release has."""

    @property
    def at_hand(self) -> ModelSource | None:
        """What the service reads, where that is known before it is handed over."""

    def require_reachable(self, run: Run) -> None:
        """Raise InputError where it is known by now that the service could not read from there."""

    def require_place(self, run: Run) -> None:
        """Judge where the adapter goes before it is read. Raises PublishError, CredentialsError, InputError."""

    def read(self) -> Files:
        """Read the files that a receipt may name. Raises PackError, InputError."""

    def adapter(self, files: Files) -> Section:
        """Return the adapter as a receipt names it."""

    def is_of(self, record: Receipt, files: Files) -> bool:
        """Whether the receipt is of these files."""

    def check(self, run: Run, record: Receipt, files: Files, options: CheckOptions) -> tuple[Receipt, Files]:
        """Check the adapter; return what was read of it, too.

        Raises CheckFailedError, InconclusiveError, PackError, InputError.
        """

    def address(self, record: Receipt) -> str | None:
        """Return what the service was told to fetch, without a secret; None where it was told no address."""

    def told(self, job: Job, model_name: str) -> str:
        """Return how the identity begins of what a complete job fetched. Raises ServiceError where nothing tells it."""

    def content(self, record: Receipt, files: Files) -> tuple[Receipt, str]:
        """Return the identity of what would be handed over. Raises PackError, PublishError, InputError."""

    def hand_over(self, run: Run, record: Receipt, files: Files) -> tuple[Receipt, ModelSource]:
        """Bring the adapter to where the service reads it. Raises PackError, PublishError, InputError."""

    def confirm(self, run: Run, record: Receipt) -> Receipt:
        """Say whether what the service read is what was checked, once the job has ended."""


def choose(place: Place, archive: ArchiveOptions, store: StoreOptions | None, *, direct: bool, api: str) -> Route:
    """Return the way that ADAPTER's place and the options name; ``store`` is None where no destination was given.

    Raises InputError where they do not go together.
    """
    repo = None
    if isinstance(place, Elsewhere):
        repo = repo_in(place.adapter)
        if is_stored_archive(place.adapter):
            return _stored(store, place.adapter, direct=direct)
    if direct and (repo is not None or store is not None):
        raise InputError(
            "--direct sends a folder to the service itself: neither --to nor a Hub repo goes with it.",
            hint="Give one of the three.",
        )
    if repo is not None:
        if store is not None:
            raise InputError(
                f"--to does not go with {repo}: the service fetches it from the Hub itself, and nothing is uploaded.",
                hint=f"Leave --to out; to go through S3, `lora-packer pack {repo}` first, and release the archive.",
            )
        return ByHub(repo)
    if direct:
        if api == "v1" or (isinstance(place, Here) and not place.path.is_dir()):
            raise InputError(
                "Only a folder can be sent directly, and only through version 2 of the API.",
                hint="Give a folder, without --api v1, or publish through S3 with --to.",
            )
        return Direct(place)
    if store is None:
        raise InputError("--to is missing.", hint="Give s3://bucket/prefix/, or rehearse with --sandbox.")
    return ByS3(place, archive, store)


def _stored(store: StoreOptions | None, adapter: str | Path, *, direct: bool) -> ByObject:
    """An archive that stays where it is. Raises InputError where its bytes would have to be here."""
    if direct or store is None or store.to != adapter:
        raise InputError(
            f"'{escape(str(adapter))}' is in S3 already: neither --to nor --direct goes with it.",
            hint="Leave them out: its URL is minted where it is.",
        )
    return ByObject(store)


@dataclass(frozen=True, slots=True)
class _Local:
    """A folder or a finished archive that is on this machine, or is brought to it."""

    place: Place

    @property
    def name(self) -> str:
        """What to call the adapter."""
        return self.place.name

    @property
    def path(self) -> Path:
        """Where it is on this machine."""
        return self.place.path

    @property
    def at_hand(self) -> None:
        """The service reads nothing that is known before it is handed over."""
        return

    def require_reachable(self, run: Run) -> None:
        """What is sent to the service needs no address."""

    def require_place(self, run: Run) -> None:
        """The service itself is the place."""

    def read(self) -> Files:
        """Read the files for their checksums. Raises PackError, InputError."""
        return read_files(self.path)

    def adapter(self, files: Files) -> Section:
        """Return where it is, and the SHA-256 of its files."""
        return {"source": self.place.told, "sha256": {name: file.member.sha256 for name, file in files.items()}}

    def is_of(self, record: Receipt, files: Files) -> bool:
        """Whether the receipt names the same SHA-256."""
        return bool(record.adapter.get("sha256") == self.adapter(files)["sha256"])

    def check(
        self,
        run: Run,
        record: Receipt,
        files: Files,
        options: CheckOptions,
        progress: Progress | None = None,
    ) -> tuple[Receipt, Files]:
        """Check the files, also where the receipt says that they passed: anybody may have written that.

        Files that were not read before are read by the check itself, for their checksums too; ``progress`` is told how
        far that is. Raises PackError where what was checked are not the files that were read.
        """
        # A check reads no archive's own bytes, and with a selection of rules maybe not all of a file's.
        if not files and (options.skip or options.select or options.ignore or self.path.is_file()):
            files = self.read()
        report = recheck(
            record,
            run.note,
            lambda: run_check(self.place.source, options, run.note, sha256=not files, progress=progress),
        )
        if report is None:
            return replace(record, adapter=self.adapter(files)), files
        files = files or report.checked
        if not files:
            raise changed_since_checked(self.name)
        for name, checked in report.checked.items():
            if name not in files or not files[name].is_same_as(checked):
                raise changed_since_checked(name)
        section = check_section(report, options)
        if record.check is not None and {**record.check, "at": section["at"]} == section:
            section = dict(record.check)
        return record.with_(adapter=self.adapter(files), check=section), files

    def confirm(self, run: Run, record: Receipt) -> Receipt:  # noqa: ARG002 - another way has something to say
        """What was checked is what was sent."""
        return record


@dataclass(frozen=True, slots=True)
class ByS3(_Local):
    """Packed and uploaded; the service fetches the archive by a presigned URL."""

    DONE: ClassVar[tuple[str, ...]] = ("pack", "upload", "presign")

    archive: ArchiveOptions
    store: StoreOptions
    # The store that was judged, if it was: what is sent goes over the same connection.
    _judged: list[Opened] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def asked(self) -> Mapping[str, str]:
        """Nothing more: ``to`` says it."""
        return {}

    def require_reachable(self, run: Run) -> None:
        """Raise InputError where the service cannot reach the given endpoint; of others it is known once a URL is."""
        if self.store.endpoint_url is not None:
            self._reach(run, self.store.endpoint_url)

    def require_place(self, run: Run) -> None:
        """Judge destination, expiry and credentials. Raises PublishError, CredentialsError, InputError."""
        self._judged[:] = [judge_store(self.store, None, run.note)]

    @property
    def _opened(self) -> Opened | None:
        return self._judged[0] if self._judged else None

    def check(
        self,
        run: Run,
        record: Receipt,
        files: Files,
        options: CheckOptions,
        progress: Progress | None = None,  # noqa: ARG002 - told whether the bucket has refused
    ) -> tuple[Receipt, Files]:
        """Check the files while the bucket answers; its refusal comes first."""
        with answering(self._opened, self.place) as look:
            return _Local.check(self, run, record, files, options, look)

    def address(self, record: Receipt) -> str | None:
        """Return the URL without its query."""
        return (record.url or {}).get("url")

    def told(self, job: Job, model_name: str) -> str:
        """Return the SHA-256 of the archive that it fetched, as far as its key names it. Raises ServiceError."""
        return archive_told(job, model_name)

    def content(self, record: Receipt, files: Files) -> tuple[Receipt, str]:
        """Return the archive's SHA-256; the receipt has the archive. Raises PackError, PublishError, InputError."""
        from lora_packer.publisher import fingerprint

        packed = self._packed(files)
        sha256 = fingerprint(packed.content).sha256
        return replace(record, archive=packed.to_dict(sha256)), sha256

    def hand_over(self, run: Run, record: Receipt, files: Files) -> tuple[Receipt, ModelSource]:
        """Upload the archive of the files that were checked, and return a URL that the service can use.

        Raises PackError, PublishError, InputError.
        """
        from lora_packer.together import MINIMUM_LIFE, require_life

        packed = self._packed(files)
        note_planned(packed, run.note)
        record, published = self._send(run, record, packed)
        if published.deadline - run.now() < MINIMUM_LIFE:  # this machine slept in between
            run.note("presign", "too little is left of the URL's life by now: minting another")
            record, published = self._send(run, record, packed)
        self._reach(run, published.url.reveal())
        require_life(published.url, now=run.now())
        return record, published.url

    def _packed(self, files: Files) -> Packed:
        if self.path.name in files:
            return finished_archive(self.path, self.archive.stem, read=files[self.path.name])
        return plan_folder(self.path, files, self.archive)

    def _send(self, run: Run, record: Receipt, packed: Packed) -> tuple[Receipt, Published]:
        journal = record.path.with_suffix(".upload.json") if record.path else None
        published = upload(
            packed,
            self.store,
            journal,
            run.note,
            run.progress,
            accept=lambda url: self._reach(run, url.reveal()),
            opened=self._opened,
        )
        summary = published.to_dict()
        stored = summary.pop("object")
        return record.with_(archive=packed.to_dict(stored["sha256"]), object=stored, url=summary), published

    def _reach(self, run: Run, url: str) -> None:
        require_reachable(url, run.client.base_url, allow_private=self.store.allow_private_endpoint)


@dataclass(frozen=True, slots=True)
class Direct(_Local):
    """Sent file by file to the service itself, without S3: version 2 of the API only."""

    DONE: ClassVar[tuple[str, ...]] = ()

    @property
    def asked(self) -> Mapping[str, str]:
        """That it goes this way."""
        return {"source": "direct"}

    def require_reachable(self, run: Run) -> None:
        """What is sent to the service needs no address, but version 2 of the API. Raises InputError."""
        if run.api.NAME == "v1":
            raise InputError(
                "A folder is sent to the service itself through version 2 of the API only, and version 1 was chosen.",
                hint="Use a key of a project, or set TOGETHER_PROJECT_ID; or publish through S3 with --to.",
            )

    def address(self, record: Receipt) -> None:  # noqa: ARG002 - the protocol has it
        """The service fetches nothing."""
        return

    def told(self, job: Job, model_name: str) -> str:
        """Nothing tells it: the service has the files, and no digest of them. Raises ServiceError."""
        raise unproven(job, model_name, "--direct sends files, and the service tells no digest of those it has")

    def content(self, record: Receipt, files: Files) -> tuple[Receipt, str]:  # noqa: ARG002 - the protocol has it
        """Return nothing that could be compared."""
        return record, ""

    def hand_over(self, run: Run, record: Receipt, files: Files) -> tuple[Receipt, ModelSource]:
        """Return the files that were checked, to be sent with the submission."""
        from lora_packer.together import LocalFiles

        source = LocalFiles(tuple((name, self._file(name, files)) for name in REQUIRED))
        run.note("submit", f"sending {source} to the service itself")
        return record, source

    def _file(self, name: str, files: Files) -> FileSlice:
        path = (self.path / name).resolve()
        if name not in files:
            source = Source.at(path, name)
            return FileSlice(source, 0, source.size)
        read = files[name]
        return FileSlice(Source(name, path, read.state), 0, read.state.size, read.member.crc32)
