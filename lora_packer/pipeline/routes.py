"""How an adapter gets to the service: by way of S3, from the Hub, or directly; told apart once, by ``choose``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from lora_packer.adapter.elsewhere import is_stored_archive
from lora_packer.errors import InputError
from lora_packer.hub import repo_in
from lora_packer.pipeline.by_hub import ByHub
from lora_packer.pipeline.by_object import ByObject
from lora_packer.pipeline.by_s3 import ByS3
from lora_packer.pipeline.check import CheckOptions
from lora_packer.pipeline.direct import Direct
from lora_packer.pipeline.local import Files
from lora_packer.pipeline.pack import ArchiveOptions
from lora_packer.pipeline.place import Elsewhere, Here, Place
from lora_packer.pipeline.publish import StoreOptions
from lora_packer.pipeline.receipt import Receipt, Section
from lora_packer.pipeline.service import Run
from lora_packer.redact import escape

if TYPE_CHECKING:
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
