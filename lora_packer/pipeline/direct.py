"""Directly: the files go to the service itself, without S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lora_packer.adapter import REQUIRED
from lora_packer.errors import InputError
from lora_packer.files import followed
from lora_packer.frozen import frozen
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.source import Source
from lora_packer.pipeline.existing import unproven
from lora_packer.pipeline.from_disk import FromDisk
from lora_packer.pipeline.local import Files
from lora_packer.pipeline.receipt import Receipt
from lora_packer.pipeline.service import Run

if TYPE_CHECKING:
    from lora_packer.together import Job, ModelSource


@frozen
class Direct(FromDisk):
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
        path = followed(self.path / name)
        if name not in files:
            source = Source.at(path, name)
            return FileSlice(source, 0, source.size)
        read = files[name]
        return FileSlice(Source(name, path, read.state), 0, read.state.size, read.member.crc32)
