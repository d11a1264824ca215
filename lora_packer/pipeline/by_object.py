"""An archive that is in S3 already: checked by byte ranges, presigned, and named to the service. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lora_packer.errors import PublishError
from lora_packer.frozen import frozen
from lora_packer.pipeline.check import CheckOptions, check_section, recheck, run_check
from lora_packer.pipeline.existing import archive_told
from lora_packer.pipeline.local import NO_FILES, Files
from lora_packer.pipeline.notes import note_known, note_proven
from lora_packer.pipeline.publish import StoreOptions
from lora_packer.pipeline.reach import require_reachable
from lora_packer.pipeline.receipt import Receipt, Section
from lora_packer.pipeline.service import Run

if TYPE_CHECKING:
    from lora_packer.publisher.stored import Look
    from lora_packer.together import Job, ModelSource


@frozen
class ByObject:
    """A finished archive in S3; ``store.to`` is its ``s3://bucket/key``."""

    DONE: ClassVar[tuple[str, ...]] = ("presign",)

    store: StoreOptions

    @property
    def name(self) -> str:
        """The archive's name without its suffix."""
        from lora_packer.publisher import split_suffix

        return split_suffix(self.store.to.rpartition("/")[2])[0]

    @property
    def asked(self) -> Mapping[str, str]:
        """The object."""
        return {"source": self.store.to}

    @property
    def at_hand(self) -> None:
        """The service reads a URL, which is yet to be minted."""
        return

    def require_reachable(self, run: Run) -> None:
        """Raise InputError where the service cannot reach the given endpoint; of others it is known once a URL is."""
        if self.store.endpoint_url is not None:
            self._reach(run, self.store.endpoint_url)

    def require_place(self, run: Run) -> None:
        """It stays where it is; its check says whether it can be read."""

    def read(self) -> Files:
        """Nothing of it is on this machine."""
        return NO_FILES

    def adapter(self, files: Files) -> Section:  # noqa: ARG002 - the protocol has it
        """Return the object; its check adds the ETag."""
        return {"source": self.store.to, "sha256": {}}

    def is_of(self, record: Receipt, files: Files) -> bool:  # noqa: ARG002 - the protocol has it
        """What is under the key may have changed: that is for the check to say."""
        return True

    def check(self, run: Run, record: Receipt, files: Files, options: CheckOptions) -> tuple[Receipt, Files]:
        """Check the archive where it is, and write its ETag into the receipt; unless a job may have fetched it.

        Raises what ``run_check`` and ``open_object`` raise.
        """
        from lora_packer.publisher.reading import open_object

        if (record.submission or {}).get("state") in ("sending", "submitted"):
            note_known(record.check, run.note)
            return record, files
        before = self._look()
        if options.skip:
            run.note("check", "skipped, as told")
            return record.with_(adapter={**self.adapter(files), "etag": before.etag}), files
        store = self.store
        opened = open_object(store.to, store.session, store.endpoint_url)
        with opened as source:
            report = recheck(record, run.note, lambda: run_check(source, options, run.note))
        assert report is not None
        run.note("check", "of the weights only the header was read, so values such as NaN were not looked at")
        adapter = {**self.adapter(files), "etag": before.etag}
        return record.with_(check=check_section(report, options), adapter=adapter), files

    def address(self, record: Receipt) -> str | None:
        """Return the URL without its query."""
        return (record.url or {}).get("url")

    def told(self, job: Job, model_name: str) -> str:
        """Return the SHA-256 of the archive that it fetched, as far as its key names it. Raises ServiceError."""
        return archive_told(job, model_name)

    def content(self, record: Receipt, files: Files) -> tuple[Receipt, str]:  # noqa: ARG002 - the protocol has it
        """Return the digits of the archive's SHA-256 that its key names; nothing where it names none."""
        from lora_packer.publisher import digest_in

        return record, digest_in(self.store.to.replace("s3://", "https://", 1)) or ""

    def hand_over(self, run: Run, record: Receipt, files: Files) -> tuple[Receipt, ModelSource]:  # noqa: ARG002
        """Return a URL of the object that was checked. Raises PublishError where it is another by now, InputError."""
        from lora_packer.publisher import presign_object
        from lora_packer.together import require_life

        store = self.store
        published = presign_object(
            store.to,
            expires_in=store.expires_in,
            endpoint_url=store.endpoint_url,
            session=store.session,
            allow_private_endpoint=True,  # the service's own reach is judged below
            note=lambda text: run.note("presign", text),
        )
        note_proven(published, run.note)
        self._require_same(record, published.object.etag)
        self._reach(run, published.url.reveal())
        require_life(published.url, now=run.now())
        summary = published.to_dict()
        stored = summary.pop("object")
        return record.with_(object=stored, url=summary), published.url

    def confirm(self, run: Run, record: Receipt) -> Receipt:
        """Say whether the key still has what was checked, now that the service has fetched it."""
        try:
            self._require_same(record, self._look().etag)
        except PublishError as error:
            run.note("warning", f"{error.message} The service may have fetched either.")
        return record

    def _require_same(self, record: Receipt, etag: str) -> None:
        known = record.adapter.get("etag")
        if known and etag and etag != known:
            raise PublishError(
                f"{self.store.to} is not what was checked: its ETag was {known}, and is {etag}.",
                hint="Run it again: what is there now is checked first.",
            )

    def _look(self) -> Look:
        from lora_packer.publisher import look_at

        return look_at(self.store.to, self.store.session, self.store.endpoint_url)

    def _reach(self, run: Run, url: str) -> None:
        require_reachable(url, run.client.base_url, allow_private=self.store.allow_private_endpoint)
