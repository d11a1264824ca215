"""Pack an adapter's folder into a ``.zip`` or ``.tar.gz``: the same contents give the same bytes, everywhere."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_packer.errors import InputError, PackError
from lora_packer.packager.archive import Archive, LeftOut, Member
from lora_packer.packager.compress import write_tar_gz, write_zip
from lora_packer.packager.digest import digest, unread
from lora_packer.packager.layout import Layout
from lora_packer.packager.members import select
from lora_packer.packager.meter import Meter, Progress, aside
from lora_packer.packager.output import check_output, new_file
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_gz_layout
from lora_packer.packager.verify import verify
from lora_packer.packager.zip_layout import zip_layout
from lora_packer.redact import escape

Writer = Callable[[io.FileIO, Sequence[Source], Meter], tuple[Member, ...]]

_LAYOUTS: Mapping[str, Callable[[Sequence[tuple[Member, Source]]], Layout]] = {
    "zip": zip_layout,
    "tar.gz": tar_gz_layout,
}
_COMPRESSORS: Mapping[str, Writer] = {"zip": write_zip, "tar.gz": write_tar_gz}


@dataclass(frozen=True, slots=True)
class Plan:
    """An archive that could be written: all about it is known but its SHA-256."""

    format: str
    layout: Layout
    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]


def plan(folder: Path, archive_format: str, *, include_extras: bool = False) -> Plan:
    """Read the adapter's files once, for their digests, and lay out the archive.

    Args:
        folder: the adapter's folder.
        archive_format: ``zip`` or ``tar.gz``.
        include_extras: also pack known optional files: model card, tokenizer, chat template and the like.

    Raises:
        InputError: there is no such folder.
        PackError: the folder does not hold an adapter that can be packed as it is.
    """
    selection = select(folder, include_extras=include_extras)
    members = tuple(digest(source) for source in selection.sources)
    layout = _LAYOUTS[archive_format](tuple(zip(members, selection.sources, strict=True)))
    return Plan(archive_format, layout, members, selection.left_out)


def pack(
    folder: Path,
    output: Path,
    *,
    include_extras: bool = False,
    compress: bool = False,
    expect: Mapping[str, str] | None = None,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Archive:
    """Pack an adapter's folder, read the archive back, and put it in place only when it is right.

    Args:
        folder: the adapter's folder.
        output: the archive to write; its suffix, ``.zip`` or ``.tar.gz``, chooses the format. A regular file that is
            there already is replaced.
        include_extras: also pack known optional files: model card, tokenizer, chat template and the like.
        compress: deflate the members that get at least 5 % smaller by it. The members are the same, but the archive's
            bytes depend on the compressor's version and, with ISA-L, on the processor.
        expect: the SHA-256, in hex, that members had when they were checked, by name.
        note: is told each step, as a sentence.
        progress: is told (bytes done, bytes in all) of the pass over the files and the one over the archive; from any
            thread, but never twice at a time.

    Raises:
        InputError: there is no such folder, or the suffix is another.
        PackError: the archive could not be made, or a member is not the one that was expected; nothing is left behind,
            and what was at ``output`` is still there.
    """
    tell = note or (lambda _: None)
    archive_format = format_of(output)
    check_output(output)
    tell(f"Reading {escape(str(folder))}.")
    selection = select(folder, include_extras=include_extras)
    size = sum(source.size for source in selection.sources)
    meter = Meter(2 * size, progress)
    write = _COMPRESSORS[archive_format] if compress else _stored(archive_format)
    try:
        with new_file(output) as file:
            tell(f"Writing {escape(str(output))}: {size:,} bytes of content.")
            members = write(file, selection.sources, meter)
            _compare(members, expect or {})
            tell("Reading it back.")
            with aside(meter, os.fsync, file.fileno()) as synced:
                sha256 = verify(Path(file.name), members, compressed=compress, meter=meter)
                synced.result()
            written = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise PackError(
            f"{escape(str(output))} could not be written: {error.strerror or error}.",
            hint=f"Nothing was left behind. The archive takes about {size:,} bytes: is there room?",
        ) from error
    return Archive(output, archive_format, written, sha256, members, selection.left_out)


def _stored(archive_format: str) -> Writer:
    """Return what writes a layout while the checksums are being made, and then the headers that hold them."""
    layout_of = _LAYOUTS[archive_format]

    def write(file: io.FileIO, sources: Sequence[Source], meter: Meter) -> tuple[Member, ...]:
        with aside(meter, lambda: tuple(digest(source, meter) for source in sources)) as digests:
            layout_of([(unread(source), source) for source in sources]).write_to(file)
            members = digests.result()
        layout_of(list(zip(members, sources, strict=True))).write_generated(file)
        return members

    return write


def _compare(members: Sequence[Member], expect: Mapping[str, str]) -> None:
    """Refuse members that are not those that were checked. Raises PackError."""
    found = {member.name: member.sha256 for member in members}
    for name, sha256 in expect.items():
        if name not in found:
            raise PackError(f"{escape(name)} was checked but is not packed.", hint="Check the adapter again.")
        if found[name] != sha256.lower():
            raise PackError(
                f"{escape(name)} is not the file that was checked: its SHA-256 is {found[name]}, not {escape(sha256)}.",
                hint="Wait until whatever writes it is done, check the adapter again and pack it then.",
            )


def format_of(output: Path) -> str:
    """Return the format that a file's suffix names. Raises InputError."""
    for archive_format in _LAYOUTS:
        if output.name.endswith(f".{archive_format}") and output.name != f".{archive_format}":
            return archive_format
    raise InputError(
        f"{escape(str(output))} names no archive format that can be uploaded.",
        hint="End the output's name in .zip or .tar.gz.",
    )
