"""Write compressed archives: the headers and checksums that the stored ones have, with deflated data."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from lora_packer.frozen import frozen
from lora_packer.packager.archive import Member
from lora_packer.packager.deflate import END, Pieces, copy, deflate, deflate_block, frame, is_worth_it
from lora_packer.packager.digest import Digests, unread
from lora_packer.packager.gzip_layout import HEADER, trailer
from lora_packer.packager.layout import FileSlice, write_all
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_layout
from lora_packer.packager.zip_layout import DEFLATED, STORED, ZipEntry, zip_directory

# How many pieces the checksums may be behind.
_BEHIND = 4


@frozen
class Written:
    """What was written.

    Attributes:
        members: what the archive holds.
        pieces: how long the pieces of deflated data are, in bytes and in the file's order; none refers to another, so
            they can be inflated in parallel. None where nothing is compressed.
    """

    members: tuple[Member, ...]
    pieces: tuple[int, ...] | None = None


Known = Callable[[Source], Member | None]
"""Returns a file's checksums where a check has made them already."""


def write_zip(file: io.FileIO, sources: Sequence[Source], known: Known, meter: Meter) -> Written:
    """Write a ``.zip``: each member's data behind the room for its header, then the headers.

    Args:
        file: what is written to, from its start.
        sources: the files; they are read once.
        known: the checksums that need not be made.
        meter: counts the bytes that are written, before they are compressed.

    Raises:
        PackError: a source cannot be read, or changed.
        OSError: the file cannot be written.
    """
    lengths: list[int] = []
    entries = []
    for source in sources:
        method = DEFLATED if is_worth_it(source) else STORED
        offset = file.tell()
        start = file.seek(len(ZipEntry(unread(source), 0, method).local_header(offset)), io.SEEK_CUR)
        if method == DEFLATED:
            member, sizes = _write_pieces(file, source, deflate, known, meter)
            lengths += sizes
            write_all(file, END)
        elif (found := known(source)) is not None:
            member = found
            FileSlice(source, 0, source.size).write_to(file, meter.add)
        else:
            member, _ = _write_pieces(file, source, copy, known, meter)
        entries.append((offset, ZipEntry(member, file.tell() - start, method)))
    directory_offset = file.tell()
    for offset, entry in entries:
        file.seek(offset)
        write_all(file, entry.local_header(offset))
    file.seek(directory_offset)
    directory = [entry.central_header(offset) for offset, entry in entries]
    write_all(file, zip_directory(directory, directory_offset))
    return Written(tuple(entry.member for _, entry in entries), tuple(lengths))


def write_tar_gz(file: io.FileIO, sources: Sequence[Source], known: Known, meter: Meter) -> Written:
    """Write a ``.tar.gz``, one gzip member. Args and errors are those of ``write_zip``."""
    lengths: list[int] = []
    members = []
    write_all(file, HEADER)
    for segment in tar_layout([(unread(source), source) for source in sources]).segments:
        if isinstance(segment, FileSlice):
            pieces_of = deflate if is_worth_it(segment.source) else frame
            member, sizes = _write_pieces(file, segment.source, pieces_of, known, meter)
            members.append(member)
            lengths += sizes
        elif segment.size:
            lengths.append(_write_piece(file, deflate_block(segment.read(0, segment.size))))
    content = tar_layout(list(zip(members, sources, strict=True)))
    write_all(file, END + trailer(content.crc32(), content.size))
    return Written(tuple(members), tuple(lengths))


def _write_pieces(
    file: io.FileIO, source: Source, pieces_of: Callable[[Source, int], Pieces], known: Known, meter: Meter
) -> tuple[Member, list[int]]:
    """Write the pieces that a source becomes; return it with its checksums, and how long the pieces are."""
    member, digests, lengths = known(source), Digests(), []
    hashing = nullcontext(_ignore) if member else digests.aside(_BEHIND)
    with source.open() as descriptor, pieces_of(source, descriptor) as pieces, hashing as take:
        for piece in pieces:
            take(piece.content)
            lengths.append(_write_piece(file, piece.parts))
            meter.add(len(piece.content))
    return member or digests.member(source.name), lengths


def _ignore(_: bytes) -> None:
    """Take a piece's content that nobody needs the checksums of."""


def _write_piece(file: io.FileIO, parts: list[bytes]) -> int:
    write_all(file, *parts)
    return sum(map(len, parts))
