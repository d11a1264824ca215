"""Where an archive goes: looked at before any work, and reached at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_packer.errors import OutputError, PackError
from lora_packer.files import followed, is_stream, names_stdout, open_stream, require_regular
from lora_packer.redact import escape

_PIECE = 1 << 20  # bytes copied at a time


def check_output(output: Path) -> None:
    """Refuse, before any work, an output that cannot be written or should not be replaced. Raises PackError."""
    if is_stream(output):
        return
    try:
        require_regular(output)
    except FileExistsError:
        raise PackError(
            f"{escape(str(output))} is there already and no regular file, so it is not replaced.",
            hint="Choose another output.",
        ) from None
    except OSError as error:
        raise PackError(
            f"{escape(str(output))} cannot be written: {error.strerror}.", hint="Choose another output."
        ) from error
    folder = followed(output).parent
    if not folder.is_dir():
        raise PackError(f"There is no folder {escape(str(folder))} to write to.", hint="Make it, or choose another.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PackError(f"The folder {escape(str(folder))} is not writable.", hint="Choose another output.")


@contextmanager
def place_for(output: Path, archive_format: str) -> Iterator[Path]:
    """Give the path at which to write an archive that is to go to ``output``.

    An archive is read back before it counts, which no stream allows: for one it is written to a temporary file, and
    copied into the stream when the block ends. Raises OSError; OutputError where it is standard output that takes
    nothing more.
    """
    if not is_stream(output):
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="lora-packer-") as folder:
        written = Path(folder, f"archive.{archive_format}")
        yield written
        _copy(written, output)


def _copy(written: Path, output: Path) -> None:
    try:
        with (
            written.open("rb") as file,
            open_stream(output) as stream,
            open(stream.fileno(), "wb", closefd=False) as whole,  # a pipe takes a part of what it is given
        ):
            shutil.copyfileobj(file, whole, _PIECE)
    except OSError as error:
        if names_stdout(output):
            raise OutputError.because(error) from None
        raise
