"""From the Hub to the service, which fetches a repository itself.

Before it is told to, the repository is proven to be there, readable, and fit for its base; afterwards, to be still what
was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lora_packer.adapter.hub_source import HubSource
from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.frozen import frozen
from lora_packer.hub import DEFAULT_ENDPOINT, Hub, HubRepo, Snapshot
from lora_packer.inspector import Report
from lora_packer.pipeline import Note
from lora_packer.pipeline.check import CheckOptions, check_section, run_check
from lora_packer.pipeline.existing import commit_told
from lora_packer.pipeline.local import NO_FILES, Files
from lora_packer.pipeline.notes import note_known
from lora_packer.pipeline.receipt import Receipt, Section
from lora_packer.pipeline.service import Run

if TYPE_CHECKING:
    from lora_packer.together import Job, ModelSource

_UNCHECKED = "The service may still be able to fetch it: --no-check submits it unchecked."


@frozen
class ByHub:
    """A repository that the service fetches itself: checked by its header, and named."""

    DONE: ClassVar[tuple[str, ...]] = ()

    repo: HubRepo

    @property
    def name(self) -> str:
        """The repository's name."""
        return self.repo.name

    @property
    def asked(self) -> Mapping[str, str]:
        """The repository."""
        return {"source": str(self.repo)}

    @property
    def at_hand(self) -> HubRepo:
        """The repository."""
        return self.repo

    def require_reachable(self, run: Run) -> None:
        """Whether the Hub can be read is for the check to say."""

    def require_place(self, run: Run) -> None:
        """It stays where it is."""

    def read(self) -> Files:
        """Nothing of it is on this machine."""
        return NO_FILES

    def adapter(self, files: Files) -> Section:  # noqa: ARG002 - the protocol has it
        """Return the repository; its check adds the commit."""
        return {"source": str(self.repo), "sha256": {}}

    def is_of(self, record: Receipt, files: Files) -> bool:  # noqa: ARG002 - the protocol has it
        """What the repository holds may have changed: that is for the check to say."""
        return True

    def address(self, record: Receipt) -> str | None:  # noqa: ARG002 - the protocol has it
        """Return the repository's page."""
        return self.repo.url

    def check(self, run: Run, record: Receipt, files: Files, options: CheckOptions) -> tuple[Receipt, Files]:
        """Check the repository, and write the commit into the receipt; unless a job may have fetched it: then the
        earlier check, and its commit, stand.

        Raises what ``check_repo`` raises.
        """
        if (record.submission or {}).get("state") in ("sending", "submitted"):
            note_known(record.check, run.note)
            return record, files
        checked = check_repo(self.repo, options, run.note)
        if checked is None:
            return record, files
        adapter = {"source": str(self.repo), "sha256": checked.digests, "commit": checked.commit, "pinned": False}
        run.note("hub", "the service takes no revision: it fetches what the default branch holds when the job runs")
        return record.with_(check=check_section(checked.report, options), adapter=adapter), files

    def told(self, job: Job, model_name: str) -> str:
        """Return the commit that it fetched, where its source names one. Raises ServiceError."""
        return commit_told(job, model_name, self.repo)

    def content(self, record: Receipt, files: Files) -> tuple[Receipt, str]:  # noqa: ARG002 - the protocol has it
        """Return the commit that was checked; nothing where the check was skipped."""
        return record, str(record.adapter.get("commit") or "")

    def hand_over(self, run: Run, record: Receipt, files: Files) -> tuple[Receipt, ModelSource]:  # noqa: ARG002
        """Return the repository as the service is told: without a revision that was found to be its default branch."""
        return record, HubRepo(self.repo.id) if record.adapter.get("commit") else self.repo

    def confirm(self, run: Run, record: Receipt) -> Receipt:
        """Say whether the default branch still is at the commit that was checked, now that the service has fetched
        it."""
        commit = record.adapter.get("commit")
        if commit is None or "commit_after" in record.adapter:
            return record
        try:
            after = commit_now(self.repo)
        except LoraPackerError as error:
            run.note("warning", f"whether the service fetched commit {commit[:12]} is not known: {error.message}")
            return record
        if after == commit:
            run.note(
                "hub", f"the default branch still is at commit {commit[:12]}: what was checked is what was fetched"
            )
        else:
            run.note(
                "warning", f"the default branch moved from {commit[:12]} to {after[:12]}: the upload may be of either"
            )
        return record.with_(adapter={**record.adapter, "commit_after": after})


@frozen
class CheckedRepo:
    """A repository as it was checked.

    Attributes:
        repo: as the service is told, which takes no revision: its default branch.
        commit: the id of the commit that was checked.
        digests: the SHA-256 of its large files, as the Hub has them.
        report: what the check found.
    """

    repo: HubRepo
    commit: str
    digests: dict[str, str]
    report: Report


def check_repo(repo: HubRepo, options: CheckOptions, note: Note, *, hub: Hub | None = None) -> CheckedRepo | None:
    """Check a repository as far as it can be without its weights; None where ``options`` say to skip it.

    Only adapter_config.json and the header of adapter_model.safetensors are read, with the token that the service will
    be given: that of HF_TOKEN, unless ``hub`` is connected with another.

    Raises:
        InputError: it is not there, or not for this token; or the revision is not what the service would fetch.
        CheckFailedError: the adapter failed its check.
        InconclusiveError: the Hub, or a required check, gave no answer.
    """
    if options.skip:
        note("check", "skipped, as told")
        return None
    with hub or Hub.from_environment() as connection:
        try:
            snapshot = connection.snapshot(repo)
            note("hub", f"hf://{repo.id} is at commit {snapshot.commit[:12]}")
            _require_default(connection, snapshot)
            report = run_check(HubSource(snapshot), options, note)
            _note_access(connection, snapshot, note)
        except InconclusiveError as error:
            if error.report is not None:
                raise
            raise InconclusiveError(f"{error.message} Nothing was submitted.", hint=_UNCHECKED) from None
    assert report is not None
    note("check", "of the weights only the header was read, so values such as NaN were not looked at")
    return CheckedRepo(HubRepo(repo.id), snapshot.commit, dict(snapshot.digests), report)


def commit_now(repo: HubRepo) -> str:
    """Return the commit that the repository's default branch is at. Raises InputError, InconclusiveError."""
    with Hub.from_environment() as hub:
        return hub.snapshot(HubRepo(repo.id)).commit


def _require_default(hub: Hub, snapshot: Snapshot) -> None:
    """Refuse a revision that is not what the default branch holds: the service has no field for one."""
    if snapshot.repo.revision is None:
        return
    default = hub.snapshot(HubRepo(snapshot.repo.id)).commit
    if default != snapshot.commit:
        raise InputError(
            f"The service takes no revision: it would fetch commit {default[:12]} of {snapshot.repo.id}'s default "
            f"branch, and '{snapshot.repo.revision}' is commit {snapshot.commit[:12]}.",
            hint="Merge the revision into the default branch, or publish its files through S3.",
        )


def _note_access(hub: Hub, snapshot: Snapshot, note: Note) -> None:
    """Tell what was seen once the files were read: with which token, and whether where the service reads them."""
    if snapshot.restricted:
        note("hub", f"it is {snapshot.restricted}, and the token of HF_TOKEN, which the service is given, may read it")
    if hub.endpoint != DEFAULT_ENDPOINT and not hub.is_loopback:
        note("warning", f"HF_ENDPOINT is {hub.endpoint}; the service fetches from {DEFAULT_ENDPOINT}")
