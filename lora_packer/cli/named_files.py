"""The files that options name, written and read: ``--output``, ``--url-file``, ``--env-file``.

``-`` is standard output, or standard input where a file is read; devices, named pipes and links stay what they are.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

from lora_packer.cli.common import Output
from lora_packer.cli.ends import print_result
from lora_packer.errors import InputError, OutputError
from lora_packer.files import (
    exists,
    followed,
    is_folder,
    is_no_room,
    is_stream,
    names_stdout,
    require_regular,
    write_whole,
)
from lora_packer.names import REQUIRED
from lora_packer.redact import Secret, escape, inert

_MAX_INPUT = 65_536  # characters that a file or standard input with one URL may have


def write_named(path: Path, text: str, option: str, *, private: bool = False, as_it_is: bool = False) -> None:
    """Write a text into the file that an option names; ``private``: for its owner only.

    No line of it is one that a CI system takes for a command, unless it is meant to be: ``as_it_is``.

    Raises InputError where it is no place to write to, and OutputError where it takes nothing more.
    """
    if names_stdout(path):
        print_result(text, as_it_is=as_it_is)
        return
    try:
        write_whole(path, f"{text if as_it_is else inert(text)}\n", private=private)
    except OSError as error:
        message = f"'{escape(str(path))}' cannot be written: {error.strerror}."
        if is_no_room(error):
            raise OutputError(message) from None
        raise InputError(message, hint=f"Choose another {option}.") from None


def require_place(path: Path | None, option: str, adapter: str | None = None) -> None:
    """Raise InputError where a file could not be written under that name: before there is anything to write.

    The adapter's own files, and an archive that is the adapter, are no place for anything else.
    """
    if path is None or is_stream(path):
        return
    if adapter is not None and _belongs_to(path, Path(adapter)):
        raise InputError(
            f"'{escape(str(path))}' is the adapter's own file; it is not overwritten.", hint=f"Choose another {option}."
        )
    folder = followed(path).parent
    try:
        require_regular(path)
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else error.strerror
    else:
        if not folder.is_dir():
            reason = f"there is no folder '{escape(str(folder))}'"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            reason = "it may not be written to"
        else:
            return
    raise InputError(f"'{escape(str(path))}' cannot be written: {reason}.", hint=f"Choose another {option}.")


def _belongs_to(path: Path, adapter: Path) -> bool:
    own = [adapter / name for name in REQUIRED] if is_folder(adapter) else [adapter]
    return any(exists(path) and exists(file) and path.samefile(file) for file in own)


def require_kept(path: Path | None, option: str, why: str) -> None:
    """Raise InputError where a file that a later run reads again would be a stream; ``why`` says what reads it."""
    if path is not None and is_stream(path):
        raise InputError(
            f"'{escape(str(path))}' is not a regular file, and {why}.", hint=f"Name a regular file with {option}."
        )


def takes_stdout(path: Path | None, output: Output, option: str) -> bool:
    """Whether a file that an option names is standard output, which then has that and nothing else.

    Raises InputError where a JSON object, or another format for machines, is to be there.
    """
    if path is None or not names_stdout(path):
        return False
    if not output.is_text:
        raise InputError(
            f"{option} and --format {output.format.value} would both write to standard output.",
            hint=f"Name a file with {option}.",
        )
    return True


def read_url(path: Path) -> Secret:
    """Return the text that should be a presigned URL, from a file, or for ``-`` from standard input.

    Raises InputError.
    """
    name = "standard input" if str(path) == "-" else f"'{escape(str(path))}'"
    try:
        with nullcontext(sys.stdin) if str(path) == "-" else path.open(encoding="ascii") as stream:
            return Secret(stream.read(_MAX_INPUT))
    except OSError as error:
        raise InputError(
            f"The presigned URL cannot be read from {name}: {error.strerror}.", hint="Check the path and its mode."
        ) from None
    except ValueError:
        raise InputError(
            f"The presigned URL cannot be read from {name}: it is not ASCII text.",
            hint="Give the URL alone, on one line.",
        ) from None
