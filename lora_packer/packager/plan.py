"""Plan an archive without writing it: everything about it is known but its SHA-256, and any range can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lora_packer.errors import PackError
from lora_packer.frozen import frozen
from lora_packer.packager.archive import LeftOut, Member
from lora_packer.packager.digest import CheckedFile, digest
from lora_packer.packager.layout import Layout
from lora_packer.packager.members import Selection, select
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_gz_layout
from lora_packer.packager.zip_layout import zip_layout

LAYOUTS: Mapping[str, Callable[[Sequence[tuple[Member, Source]]], Layout]] = {
    "zip": zip_layout,
    "tar.gz": tar_gz_layout,
}
NOTHING_CHECKED: Mapping[str, CheckedFile] = MappingProxyType({})


@frozen
class PlannedArchive:
    """A stored archive that is not written: the bytes that ``pack`` would write, readable in any range at any time.

    Reading is safe from several threads at a time. It raises PackError where a source file is gone or no longer in the
    state in which it was planned with.

    Attributes:
        format: ``zip`` or ``tar.gz``.
        layout: where every byte of it comes from.
        members: what it holds, in its order, with their checksums.
        left_out: what stays behind in the folder, by name.
    """

    format: str
    layout: Layout
    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.layout.size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError."""
        return self.layout.read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``. Raises PackError."""
        self.layout.read_into(offset, buffer)

    @property
    def known_crc32(self) -> int | None:
        """The CRC-32 of the whole archive, where that is known without reading its files: of a ``.zip``."""
        return self.crc32() if self.format == "zip" else None

    def crc32(self) -> int:
        """Return the CRC-32 of the whole archive.

        Of a ``.zip`` it is put together from what is known; for that of a ``.tar.gz`` the files are read. Raises
        PackError.
        """
        return self.layout.crc32()


def plan_archive(
    folder: Path,
    archive_format: str = "zip",
    *,
    include_extras: bool = False,
    allow_credentials: bool = False,
    checked: Mapping[str, CheckedFile] = NOTHING_CHECKED,
    sha256: bool = True,
    meter: Meter | None = None,
) -> PlannedArchive:
    """Plan a stored archive of an adapter's folder without writing it.

    Args:
        folder: the adapter's folder.
        archive_format: ``zip`` or ``tar.gz``.
        include_extras: also pack known optional files: model card, tokenizer, chat template and the like.
        allow_credentials: take what looks like a token in one of these for none.
        checked: files that were read already, by name; all others are read once for their checksums.
        sha256: whether the members' SHA-256 are wanted, on which no byte of the archive depends.
        meter: counts the bytes that are read for checksums, and can stop that.

    Raises:
        InputError: there is no such folder.
        PackError: the folder does not hold an adapter that can be packed as it is, or a file changed since it was
            checked.
    """
    selection = select(folder, include_extras=include_extras, allow_credentials=allow_credentials)
    require_unchanged(selection.sources, checked)
    members = read_members(selection.sources, checked, meter or Meter(), sha256=sha256)
    return lay_out(archive_format, selection, members)


def lay_out(archive_format: str, selection: Selection, members: Sequence[Member]) -> PlannedArchive:
    """Return the archive of these files, one member for each."""
    layout = LAYOUTS[archive_format](tuple(zip(members, selection.sources, strict=True)))
    return PlannedArchive(archive_format, layout, tuple(members), selection.left_out)


def read_members(
    sources: Sequence[Source], checked: Mapping[str, CheckedFile], meter: Meter, *, sha256: bool = True
) -> tuple[Member, ...]:
    """Return the sources with their checksums; those that were read for them already are not read again.

    Raises PackError.
    """
    return tuple(
        known_member(source, checked, sha256=sha256) or digest(source, meter, sha256=sha256) for source in sources
    )


def known_member(source: Source, checked: Mapping[str, CheckedFile], *, sha256: bool = True) -> Member | None:
    """Return a file's checksums where all that are wanted are known."""
    member = checked[source.name].member if source.name in checked else None
    return member if member is not None and (member.sha256 or not sha256) else None


def require_unchanged(sources: Sequence[Source], checked: Mapping[str, CheckedFile]) -> None:
    """Raise PackError where a file is no longer the one that was checked."""
    for source in sources:
        if source.name in checked and checked[source.name].state != source.state:
            raise changed_since_checked(source.name)


def changed_since_checked(name: str) -> PackError:
    """Return the error for a file that is not what was checked."""
    return PackError(
        f"{name} is not the file that was checked: it changed since then.",
        hint="Wait until whatever writes it is done, check the adapter again and pack it then.",
    )
