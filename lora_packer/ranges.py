"""A file that is read by byte ranges: what is not asked for is not fetched."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator

_BLOCK = 2**16  # bytes
_KEPT = 256  # blocks


class RangeFile(io.RawIOBase):
    """A file of ``size`` bytes; each read is one call of ``fetch(begin, end)``, which returns exactly those bytes.

    Nothing is read ahead, so that whoever reads a header never fetches what follows it.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read at any offset: yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, or all that are left; fewer only at the end."""
        end = self._size if size is None or size < 0 else min(self._position + size, self._size)
        if end <= self._position:
            return b""
        data = self._fetch(self._position, end)
        self._position = end
        return data


class Blocks:
    """A ``fetch`` of whole blocks that keeps the last ones: for a format that is read in many small pieces.

    Args:
        size: bytes of the file.
        fetch: returns exactly the bytes from ``begin`` to ``end``.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def __call__(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to ``end``; what is missing of them is fetched, neighbours in one request."""
        wanted = range(begin // _BLOCK, (end - 1) // _BLOCK + 1)
        found = {number: self._kept[number] for number in wanted if number in self._kept}
        for first, last in _runs(number for number in wanted if number not in found):
            data = self._fetch(first * _BLOCK, min((last + 1) * _BLOCK, self._size))
            for number in range(first, last + 1):
                at = (number - first) * _BLOCK
                found[number] = data[at : at + _BLOCK]
        for number in wanted[-_KEPT:]:
            self._kept[number] = found[number]
            self._kept.move_to_end(number)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        start = wanted.start * _BLOCK
        return b"".join(found[number] for number in wanted)[begin - start : end - start]


def _runs(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of neighbours."""
    first = last = -2
    for number in numbers:
        if number != last + 1:
            if first >= 0:
                yield first, last
            first = number
        last = number
    if first >= 0:
        yield first, last
