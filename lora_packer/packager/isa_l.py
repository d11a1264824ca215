"""ISA-L (https://github.com/intel/isa-l), zlib's functions many times as fast, where the package ``isal`` is there."""

from __future__ import annotations

import hashlib
from functools import cache
from types import ModuleType


@cache
def isa_l() -> ModuleType | None:
    """Return ISA-L's twin of ``zlib``, or None where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


def clear_registers() -> None:
    """Leave the vector registers as SHA-256 wants them: to be called after ISA-L's CRC-32 and deflate.

    Those two leave the upper halves of the registers in use (https://github.com/intel/isa-l/issues/24). As long as that
    lasts, in this thread and in those that it starts, SHA-256 with the processor's own instructions, which are of
    the older kind, runs at 1.3 GB/s instead of 1.8 (AMD EPYC with AVX-512). The SHA-512 of OpenSSL, half a
    microsecond, is of the newer kind and clears them.
    """
    hashlib.sha512(b"", usedforsecurity=False).digest()
