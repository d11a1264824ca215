"""The sandbox service's look into an archive, or a repository's files; on purpose not the code that packs one."""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

from lora_packer.names import CONFIG_NAME, REQUIRED, WEIGHTS_NAME

_MAX_CONFIG = 2**20  # bytes
_MAX_HEADER = 100_000_000  # bytes; the limit of github.com/huggingface/safetensors


class ArchiveRefused(Exception):  # noqa: N818 - the service's verdict, not an error of ours
    """The service would not take this archive; the message says why."""


def inspect(path: Path) -> dict[str, int]:
    """Check that an archive has an adapter at its root; return its files and their sizes. Raises ArchiveRefused.

    The format is told by content. Both files must be at the root, where ``./`` before a name is accepted
    (docs.together.ai/docs/dedicated-endpoints/adapter packs with ``tar -czvf ... .``), and both must parse.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    try:
        if magic == b"PK\x03\x04":
            return _inspect_zip(path)
        if magic[:2] == b"\x1f\x8b":
            return _inspect_tar(path)
        raise ArchiveRefused("model_source is neither a .zip nor a .tar.gz archive")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ArchiveRefused(f"the archive cannot be read: {type(error).__name__}") from error


def inspect_files(files: Mapping[str, bytes]) -> None:
    """Check that files sent by themselves are an adapter. Raises ArchiveRefused."""
    _require_both(files)
    _check_config(io.BytesIO(files[CONFIG_NAME]))
    _check_weights(io.BytesIO(files[WEIGHTS_NAME]), len(files[WEIGHTS_NAME]))


def inspect_folder(folder: Path) -> dict[str, int]:
    """Check that a downloaded repository is an adapter; return its files and their sizes. Raises ArchiveRefused."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    _require_both(sizes)
    with (folder / CONFIG_NAME).open("rb") as file:
        _check_config(file)
    with (folder / WEIGHTS_NAME).open("rb") as file:
        _check_weights(file, (folder / WEIGHTS_NAME).stat().st_size)
    return sizes


def _inspect_zip(path: Path) -> dict[str, int]:
    with zipfile.ZipFile(path) as archive:
        members = {_plain(info.filename): info for info in archive.infolist() if not info.is_dir()}
        _require_both(members)
        with archive.open(members[CONFIG_NAME]) as file:
            _check_config(file)
        with archive.open(members[WEIGHTS_NAME]) as file:
            _check_weights(file, members[WEIGHTS_NAME].file_size)
            _drain(file)
    return {name: info.file_size for name, info in members.items()}


def _inspect_tar(path: Path) -> dict[str, int]:
    """Read the members in one pass: a compressed tar has no index to go back by."""
    sizes: dict[str, int] = {}
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            name = _plain(member.name)
            sizes[name] = member.size
            with file:
                if name == CONFIG_NAME:
                    _check_config(file)
                elif name == WEIGHTS_NAME:
                    _check_weights(file, member.size)
        _drain(stream)
    _require_both(sizes)
    return sizes


def _drain(file: IO[bytes] | gzip.GzipFile) -> None:
    """Read to the end, where the checksum is compared."""
    while file.read(2**20):
        pass


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _require_both(names: Collection[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if not missing:
        return
    message = f"Missing required files: {', '.join(missing)}"
    folders = {posixpath.basename(name): posixpath.dirname(name) for name in names}
    if all(folders.get(name) for name in missing):
        message += f". The files are nested in the top-level directory '{folders[missing[0]]}'"
    raise ArchiveRefused(message)


def _check_config(file: IO[bytes]) -> None:
    data = file.read(_MAX_CONFIG + 1)
    try:
        config = json.loads(data) if len(data) <= _MAX_CONFIG else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ArchiveRefused(f"{CONFIG_NAME} is not the configuration of a LoRA adapter")


def _check_weights(file: IO[bytes], size: int) -> None:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise ArchiveRefused(f"{WEIGHTS_NAME} is not a safetensors file")
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        complete = max(ends, default=0) == size - 8 - length
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        raise ArchiveRefused(f"{WEIGHTS_NAME} has a header that cannot be read") from None
    if not ends or not complete:
        raise ArchiveRefused(f"{WEIGHTS_NAME} is empty or not complete")
