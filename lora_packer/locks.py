"""One run at a time for a file: what keeps every other one away."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.files import require_regular
from lora_packer.redact import escape


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other run that asks for ``path`` away while the block runs.

    The lock is a file beside it, ``.NAME.lock``, which stays: whoever removed it could take it from under a run that
    has just opened it. A run that ends, however it ends, holds it no more.

    Raises InputError where another run holds it, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = path.with_name(f".{path.name}.lock")
    try:
        require_regular(lock)
        if not lock.parent.is_dir():  # it would be made
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        held = FileLock(lock, timeout=0)
        held.acquire()
    except Timeout:
        raise InputError(
            f"Another run is using '{escape(str(path))}'.", hint="Wait until it has ended, or name another file."
        ) from None
    except OSError as error:
        raise InputError(
            f"'{escape(str(path))}' cannot be locked: {error.strerror or error}.", hint="Choose another file."
        ) from None
    try:
        yield
    finally:
        held.release()
