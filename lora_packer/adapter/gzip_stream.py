"""A gzip file read from its beginning to its end, within bounds that Python's own reader does not have.

A gzip file may consist of many members, and each may bring a name and a comment of any length (RFC 1952): empty members
by the hundred thousand and a comment of 20 MB keep ``gzip`` busy for a minute. What it says of its content (checksum,
length) is compared, and nothing may follow it.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

_MAGIC = b"\x1f\x8b\x08"
_HEADER = 10
_EXTRA, _NAME, _COMMENT, _CHECKSUM, _RESERVED = 4, 8, 16, 2, 0xE0
_PIECE = 1 << 16
# pigz and bgzip write members of 64 KB and more; a name is a file's name.
_MOST_TEXT = 1 << 12
_MOST_SMALL_MEMBERS = 1_000
_SMALL = 1 << 12


class GzipStream:
    """The content of a gzip file, read forwards. Every method raises ValueError and EOFError where it is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed = b""  # read from the file, and not looked at yet
        self._ready = b""  # inflated, and not given yet
        self._inflater: zlib._Decompress | None = None
        self._crc = 0
        self._size = 0
        self._small = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        pieces, left = [], size
        while left > 0:
            if not self._ready and not self._more(left):
                break
            pieces.append(self._ready[:left])
            self._ready = self._ready[left:]
            left -= len(pieces[-1])
        return b"".join(pieces)

    def _more(self, wanted: int) -> bool:
        """Inflate something; return False at the end of the last member."""
        while not self._ready and not self._ended:
            if self._inflater is None and not self._begin():
                return False
            assert self._inflater is not None
            if not self._packed:
                self._packed = self._file.read(_PIECE)
                if not self._packed and not self._inflater.eof:
                    raise EOFError("the gzip stream ends early")
            self._ready = self._inflater.decompress(self._packed, max(wanted, _PIECE))
            self._packed = self._inflater.unconsumed_tail
            self._crc = zlib.crc32(self._ready, self._crc)
            self._size += len(self._ready)
            if self._inflater.eof:
                self._finish(self._inflater.unused_data)
        return bool(self._ready)

    def _begin(self) -> bool:
        """Read a member's header; return False where the file is at its end."""
        if not self._packed:
            self._packed = self._file.read(_PIECE)
        if not self._packed:
            self._ended = True
            return False
        header = self._take(_HEADER)
        if header[:3] != _MAGIC:
            raise ValueError("bytes follow the end of the gzip stream")
        flags = header[3]
        if flags & _RESERVED:
            raise ValueError("its gzip header has flags that gzip does not have")
        if flags & _EXTRA:
            self._take(int.from_bytes(self._take(2), "little"))
        for flag in (_NAME, _COMMENT):
            if flags & flag:
                self._skip_text()
        if flags & _CHECKSUM:
            self._take(2)
        self._inflater, self._crc, self._size = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
        return True

    def _finish(self, rest: bytes) -> None:
        self._packed = rest
        self._inflater = None
        trailer = self._take(8)
        if int.from_bytes(trailer[:4], "little") != self._crc:
            raise ValueError("the checksum of its gzip stream does not hold: the file is damaged")
        if int.from_bytes(trailer[4:], "little") != self._size & 0xFFFFFFFF:
            raise ValueError("its gzip stream has another length than it says: the file is damaged")
        self._small += self._size < _SMALL
        if self._small > _MOST_SMALL_MEMBERS:
            raise ValueError(f"it has more than {_MOST_SMALL_MEMBERS:,} gzip members of a few bytes")

    def _take(self, size: int) -> bytes:
        while len(self._packed) < size:
            more = self._file.read(_PIECE)
            if not more:
                raise EOFError("the gzip stream ends early")
            self._packed += more
        taken, self._packed = self._packed[:size], self._packed[size:]
        return taken

    def _skip_text(self) -> None:
        for _ in range(_MOST_TEXT):
            if self._take(1) == b"\0":
                return
        raise ValueError(f"a name or comment in its gzip header has more than {_MOST_TEXT:,} bytes")
