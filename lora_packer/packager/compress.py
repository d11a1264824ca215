"""Write compressed archives: the headers and checksums that the stored ones have, with deflated data."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import closing

from lora_packer.packager.archive import Member
from lora_packer.packager.deflate import END, deflate, deflate_block, is_worth_it, window_bits
from lora_packer.packager.digest import Digests, read_blocks, unread
from lora_packer.packager.gzip_layout import HEADER, stored_blocks, trailer
from lora_packer.packager.layout import FileSlice, write_all
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.packager.tar_layout import tar_layout
from lora_packer.packager.zip_layout import DEFLATED, STORED, ZipEntry, zip_directory


def write_zip(file: io.FileIO, sources: Sequence[Source], meter: Meter) -> tuple[Member, ...]:
    """Write a ``.zip`` in one pass over the sources; a header is written when its member's sizes are known.

    Raises:
        PackError: a source cannot be read, or changed.
        OSError: the file cannot be written.
    """
    entries, directory = [], []
    for source in sources:
        method = DEFLATED if is_worth_it(source) else STORED
        offset = file.tell()
        start = offset + len(ZipEntry(unread(source), 0, method).local_header(offset))
        file.seek(start)
        member = _write_content(file, source, _as_it_is, meter, is_deflated=method == DEFLATED)
        if method == DEFLATED:
            write_all(file, END)
        end = file.tell()
        entry = ZipEntry(member, end - start, method)
        file.seek(offset)
        write_all(file, entry.local_header(offset))
        file.seek(end)
        entries.append(entry)
        directory.append(entry.central_header(offset))
    write_all(file, zip_directory(directory, file.tell()))
    return tuple(entry.member for entry in entries)


def write_tar_gz(file: io.FileIO, sources: Sequence[Source], meter: Meter) -> tuple[Member, ...]:
    """Write a ``.tar.gz``, one gzip member, in one pass over the sources.

    Raises:
        PackError: a source cannot be read, or changed.
        OSError: the file cannot be written.
    """
    content = tar_layout([(unread(source), source) for source in sources])
    members = []
    write_all(file, HEADER)
    for segment in content.segments:
        if isinstance(segment, FileSlice):
            source = segment.source
            members.append(_write_content(file, source, stored_blocks, meter, is_deflated=is_worth_it(source)))
        elif segment.size:
            write_all(file, deflate_block(segment.read(0, segment.size)))
    content = tar_layout(list(zip(members, sources, strict=True)))
    write_all(file, END + trailer(content.crc32(), content.size))
    return tuple(members)


def _write_content(
    file: io.FileIO, source: Source, frame: Callable[[bytes], bytes], meter: Meter, *, is_deflated: bool
) -> Member:
    """Write a source deflated or, block by block, framed; return what was read."""
    digests = Digests()
    with source.open() as descriptor:
        blocks = read_blocks(source, descriptor, digests, meter)
        pieces = deflate(blocks, window_bits(source)) if is_deflated else (frame(block) for block in blocks)
        with closing(pieces):
            for piece in pieces:
                write_all(file, piece)
    return digests.member(source.name)


def _as_it_is(block: bytes) -> bytes:
    return block
