"""Pack an adapter's folder into a ``.zip`` or ``.tar.gz``: the same contents give the same bytes, everywhere."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_packer.errors import InputError, PackError
from lora_packer.packager.archive import Archive, LeftOut, Member
from lora_packer.packager.layout import CHUNK, Layout
from lora_packer.packager.members import select
from lora_packer.packager.output import check_output, new_file
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_gz_layout
from lora_packer.packager.verify import verify
from lora_packer.packager.zip_layout import zip_layout
from lora_packer.redact import escape

_LAYOUTS: Mapping[str, Callable[[Sequence[tuple[Member, Source]]], Layout]] = {
    "zip": zip_layout,
    "tar.gz": tar_gz_layout,
}


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
    note: Callable[[str], None] | None = None,
) -> Archive:
    """Pack an adapter's folder, read the archive back, and put it in place only when it is right.

    Args:
        folder: the adapter's folder.
        output: the archive to write; its suffix, ``.zip`` or ``.tar.gz``, chooses the format. A regular file that is
            there already is replaced.
        include_extras: also pack known optional files: model card, tokenizer, chat template and the like.
        note: is told each step, as a sentence.

    Raises:
        InputError: there is no such folder, or the suffix is another.
        PackError: the archive could not be made; nothing is left behind, and what was at ``output`` is still there.
    """
    tell = note or (lambda _: None)
    archive_format = format_of(output)
    check_output(output)
    tell(f"Reading {escape(str(folder))}.")
    planned = plan(folder, archive_format, include_extras=include_extras)
    size = planned.layout.size
    try:
        with new_file(output) as file:
            tell(f"Writing {escape(str(output))}: {size:,} bytes.")
            planned.layout.write_to(file)
            tell("Reading it back.")
            sha256 = verify(Path(file.name), planned.members)
    except OSError as error:
        raise PackError(
            f"{escape(str(output))} could not be written: {error.strerror or error}.",
            hint=f"Nothing was left behind. The archive takes {size:,} bytes: is there room?",
        ) from error
    return Archive(output, archive_format, size, sha256, planned.members, planned.left_out)


def format_of(output: Path) -> str:
    """Return the format that a file's suffix names. Raises InputError."""
    for archive_format in _LAYOUTS:
        if output.name.endswith(f".{archive_format}") and output.name != f".{archive_format}":
            return archive_format
    raise InputError(
        f"{escape(str(output))} names no archive format that can be uploaded.",
        hint="End the output's name in .zip or .tar.gz.",
    )


def digest(source: Source) -> Member:
    """Read a file once, in bounded memory, for its size, CRC-32 and SHA-256. Raises PackError."""
    sha256, crc32 = hashlib.sha256(), 0
    with source.open() as descriptor:
        for offset in range(0, source.size, CHUNK):
            data = source.read(descriptor, offset, min(CHUNK, source.size - offset))
            sha256.update(data)
            crc32 = zlib.crc32(data, crc32)
    return Member(source.name, source.size, sha256.hexdigest(), crc32)
