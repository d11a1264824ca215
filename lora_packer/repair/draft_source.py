"""A draft as an adapter that can be checked: read from what it is made of, or from what was written of it."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, AdapterSource
from lora_packer.folders import NewFolder
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Draft, Span
from lora_packer.repair.layout import Segment, segments

_BUFFER = 64 << 10  # larger reads go past it


class DraftSource:
    """A draft as an adapter that can be checked, though it is written nowhere, or is just being written.

    Args:
        draft, source: the draft, and the files that it is made from.
        written: waits until the files are written, and says where one is; None where they are not.

    Attributes:
        remote: whether its bytes are far away, so that headers are read and no values.
    """

    def __init__(self, draft: Draft, source: AdapterSource, written: Callable[[str], Path] | None = None) -> None:
        self._draft = draft
        self._source = source
        self._parts = segments(draft)
        self._written = written
        self.remote = source.remote
        self.holder = source.holder

    @property
    def name(self) -> str:
        """What to call it: as what it is made from."""
        return self._source.name

    def files(self) -> tuple[str, ...]:
        """Return the files' names."""
        return (CONFIG_NAME, WEIGHTS_NAME, *(name.rpartition("/")[2] for name in self._draft.extras))

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        if name == CONFIG_NAME:
            return len(self._draft.config_file)
        return sum(part.size for part in self._parts) if name == WEIGHTS_NAME else self._source.size(name)

    def path(self, name: str) -> Path | None:
        """Return where a file is, once it is written; None where nothing of it is on the disk."""
        return None if self._written is None else self._written(name)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any offset. Raises InputError."""
        if name == CONFIG_NAME:
            return io.BytesIO(self._draft.config_file)
        if name != WEIGHTS_NAME:
            return self._source.open(name)
        return io.BufferedReader(_Virtual(self._parts, Files(self._source)), _BUFFER)


class WrittenFiles(DraftSource):
    """A draft that is written, read from there."""

    def __init__(self, draft: Draft, source: AdapterSource, folder: NewFolder) -> None:
        super().__init__(draft, source, folder.path)
        self._folder = folder
        self.remote = False
        self.holder = "folder"

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._folder.path(name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any offset."""
        return self._folder.path(name).open("rb")


class _Virtual(io.RawIOBase):
    """A file that is not there, read from what it would be made of; one computed tensor is kept at a time."""

    def __init__(self, parts: list[Segment], files: Files) -> None:
        self._parts = parts
        self._files = files
        self._ends = list(accumulate(part.size for part in parts))
        self._at = 0
        self._kept: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        at = bisect_right(self._ends, self._at)
        if at == len(self._parts):
            return 0
        begin = self._at - (self._ends[at] - self._parts[at].size)
        view = view[: self._parts[at].size - begin]
        what = self._parts[at].what
        if isinstance(what, Span):
            self._files.read_into(view, what.file, what.begin + begin)
        else:
            if self._kept[0] != at:
                self._kept = at, b"".join(self._files.pieces(self._parts[at]))
            view[:] = self._kept[1][begin : begin + len(view)]
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        self._files.__exit__()
        super().close()
