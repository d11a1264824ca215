"""By way of S3: the archive is packed and uploaded, and the service fetches it by a presigned URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, ClassVar

from lora_packer.frozen import frozen
from lora_packer.pipeline import Progress
from lora_packer.pipeline.check import CheckOptions
from lora_packer.pipeline.existing import archive_told
from lora_packer.pipeline.from_disk import FromDisk
from lora_packer.pipeline.local import Files
from lora_packer.pipeline.notes import note_planned
from lora_packer.pipeline.pack import ArchiveOptions, Packed, finished_archive, plan_folder
from lora_packer.pipeline.publish import StoreOptions, answering, judge_store, upload
from lora_packer.pipeline.reach import require_reachable
from lora_packer.pipeline.receipt import Receipt
from lora_packer.pipeline.service import Run

if TYPE_CHECKING:
    from lora_packer.publisher import Opened, Published
    from lora_packer.together import Job, ModelSource


@frozen
class ByS3(FromDisk):
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
            return FromDisk.check(self, run, record, files, options, look)

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
