"""What pre-commit calls: the files of adapters become their folders, and the rest are options of ``check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath

from lora_packer.cli import main
from lora_packer.names import REQUIRED


def command_for(words: Sequence[str]) -> list[str] | None:
    """Return the command line of a hook's arguments, or None where no file of an adapter is among them."""
    files = [PurePath(word) for word in words if PurePath(word).name in REQUIRED]
    folders = dict.fromkeys(str(file.parent) for file in files)
    options = [word for word in words if PurePath(word).name not in REQUIRED]
    return ["check", *options, "--", *folders] if folders else None


if __name__ == "__main__":
    command = command_for(sys.argv[1:])
    if command is not None:
        main(command)
