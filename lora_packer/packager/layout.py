"""An archive is a layout, not a file: byte segments whose every offset is known before a byte is written.

Written out, a layout is the archive. Cut into ranges it is the parts of an upload: any part, again, at any time.
"""

from __future__ import annotations

import io
import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import field
from itertools import accumulate
from typing import BinaryIO, Protocol

from lora_packer.frozen import frozen
from lora_packer.packager.crc32 import crc32_combine, fastest_crc32
from lora_packer.packager.source import Source

# How much is held in memory at a time.
CHUNK = 1 << 20
# Is told how many bytes were written since it was told last.
Tell = Callable[[int], None]
# How much one system call copies: little enough that Ctrl-C is heard soon.
_KERNEL_CHUNK = 1 << 25


class Segment(Protocol):
    """A run of bytes of known size, readable in any range; a layout is one too."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end."""

    def write_to(self, file: BinaryIO, tell: Tell) -> None:
        """Write all of it at the file's position, and tell how many bytes more there are each time."""

    def crc32(self) -> int:
        """Return the CRC-32 of all of it."""


@frozen
class Generated:
    """Bytes held in memory: headers, padding, trailers."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end."""
        return self.data[offset : offset + length]

    def write_to(self, file: BinaryIO, tell: Tell) -> None:
        """Write all of it at the file's position."""
        write_all(file, self.data)
        tell(self.size)

    def crc32(self) -> int:
        """Return the CRC-32 of all of it."""
        return zlib.crc32(self.data)


@frozen
class FileSlice:
    """``size`` bytes of a source file from ``start`` on; ``known_crc32`` is theirs where somebody read them before."""

    source: Source
    start: int
    size: int
    known_crc32: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end. Raises PackError if the source changed."""
        length = min(length, self.size - offset)
        with self.source.open() as descriptor:
            return self.source.read(descriptor, self.start + offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``. Raises PackError as ``read``."""
        with self.source.open() as descriptor:
            self.source.read_into(descriptor, self.start + offset, buffer)

    def write_to(self, file: BinaryIO, tell: Tell) -> None:
        """Write all of it at the file's position, inside the kernel where it can. Raises PackError if it changed."""
        with self.source.open() as descriptor:
            done = 0
            # Only an unbuffered file's descriptor is where the file itself is.
            if isinstance(file, io.FileIO):
                done = _copy_in_kernel(descriptor, file.fileno(), self.start, self.size, tell)
            while done < self.size:
                data = self.source.read(descriptor, self.start + done, min(CHUNK, self.size - done))
                write_all(file, data)
                done += len(data)
                tell(len(data))

    def crc32(self) -> int:
        """Return the CRC-32 of all of it; it is read unless that is known. Raises PackError if the source changed."""
        return read_crc32(self) if self.known_crc32 is None else self.known_crc32


@frozen
class Layout:
    """Segments one after the other.

    Reading and writing raise PackError where a source file is gone or no longer the one that was planned with; the
    content itself is not verified here.
    """

    segments: tuple[Segment, ...]
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = accumulate((segment.size for segment in self.segments), initial=0)
        object.__setattr__(self, "_starts", tuple(starts))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._starts[-1]

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; fewer only at the end."""
        if offset < 0 or length < 0:
            raise ValueError(f"no such range: {length} bytes at {offset}")
        return b"".join(segment.read(within, count) for segment, within, count in self._parts(offset, length))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer, no longer than what is left, with the bytes at ``offset``: files are read right into it."""
        if offset < 0 or offset + len(buffer) > self.size:
            raise ValueError(f"no such range: {len(buffer)} bytes at {offset}")
        for segment, within, count in self._parts(offset, len(buffer)):
            part, buffer = buffer[:count], buffer[count:]
            if isinstance(segment, FileSlice):
                segment.read_into(within, part)
            else:
                part[:] = segment.read(within, count)

    def _parts(self, offset: int, length: int) -> Iterator[tuple[Segment, int, int]]:
        """Yield the segments that a range lies in, where it begins in each, and how much of it is there."""
        end = min(offset + length, self.size)
        index = bisect_right(self._starts, offset) - 1
        while offset < end:
            count = min(end, self._starts[index + 1]) - offset
            if count > 0:
                yield self.segments[index], offset - self._starts[index], count
                offset += count
            index += 1

    def write_to(self, file: BinaryIO, tell: Tell = lambda _count: None) -> None:
        """Write all of it at the file's position, in bounded memory.

        Into an unbuffered file (``open(..., buffering=0)``) the slices of source files are copied by the kernel.
        """
        for segment in self.segments:
            segment.write_to(file, tell)

    def crc32(self) -> int:
        """Return the CRC-32 of all of it, put together from those of the segments."""
        crc32 = 0
        for segment in self.segments:
            crc32 = crc32_combine(crc32, segment.crc32(), segment.size)
        return crc32

    def write_generated(self, file: BinaryIO) -> None:
        """Write only the generated segments, each in its place counted from the file's start.

        Headers hold checksums; their sizes do not depend on them. So an archive can be written while the checksums are
        still being made, and its headers once more when they are known.
        """
        for start, segment in zip(self._starts, self.segments, strict=False):
            if isinstance(segment, Generated):
                file.seek(start)
                write_all(file, segment.data)


def read_crc32(segment: Segment) -> int:
    """Return the CRC-32 of a segment by reading it, in bounded memory."""
    update, crc32 = fastest_crc32(), 0
    for offset in range(0, segment.size, CHUNK):
        crc32 = update(segment.read(offset, CHUNK), crc32)
    return crc32


def write_all(file: BinaryIO, *pieces: bytes | memoryview) -> None:
    """Write the pieces one after the other, however little of them an unbuffered file takes at a time.

    A real file takes them in one call, without their being put together first: at most 1024 (IOV_MAX of Linux).
    """
    done = 0
    if isinstance(file, io.FileIO) and hasattr(os, "writev"):
        done = os.writev(file.fileno(), pieces)
    for piece in pieces:
        rest = memoryview(piece)[done:]
        done = max(0, done - len(piece))
        while rest:
            rest = rest[file.write(rest) :]


def _copy_in_kernel(source: int, target: int, offset: int, size: int, tell: Tell) -> int:
    """Copy to the target's position, as far as the kernel goes; return how many bytes.

    Not every pair of file systems can (``man 2 copy_file_range``), and not every platform has the call. An error is not
    judged here: the plain copy that follows meets a real one, such as a full disk, by itself.
    """
    if not hasattr(os, "copy_file_range"):
        return 0
    done = 0
    while done < size:
        try:
            copied = os.copy_file_range(source, target, min(size - done, _KERNEL_CHUNK), offset_src=offset + done)
        except OSError:
            break
        if not copied:
            break
        done += copied
        tell(copied)
    return done
