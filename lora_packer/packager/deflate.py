"""Deflate in parallel: blocks are compressed each by itself, and put together they are one valid stream.

Each piece ends on a byte boundary (a sync flush, https://www.zlib.net/manual.html) and none is the last, so pieces of
any origin can follow one another; ``END`` ends the stream (RFC 1951, https://www.rfc-editor.org/rfc/rfc1951).

The bytes do not depend on the number of threads, but on the compressor: its version, and for ISA-L the processor, too.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from types import ModuleType

from lora_packer.frozen import frozen
from lora_packer.packager.gzip_layout import stored_blocks
from lora_packer.packager.isa_l import clear_registers, isa_l
from lora_packer.packager.source import Source
from lora_packer.threads import in_order

# An empty last block.
END = b"\x03\x00"

# LoRA weights hold no repeats, only skewed exponents: a window of 512 bytes, the smallest there is, makes them as small
# as one of 32 KiB does (0.780), at 840 MB/s a core instead of 430; higher levels only take longer. Text has repeats.
_LEVEL, _MEM_LEVEL = 1, 9
_WINDOW_BITS, _WINDOW_BITS_OF_WEIGHTS = 15, 9
# What is compressed by itself: with twice or half as much at a time it took longer.
_PIECE = 1 << 20
# Each tensor has exponents of its own, so a new block with a new code begins where one ends: 0.3 to 1.5 % smaller than
# with the longest blocks alone, and a block of less than this gains nothing by it. Where they end is read from the
# header as it stands: where that is wrong the deflated data is as right, only longer.
_SHORTEST_BLOCK = 1 << 16
_MOST_HEADER = 1 << 26
_OFFSETS = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d{1,18})\s*\]')
_SAMPLES, _SAMPLE = 8, 1 << 16
_WORTH_IT = 0.95


def window_bits(source: Source) -> int:
    """Return how far back to look for repeats in a file, as the power of 2 of bytes."""
    return _WINDOW_BITS_OF_WEIGHTS if source.name.endswith(".safetensors") else _WINDOW_BITS


@frozen
class Piece:
    """A piece of a file: its content, and what it becomes, in parts."""

    content: bytes
    parts: list[bytes]


Pieces = AbstractContextManager[Iterator[Piece]]
"""The pieces of a file in order, while the block lasts; taking one raises PackError where the file cannot be read, or
changed."""


def deflate(source: Source, descriptor: int) -> Pieces:
    """Compress an opened file in as many threads as there are processors. Memory: a few pieces for each thread."""
    ends = _tensor_ends(source, descriptor)
    return in_order(partial(_deflate_range, source, descriptor, ends), _ranges(source))


def frame(source: Source, descriptor: int) -> Pieces:
    """Frame an opened file as it is, in blocks of a deflated stream."""
    return nullcontext(Piece(block, [stored_blocks(block)]) for block in _blocks(source, descriptor))


def copy(source: Source, descriptor: int) -> Pieces:
    """Leave an opened file as it is."""
    return nullcontext(Piece(block, [block]) for block in _blocks(source, descriptor))


def _blocks(source: Source, descriptor: int) -> Iterator[bytes]:
    return (source.read(descriptor, *span) for span in _ranges(source))


def _ranges(source: Source) -> Iterator[tuple[int, int]]:
    """Yield where the content of each piece lies in a file, and how long it is."""
    for offset in range(0, source.size, _PIECE):
        yield offset, min(_PIECE, source.size - offset)


def _deflate_range(source: Source, descriptor: int, ends: Sequence[int], span: tuple[int, int]) -> Piece:
    """Compress a range of a file by itself; where that makes it longer, frame it as it is."""
    offset, length = span
    inside = ends[bisect_right(ends, offset) : bisect_left(ends, offset + length)]
    block = source.read(descriptor, offset, length)
    return Piece(block, deflate_block(block, window_bits(source), [end - offset for end in inside]))


def deflate_block(block: bytes, window: int = _WINDOW_BITS, ends: Sequence[int] = ()) -> list[bytes]:
    """Compress bytes by themselves, with a new code behind each of ``ends``; where that makes them longer, frame them.

    Return the result in parts.
    """
    compressor = _compressor().compressobj(_LEVEL, zlib.DEFLATED, -window, _MEM_LEVEL)
    parts: list[bytes] = []
    with memoryview(block) as view:
        for begin, end in pairwise((0, *ends, len(block))):
            parts += compressor.compress(view[begin:end]), compressor.flush(zlib.Z_SYNC_FLUSH)
    clear_registers()
    return parts if sum(map(len, parts)) <= len(block) else [stored_blocks(block)]


def _tensor_ends(source: Source, descriptor: int) -> Sequence[int]:
    """Return where tensors of a safetensors file end, in order, 64 KiB apart at least; of another file nothing."""
    if not source.name.endswith(".safetensors") or source.size < _SHORTEST_BLOCK:
        return ()
    start = 8 + int.from_bytes(source.read(descriptor, 0, 8), "little")
    if start > min(source.size, _MOST_HEADER):
        return ()
    offsets = sorted(int(end) for end in _OFFSETS.findall(source.read(descriptor, 8, start - 8)))
    ends = [start]
    for offset in offsets:
        if start + offset - ends[-1] >= _SHORTEST_BLOCK:
            ends.append(start + offset)
    return ends


def is_worth_it(source: Source) -> bool:
    """Say whether deflate makes a file at least 5 % smaller, judged by a sample. Raises PackError."""
    taken = made = 0
    step = max(_SAMPLE, source.size // _SAMPLES)
    with source.open() as descriptor:
        for offset in range(0, source.size, step):
            sample = source.read(descriptor, offset, min(_SAMPLE, source.size - offset))
            taken += len(sample)
            made += sum(map(len, deflate_block(sample, window_bits(source))))
    return made < taken * _WORTH_IT


def compressor_name() -> str:
    """Return what compresses: ``ISA-L`` where the package ``isal`` is installed, else ``zlib``."""
    return "zlib" if isa_l() is None else "ISA-L"


def _compressor() -> ModuleType:
    return isa_l() or zlib
