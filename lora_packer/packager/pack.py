"""Pack an adapter's folder into a ``.zip`` or ``.tar.gz``: the same contents give the same bytes, everywhere."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from lora_packer.errors import InputError, PackError
from lora_packer.files import is_stream, new_file
from lora_packer.packager.archive import Archive, Member
from lora_packer.packager.compress import Known, Written, write_tar_gz, write_zip
from lora_packer.packager.digest import CheckedFile, unread
from lora_packer.packager.members import Selection, select
from lora_packer.packager.meter import Meter, Progress
from lora_packer.packager.output import check_output, place_for
from lora_packer.packager.plan import (
    LAYOUTS,
    NOTHING_CHECKED,
    PlannedArchive,
    known_member,
    lay_out,
    read_members,
    require_unchanged,
)
from lora_packer.packager.source import Source
from lora_packer.packager.verify import verify
from lora_packer.redact import escape
from lora_packer.threads import aside

_Write = Callable[[io.FileIO, Sequence[Source], Known, Meter], Written]
_COMPRESSORS: Mapping[str, _Write] = {
    "zip": write_zip,
    "tar.gz": write_tar_gz,
}


def pack(
    folder: Path,
    output: Path,
    *,
    include_extras: bool = False,
    allow_credentials: bool = False,
    compress: bool = False,
    checked: Mapping[str, CheckedFile] = NOTHING_CHECKED,
    note: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Archive:
    """Pack an adapter's folder, read the archive back, and put it in place only when it is right.

    Args:
        folder: the adapter's folder.
        output: the archive to write; its suffix, ``.zip`` or ``.tar.gz``, chooses the format. A regular file that is
            there already is replaced; a link is followed. A stream (``-`` for standard output, a named pipe) is
            written into, and gets a ``.zip`` where its name has no suffix.
        include_extras: also pack known optional files: model card, tokenizer, chat template and the like.
        allow_credentials: take what looks like a token in one of these for none.
        compress: deflate the members that get at least 5 % smaller by it. The members are the same, but the archive's
            bytes depend on the compressor's version and, with ISA-L, on the processor.
        checked: files that were read by a check, by name (``Report.checked``): the archive holds exactly those bytes,
            and stored ones are not read again for their checksums.
        note: is told each step, as a sentence.
        progress: is told (bytes done, bytes in all) of all that is read, written and read back; from any thread, but
            never twice at a time.

    Raises:
        InputError: there is no such folder, or the suffix is another.
        PackError: the archive could not be made, or a file is not what was checked; nothing is left behind, and what
            was at ``output`` is still there.
    """
    tell = note or (lambda _: None)
    archive_format = format_of(output)
    check_output(output)
    tell(f"Reading {escape(str(folder))}.")
    selection = select(folder, include_extras=include_extras, allow_credentials=allow_credentials)
    require_unchanged(selection.sources, checked)
    size = sum(source.size for source in selection.sources)
    draft = lay_out(archive_format, selection, [unread(source) for source in selection.sources])
    unknown = sum(source.size for source in selection.sources if known_member(source, checked) is None)
    meter = Meter((size if compress else unknown + draft.size) + size, progress)
    try:
        with place_for(output, archive_format) as place, new_file(place, mode=0o644) as file:
            tell(f"Writing {escape(str(output))}: {size:,} bytes of content.")
            if compress:
                written = _write_compressed(file, archive_format, selection, checked, meter)
            else:
                written = Written(_write_stored(file, draft, selection, checked, meter))
            tell("Reading it back.")
            with aside(meter.stop, os.fsync, file.fileno()) as synced:
                sha256 = verify(Path(file.name), written.members, pieces=written.pieces, meter=meter)
                synced.result()
            packed_size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise PackError(
            f"{escape(str(output))} could not be written: {error.strerror or error}.",
            hint=f"No part of it was left behind. The archive takes about {size:,} bytes: is there room?",
        ) from error
    return Archive(output, archive_format, packed_size, sha256, written.members, selection.left_out)


def _write_stored(
    file: io.FileIO, draft: PlannedArchive, selection: Selection, checked: Mapping[str, CheckedFile], meter: Meter
) -> tuple[Member, ...]:
    """Write the layout while checksums that are not known yet are made, and then the headers that hold them."""
    with aside(meter.stop, read_members, selection.sources, checked, meter) as reading:
        draft.layout.write_to(file, meter.add)
        members = reading.result()
    lay_out(draft.format, selection, members).layout.write_generated(file)
    return members


def _write_compressed(
    file: io.FileIO, archive_format: str, selection: Selection, checked: Mapping[str, CheckedFile], meter: Meter
) -> Written:
    """Write the archive; checksums that are not known yet are made of what is compressed."""
    return _COMPRESSORS[archive_format](file, selection.sources, partial(known_member, checked=checked), meter)


def format_of(output: Path) -> str:
    """Return the format that a file's suffix names; ``zip`` for a stream without one. Raises InputError."""
    for archive_format in LAYOUTS:
        if output.name.endswith(f".{archive_format}") and output.name != f".{archive_format}":
            return archive_format
    if is_stream(output):
        return "zip"
    raise InputError(
        f"{escape(str(output))} names no archive format that can be uploaded.",
        hint="End the output's name in .zip or .tar.gz.",
    )
