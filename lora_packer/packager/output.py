"""Where an archive may be written: looked at before any work."""

from __future__ import annotations

import os
import stat
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
