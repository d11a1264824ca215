"""Where an archive is written: a new file that takes its name only when it is complete."""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lora_packer.errors import PackError
from lora_packer.redact import escape


def check_output(output: Path) -> None:
    """Refuse, before any work, an output that cannot be written or should not be replaced. Raises PackError."""
    try:
        mode = output.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PackError(
            f"{escape(str(output))} cannot be written: {error.strerror}.", hint="Choose another output."
        ) from error
    else:
        if not stat.S_ISREG(mode):
            raise PackError(
                f"{escape(str(output))} is there already and no regular file, so it is not replaced.",
                hint="Choose another output.",
            )
    folder = output.parent
    if not folder.is_dir():
        raise PackError(f"There is no folder {escape(str(folder))} to write to.", hint="Make it, or choose another.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PackError(f"The folder {escape(str(folder))} is not writable.", hint="Choose another output.")


@contextmanager
def new_file(output: Path) -> Iterator[io.FileIO]:
    """Give a temporary file beside ``output``; it takes that name when the block ends, or is removed when it fails.

    Only the owner can read it until then; afterwards its mode is 0644 less the umask. Raises OSError.
    """
    temporary = output.with_name(f".lora-packer-{secrets.token_hex(8)}.tmp")
    try:
        with io.FileIO(temporary, "x+", opener=_open_0644) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            os.fchmod(file.fileno(), 0o600)
            yield file
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(output)
        _sync_folder(output.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _open_0644(path: str, flags: int) -> int:
    # The kernel takes the umask off the mode: asking for the umask itself would mean to change it for a moment.
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def _sync_folder(folder: Path) -> None:
    # Not every file system can, and the archive is complete either way.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
