"""A folder or a finished archive on this machine, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lora_packer.adapter import REQUIRED
from lora_packer.errors import InputError
from lora_packer.files import followed
from lora_packer.hub import proposed
from lora_packer.packager import CheckedFile
from lora_packer.packager.digest import digest
from lora_packer.packager.pack import format_of
from lora_packer.packager.source import Source
from lora_packer.redact import escape

# The files of an adapter as they were read, by name; or the finished archive, by its own name.
Files = Mapping[str, CheckedFile]
NO_FILES: Files = MappingProxyType({})


def require_folder(path: Path) -> Path:
    """Return the path of a folder. Raises InputError where there is none."""
    if not path.exists():
        repo_id = proposed(str(path))
        hint = f"For a repo of the Hugging Face Hub write {repo_id}." if repo_id else None
        raise InputError(f"there is no folder '{escape(str(path))}'.", hint=hint)
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is not a folder.", hint="An archive is packed already: publish it as it is.")
    return path


def archive_format(path: Path) -> str:
    """Return the format of a finished archive by its name. Raises InputError where it is none."""
    try:
        return format_of(path)
    except InputError:
        raise InputError(f"{str(path)!r} is neither a folder nor a .zip or .tar.gz archive.") from None


def read_files(path: Path) -> dict[str, CheckedFile]:
    """Read what will be packed, or the finished archive, for its checksums; what is not there is left to the check.

    Raises PackError where a file cannot be read, InputError where it is no archive: before it is read.
    """
    if path.is_file():
        archive_format(path)
    found = {}
    for file in [path / name for name in REQUIRED] if path.is_dir() else [path]:
        if file.is_file():
            source = Source.at(followed(file), file.name)
            found[file.name] = CheckedFile(source.state, digest(source))
    return found
