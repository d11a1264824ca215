"""The members of a tar, read strictly: one reading, or an error.

POSIX.1-2017's ustar and pax formats (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html) and GNU tar's
long names (https://www.gnu.org/software/tar/manual/html_node/Standard.html). Python's ``tarfile`` takes a damaged
header for the end, keeps every extended header in memory, and reads sparse maps of any length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lora_packer.redact import escape

BLOCK = 512
# An extended header holds a name and a few times; all of an archive's together may not weigh more than its weights.
_MOST_EXTENDED = 64 << 10
_MOST_EXTENDED_IN_ALL = 4 << 20
# What may follow a tar's end: zeros up to a full record, which `tar --blocking-factor` makes longer.
_MOST_PADDING = 1 << 20
_MOST_DIGITS = 12
_LARGEST_IN_HEADER = 8**11  # a size that its field cannot hold stands in an extended header alone

_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")

_FILES, _FOLDER, _LONG_NAME, _EXTENDED, _GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"x", b"g"
_LINKS = (b"1", b"2")
_LONG_LINK = b"K"


class TarError(ValueError):
    """The tar is one that is not read: its readers would disagree; the message is the end of a sentence."""


class DamagedTarError(TarError):
    """The tar is not whole; the message is the end of a sentence."""


class Stream(Protocol):
    """What is read forwards."""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""


class Member(NamedTuple):
    """A file or folder of a tar: its name, its size in bytes, and whether it is a file."""

    name: str
    size: int
    is_file: bool


def members(stream: Stream) -> Iterator[Member]:
    """Yield each member with the stream at the start of its data, which the caller may read in part or in whole.

    Only whole reads of the member's bytes through the stream that is given are counted: use ``Counted``.
    """
    counted = stream if isinstance(stream, Counted) else Counted(stream)
    extended_in_all = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while True:
        block = counted.read(BLOCK)
        if not block.strip(b"\0"):
            if block:
                _check_end(counted, block)
            if long_name is not None or pax:
                raise DamagedTarError("it ends behind a header that announces a member")
            return
        header = _Header(block)
        if header.kind in (_LONG_NAME, _EXTENDED, _GLOBAL, _LONG_LINK):
            extended_in_all += header.size
            if header.size > _MOST_EXTENDED or extended_in_all > _MOST_EXTENDED_IN_ALL:
                raise TarError(f"a header in it is longer than {_MOST_EXTENDED:,} bytes, or they are too many")
            data = counted.read(header.size)
            counted.skip(-header.size % BLOCK)
            if len(data) < header.size:
                raise DamagedTarError("it ends early")
            if header.kind == _LONG_LINK:
                raise TarError("it holds a link")
            if header.kind == _LONG_NAME:
                if long_name is not None:
                    raise TarError("a member has two names")
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif header.kind == _GLOBAL:
                _check_global(_records(data))
            else:
                if pax:
                    raise TarError("a member has two extended headers")
                pax = _records(data)
            continue
        member = _member(header, long_name, pax)
        long_name, pax = None, {}
        start = counted.position
        yield member
        counted.skip(start + member.size + -member.size % BLOCK - counted.position)


class Counted:
    """A stream that knows how far it was read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.position = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end."""
        data = self._stream.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """Read past the next ``size`` bytes. Raises TarError where they are not there."""
        while size > 0:
            data = self.read(min(size, 1 << 20))
            if not data:
                raise DamagedTarError("it ends early")
            size -= len(data)


class _Header:
    """A header block, with its checksum compared."""

    def __init__(self, block: bytes) -> None:
        if len(block) < BLOCK:
            raise DamagedTarError("it ends early")
        stated = _number(block[148:156])
        if stated != sum(block) - sum(block[148:156]) + 8 * 0x20:
            raise DamagedTarError("the checksum of a header does not hold")
        self.kind = block[156:157]
        self.size = _number(block[124:136])
        prefix = block[345:500] if block[257:263] == b"ustar\0" else b""
        parts = [part.partition(b"\0")[0] for part in (prefix, block[:100])]
        self.name = b"/".join(part for part in parts if part).decode("utf-8", "surrogateescape")


def _member(header: _Header, long_name: str | None, pax: dict[str, str]) -> Member:
    """Put a member together from its headers. Raises TarError where they disagree, or it is no file or folder."""
    if any(key.startswith("GNU.sparse.") for key in pax):
        raise TarError("it holds a sparse file")
    if pax.get("hdrcharset", "ISO-IR 10646 2000 UTF-8") != "ISO-IR 10646 2000 UTF-8":
        raise TarError("a name in it is in an unknown character set")
    name = pax.get("path", long_name if long_name is not None else header.name)
    if long_name is not None and name != long_name:
        raise TarError("a member has two names")
    shown = escape(name, 80)
    if header.kind in _LINKS:
        raise TarError(f"'{shown}' is a link")
    is_file = header.kind in _FILES and not (header.kind == b"\0" and name.endswith("/"))
    if not is_file and header.kind not in (_FOLDER, b"\0"):
        raise TarError(f"'{shown}' is no plain file")
    size = header.size
    if "size" in pax:
        size = _decimal(pax["size"])
        if header.size not in (0, size) or (size < _LARGEST_IN_HEADER and header.size != size):
            raise TarError(f"'{shown}' has two sizes")
    return Member(name, size if is_file else 0, is_file)


def _number(field: bytes) -> int:
    """A number in a header: octal digits, or GNU tar's binary form."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.fullmatch(field)
    if found is None:  # a NUL before the digits ends the number for one reader, and is passed over by another
        raise DamagedTarError("a header in it has a number that is none")
    return int(found[1] or b"0", 8)


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise DamagedTarError("an extended header in it has a number that is none")
    return int(text)


def _records(data: bytes) -> dict[str, str]:
    """The records of an extended header: ``LENGTH KEY=VALUE\\n``, each of the length that it states."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + _MOST_DIGITS)
        if blank < 0:
            raise DamagedTarError("an extended header in it is damaged")
        end = at + _decimal(data[at:blank].decode("latin-1"))
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if end <= blank + 1 or data[end - 1 : end] != b"\n" or not equals:
            raise DamagedTarError("an extended header in it is damaged")
        name = key.decode("utf-8", "surrogateescape")
        if name in found:
            raise TarError(f"an extended header in it has '{escape(name, 40)}' twice")
        found[name] = value.decode("utf-8", "surrogateescape")
        at = end
    return found


def _check_global(records: dict[str, str]) -> None:
    """Of what a header says for all members, only what changes none of them is taken: git writes a comment."""
    for key in records:
        if key in ("path", "size", "linkpath", "hdrcharset") or key.startswith("GNU.sparse."):
            raise TarError(f"a header for all members in it sets '{escape(key, 40)}'")


def _check_end(stream: Counted, block: bytes) -> None:
    """Require that only zeros follow a block of zeros. Raises TarError."""
    rest = block + stream.read(_MOST_PADDING)
    if rest.strip(b"\0") or len(rest) >= _MOST_PADDING:
        raise TarError("there are bytes after its end")
