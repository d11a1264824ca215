"""Write compressed archives: the headers and checksums that the stored ones have, with deflated data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lora_packer.packager.archive import Member
from lora_packer.packager.deflate import END, deflate, deflate_block, frame, is_worth_it, ranges
from lora_packer.packager.digest import unread
from lora_packer.packager.gzip_layout import HEADER, trailer
from lora_packer.packager.layout import FileSlice, write_all
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_layout
from lora_packer.packager.zip_layout import DEFLATED, STORED, ZipEntry, zip_directory


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        members: what the archive holds.
        pieces: how long the pieces of deflated data are, in bytes and in the file's order; none refers to another, so
            they can be inflated in parallel. None where nothing is compressed.
    """

    members: tuple[Member, ...]
    pieces: tuple[int, ...] | None = None


def write_zip(
    file: io.FileIO, sources: Sequence[Source], members: Callable[[], tuple[Member, ...]], meter: Meter
) -> Written:
    """Write a ``.zip``: each member's data behind the room for its header, then the headers.

    Args:
        file: what is written to, from its start.
        sources: the files.
        members: the same with their checksums, asked for when the data is written.
        meter: counts the bytes that are compressed.

    Raises:
        PackError: a source cannot be read, or changed.
        OSError: the file cannot be written.
    """
    lengths: list[int] = []
    spans = []
    for source in sources:
        method = DEFLATED if is_worth_it(source) else STORED
        offset = file.tell()
        start = file.seek(len(ZipEntry(unread(source), 0, method).local_header(offset)), io.SEEK_CUR)
        if method == DEFLATED:
            lengths += _write_pieces(file, source, deflate, meter)
            write_all(file, END)
        else:
            FileSlice(source, 0, source.size).write_to(file, meter.add)
        spans.append((offset, file.tell() - start, method))
    directory_offset = file.tell()
    known = members()
    directory = []
    for member, (offset, size, method) in zip(known, spans, strict=True):
        entry = ZipEntry(member, size, method)
        file.seek(offset)
        write_all(file, entry.local_header(offset))
        directory.append(entry.central_header(offset))
    file.seek(directory_offset)
    write_all(file, zip_directory(directory, directory_offset))
    return Written(known, tuple(lengths))


def write_tar_gz(
    file: io.FileIO, sources: Sequence[Source], members: Callable[[], tuple[Member, ...]], meter: Meter
) -> Written:
    """Write a ``.tar.gz``, one gzip member. Args and errors are those of ``write_zip``."""
    lengths: list[int] = []
    write_all(file, HEADER)
    for segment in tar_layout([(unread(source), source) for source in sources]).segments:
        if isinstance(segment, FileSlice):
            pieces_of = deflate if is_worth_it(segment.source) else frame
            lengths += _write_pieces(file, segment.source, pieces_of, meter)
        elif segment.size:
            lengths.append(_write_piece(file, deflate_block(segment.read(0, segment.size))))
    known = members()
    content = tar_layout(list(zip(known, sources, strict=True)))
    write_all(file, END + trailer(content.crc32(), content.size))
    return Written(known, tuple(lengths))


_PiecesOf = Callable[[Source, int], AbstractContextManager[Iterator[list[bytes]]]]


def _write_pieces(file: io.FileIO, source: Source, pieces_of: _PiecesOf, meter: Meter) -> list[int]:
    """Write the pieces that a source becomes; return how long they are."""
    lengths = []
    with source.open() as descriptor, pieces_of(source, descriptor) as pieces:
        for piece, (_, size) in zip(pieces, ranges(source), strict=True):
            lengths.append(_write_piece(file, piece))
            meter.add(size)
    return lengths


def _write_piece(file: io.FileIO, parts: list[bytes]) -> int:
    write_all(file, *parts)
    return sum(map(len, parts))
