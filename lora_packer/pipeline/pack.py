"""``pack``: check an adapter and write its archive; and what stands for an archive that is sent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.arguments import BaseSource, require_path
from lora_packer.files import followed
from lora_packer.frozen import frozen
from lora_packer.names import name_of
from lora_packer.packager import Archive, CheckedFile, LeftOut, Member, compressor_name, plan_archive
from lora_packer.packager import pack as write_archive
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.pipeline import Note, Progress, silent
from lora_packer.pipeline.check import CheckOptions, run_check
from lora_packer.pipeline.local import Files, archive_format, require_folder
from lora_packer.pipeline.notes import note_packed
from lora_packer.pipeline.place import open_place
from lora_packer.targets import DEFAULT_TARGET

if TYPE_CHECKING:
    from lora_packer.inspector import Report
    from lora_packer.publisher import Content


@frozen
class ArchiveOptions:
    """What an archive that is sent is like.

    Attributes:
        include_extras: whether README and tokenizer files are packed too.
        stem: what its name begins with; None: the adapter's own name.
        allow_credentials: whether what looks like a token in a README is taken for none.
    """

    include_extras: bool = False
    stem: str | None = None
    allow_credentials: bool = False


def pack(
    adapter: str | Path,
    output: str | Path | None = None,
    *,
    base_config: BaseSource | None = None,
    base_model: str | None = None,
    target: str = DEFAULT_TARGET,
    check: bool = True,
    options: CheckOptions | None = None,
    include_extras: bool = False,
    compress: bool = False,
    note: Note = silent,
    progress: Progress | None = None,
) -> Archive:
    """Check an adapter and pack it into a root-level ``.zip`` or ``.tar.gz`` (the suffix of ``output`` chooses).

    The same adapter gives the same bytes, whatever the clock, umask, order or folder. ``output`` is by default a
    ``.zip`` with the adapter's name in the working directory; ``options`` say how to check, instead of the arguments
    before them.

    Raises:
        CheckFailedError, InconclusiveError: the check (left out with ``check=False``) did not pass.
        PackError: packing failed; nothing was left behind.
        InputError: there is nothing to read, or ``output`` has another suffix.
    """
    checks = options or CheckOptions(base_config, base_model, target, skip=not check)
    return check_and_pack(adapter, output, checks, include_extras, compress, note, progress)[0]


def check_and_pack(
    adapter: str | Path,
    output: str | Path | None,
    options: CheckOptions,
    include_extras: bool,
    compress: bool,
    note: Note,
    progress: Progress | None,
) -> tuple[Archive, Report | None]:
    """Do what ``pack`` does, and return what the check found, too; None where it was left out."""
    require_path(adapter, "adapter")
    if output is not None:
        require_path(output, "output")
    with open_place(adapter, options, note, extras=include_extras) as place:
        folder = require_folder(place.path)
        report = run_check(place.source, options, note)
        if compress and compressor_name() == "zlib":
            note("note", "isal is not installed, so zlib compresses, many times slower: pip install isal")
        archive = write_archive(
            folder,
            Path(output) if output is not None else Path(f"{place.name}.zip"),
            include_extras=include_extras,
            allow_credentials=options.allow_credentials,
            compress=compress,
            checked=report.checked if report else {},
            progress=progress,
        )
    note_packed(archive, note)
    return archive, report


@frozen
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


_USUAL = ArchiveOptions()


def finished_archive(path: Path, stem: str | None = None, *, read: CheckedFile | None = None) -> Packed:
    """Return a finished archive; a change to it is noticed from now on, or since it was ``read``.

    Raises InputError, PackError.
    """
    kind = archive_format(path)
    source = Source(path.name, followed(path), read.state) if read else Source.at(followed(path))
    content = FileSlice(source, 0, source.size, read.member.crc32 if read else None)
    return Packed(stem or name_of(path), kind, content, path=path)


def plan_folder(
    folder: Path,
    checked: Files,
    options: ArchiveOptions = _USUAL,
    *,
    sha256: bool = True,
    meter: Meter | None = None,
) -> Packed:
    """Plan the archive of a folder, with the checksums that were made of its files, as ``plan_archive`` does.

    Raises PackError, InputError.
    """
    require_folder(folder)
    plan = plan_archive(
        folder,
        include_extras=options.include_extras,
        allow_credentials=options.allow_credentials,
        checked=checked,
        sha256=sha256,
        meter=meter,
    )
    return Packed(options.stem or name_of(folder), plan.format, plan, plan.members, plan.left_out)
