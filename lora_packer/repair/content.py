"""The bytes of a draft's weights file: read in place, computed where they have to be, or copied by the kernel."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, AdapterSource
from lora_packer.adapter.safetensors_header import DTYPE_BITS
from lora_packer.errors import InputError
from lora_packer.folders import NewFolder
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Computed, Draft, Span
from lora_packer.repair.layout import Segment, segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 4 << 20
_AT_ONCE = 128 << 20  # what the kernel copies before somebody is told how far it is
# What says that the kernel cannot copy between these two files, and nothing of the files themselves.
_NOT_HERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

Progress = Callable[[int, int], None]


class Files:
    """The files that a draft's bytes come from, each opened once. As a context it closes them."""

    def __init__(self, source: AdapterSource) -> None:
        self.source = source
        self._stack = ExitStack()
        self._open: dict[str, BinaryIO] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._open.clear()

    def file(self, name: str) -> BinaryIO:
        """Return an open file. Raises InputError."""
        if name not in self._open:
            self._open[name] = self._stack.enter_context(self.source.open(name))
        return self._open[name]

    def read(self, span: Span) -> bytes:
        """Return the bytes of a range. Raises InputError where they are not there any more."""
        file = self.file(span.file)
        file.seek(span.begin)
        wanted = span.end - span.begin
        data = file.read(wanted) or b""
        if len(data) != wanted:
            raise _changed(span.file)
        return data

    def read_into(self, view: memoryview, name: str, begin: int) -> None:
        """Fill a buffer with what stands in a file from an offset on. Raises InputError as ``read``."""
        file = self.file(name)
        file.seek(begin)
        while view:
            count = file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise _changed(name)
            view = view[count:]

    def array(self, blob: Blob) -> NDArray[Any]:
        """Return a tensor as unsigned integers as wide as its elements. Raises InputError."""
        import numpy as np

        width = np.dtype(f"<u{max(8, DTYPE_BITS[blob.dtype]) // 8}")
        if isinstance(blob.made, Span):
            return np.frombuffer(self.read(blob.made), width).reshape(blob.shape)
        made = blob.made.compute(*map(self.array, blob.made.parts))
        result = np.asarray(made, order="C").view(width)
        assert result.shape == blob.shape, (blob.made.what, result.shape, blob.shape)
        return result

    def pieces(self, segment: Segment) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a part of the new file. Raises InputError."""
        what = segment.what
        if isinstance(what, bytes):
            yield what
        elif isinstance(what, Span):
            for begin in range(what.begin, what.end, _PIECE):
                yield self.read(Span(what.file, begin, min(begin + _PIECE, what.end)))
        elif isinstance(what.made, Computed) and what.made.elementwise and len(what.made.parts) == 1:
            yield from self._by_element(what, what.made)
        else:
            yield self.array(what).tobytes()

    def _by_element(self, blob: Blob, made: Computed) -> Iterator[bytes]:
        import numpy as np

        part = made.parts[0]
        if not isinstance(part.made, Span):
            yield self.array(blob).tobytes()
            return
        width = DTYPE_BITS[part.dtype] // 8
        for begin in range(part.made.begin, part.made.end, _PIECE):
            span = Span(part.made.file, begin, min(begin + _PIECE, part.made.end))
            yield np.ascontiguousarray(made.compute(np.frombuffer(self.read(span), f"<u{width}"))).tobytes()


def _changed(name: str) -> InputError:
    return InputError(
        f"'{escape(name)}' changed while it was being copied.", hint="Wait until whatever writes it is done."
    )


def write(
    draft: Draft,
    source: AdapterSource,
    folder: NewFolder,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
    weights_name: str = WEIGHTS_NAME,
) -> None:
    """Write the files of a draft into a folder, until it is ``stopped``. Raises InputError, OSError."""
    write_beside(draft, source, folder)
    with folder.create(weights_name) as target:
        write_parts(segments(draft), source, target, progress, stopped)


def write_parts(
    parts: list[Segment],
    source: AdapterSource,
    target: io.FileIO,
    progress: Progress | None,
    stopped: Callable[[], bool],
    *,
    only_copies: bool = False,
) -> None:
    """Write a file of these parts, until it is ``stopped``; with ``only_copies`` room is left for what is not copied.

    Raises InputError, OSError.
    """
    total, done = sum(part.size for part in parts), 0
    with Files(source) as files:
        for part in parts:
            if only_copies and isinstance(part.what, bytes):
                done = target.seek(part.size, io.SEEK_CUR)
                continue
            for count in written(part, files, target):
                done += count
                if progress is not None:
                    progress(done, total)
                if stopped():
                    return


def write_beside(draft: Draft, source: AdapterSource, folder: NewFolder) -> None:
    """Write what lies beside the weights. Raises InputError, OSError."""
    if draft.config:  # a layout without one has none
        with folder.create(CONFIG_NAME) as target:
            _write_all(target, draft.config_file)
    for name in draft.extras:
        with source.open(name) as file, folder.create(name.rpartition("/")[2]) as target:
            while piece := file.read(_PIECE):
                _write_all(target, piece)


def require_written(draft: Draft, folder: NewFolder) -> None:
    """Raise InputError where the files that were written are not those of the draft: its header, and their lengths."""
    parts = segments(draft)
    size = sum(part.size for part in parts)
    with folder.path(WEIGHTS_NAME).open("rb") as file:
        begins = not isinstance(parts[0].what, bytes) or file.read(parts[0].size) == parts[0].what
        is_whole = file.seek(0, io.SEEK_END) == size
    if not (begins and is_whole and folder.path(CONFIG_NAME).read_bytes() == draft.config_file):
        raise InputError("what was written is not what had to be: the disk is at fault.", hint="Choose another disk.")


def written(part: Segment, files: Files, target: io.FileIO) -> Iterator[int]:
    """Write a part of the file where the target stands; yield how many bytes were written, again and again.

    Raises InputError, OSError.
    """
    what = part.what
    if isinstance(what, Span) and files.source.path(what.file) is not None and hasattr(os, "copy_file_range"):
        begin = what.begin
        try:
            for copied in _copied(files.file(what.file).fileno(), target.fileno(), what):
                begin += copied
                yield copied
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        if begin == what.end:
            return
        part = Segment(what.end - begin, Span(what.file, begin, what.end))
    for piece in files.pieces(part):
        _write_all(target, piece)
        yield len(piece)


def _copied(source: int, target: int, span: Span) -> Iterator[int]:
    """Have the kernel copy a range to where the target stands. Raises OSError."""
    left, at = span.end - span.begin, span.begin
    while left:
        count = os.copy_file_range(source, target, min(left, _AT_ONCE), offset_src=at)
        if not count:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        left, at = left - count, at + count
        yield count


def _write_all(target: io.FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) or 0 :]


def are_copied(parts: Sequence[Segment], source: AdapterSource) -> bool:
    """Whether these are ranges of files on this disk, and bytes: what is written is what can be read meanwhile."""
    spans = (part.what for part in parts if not isinstance(part.what, bytes))
    return all(isinstance(what, Span) and source.path(what.file) is not None for what in spans)
