"""What is the same for every way of an adapter that is on this machine: it is read and checked here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lora_packer.frozen import frozen
from lora_packer.packager.plan import changed_since_checked
from lora_packer.pipeline import Progress
from lora_packer.pipeline.check import CheckOptions, check_section, recheck, run_check
from lora_packer.pipeline.local import Files, read_files
from lora_packer.pipeline.place import Place
from lora_packer.pipeline.receipt import Receipt, Section
from lora_packer.pipeline.service import Run


@frozen
class FromDisk:
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
