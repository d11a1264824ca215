"""Deflate in parallel: blocks are compressed each by itself, and put together they are one valid stream.

Each piece ends on a byte boundary (a sync flush, https://www.zlib.net/manual.html) and none is the last, so pieces of
any origin can follow one another; ``END`` ends the stream (RFC 1951, https://www.rfc-editor.org/rfc/rfc1951).

The bytes do not depend on the number of threads, but on the compressor: its version, and for ISA-L the processor, too.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from types import ModuleType

from lora_packer.packager.gzip_layout import stored_blocks
from lora_packer.packager.source import Source

# An empty last block.
END = b"\x03\x00"

# LoRA weights hold no repeats, only skewed exponents: a window of 512 bytes, the smallest there is, makes them as small
# as one of 32 KiB does (0.780), at 600 MB/s a core instead of 400; higher levels only take longer. Text has repeats.
_LEVEL = 1
_WINDOW_BITS, _WINDOW_BITS_OF_WEIGHTS = 15, 9
_MAX_THREADS = 16
_SAMPLES, _SAMPLE = 8, 1 << 16
_WORTH_IT = 0.95


def window_bits(source: Source) -> int:
    """Return how far back to look for repeats in a file, as the power of 2 of bytes."""
    return _WINDOW_BITS_OF_WEIGHTS if source.name.endswith(".safetensors") else _WINDOW_BITS


def deflate(blocks: Iterable[bytes], window: int = _WINDOW_BITS) -> Generator[bytes]:
    """Compress blocks in as many threads as there are processors; yield the pieces in order.

    Memory: two blocks for each thread, and their pieces. ISA-L and zlib let go of Python's lock while they compress.
    """
    threads = _threads()
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            waiting.append(pool.submit(deflate_block, block, window))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def deflate_block(block: bytes, window: int = _WINDOW_BITS) -> bytes:
    """Compress a block by itself; where that makes it longer, frame it as it is."""
    compressor = _compressor().compressobj(_LEVEL, zlib.DEFLATED, -window)
    piece = b"".join((compressor.compress(block), compressor.flush(zlib.Z_SYNC_FLUSH)))
    return piece if len(piece) <= len(block) else stored_blocks(block)


def is_worth_it(source: Source) -> bool:
    """Say whether deflate makes a file at least 5 % smaller, judged by a sample. Raises PackError."""
    taken = made = 0
    step = max(_SAMPLE, source.size // _SAMPLES)
    with source.open() as descriptor:
        for offset in range(0, source.size, step):
            sample = source.read(descriptor, offset, min(_SAMPLE, source.size - offset))
            taken += len(sample)
            made += len(deflate_block(sample, window_bits(source)))
    return made < taken * _WORTH_IT


def compressor_name() -> str:
    """Return what compresses: ``ISA-L`` where the package ``isal`` is installed, else ``zlib``."""
    return "zlib" if _compressor() is zlib else "ISA-L"


@cache
def _compressor() -> ModuleType:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MAX_THREADS)
