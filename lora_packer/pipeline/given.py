"""What is held against a receipt: an archive, a folder or a Hub repository, by sizes and digests."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from lora_packer.adapter.archive_source import read_archive
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.source import AdapterSource, FolderSource
from lora_packer.adapter.strict_json import StrictJsonError, parse
from lora_packer.errors import InputError
from lora_packer.files import is_folder
from lora_packer.frozen import frozen
from lora_packer.hub import Hub, HubRepo
from lora_packer.names import CONFIG_NAME, name_of
from lora_packer.pipeline import Progress
from lora_packer.pipeline.recorded import FileRecord
from lora_packer.redact import escape

_NONE: Mapping[str, str] = MappingProxyType({})
_PIECE = 1 << 20
_MOST_CONFIG = 4_000_000  # bytes of a config that is looked into
_FORMATS = {b"PK": "zip", b"\x1f\x8b": "tar.gz"}
# What reading a member may raise where it is damaged.
_DAMAGE = (EOFError, InputError, NotImplementedError, OSError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)


@frozen
class Given:
    """What was given to be verified.

    Attributes:
        kind: ``archive``, ``folder`` or ``repo``.
        name: what to call it.
        format: of an archive: ``zip``, ``tar.gz``, or None for neither.
        archive: the size and SHA-256 of an archive as a whole.
        files: what it holds, by name.
        damaged: the files of an archive that cannot be read: why, by name.
        unreadable: why an archive as a whole cannot be read; empty where it can.
        commit: of a repository.
        base_model: which one its adapter_config.json names, as far as that was read.
    """

    kind: str
    name: str
    format: str | None = None
    archive: FileRecord | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=lambda: _NONE)
    unreadable: str = ""
    commit: str | None = None
    base_model: str | None = None


def read_repo(repo: HubRepo) -> Given:
    """Return what the Hub tells of a repository; nothing is downloaded. Raises InputError, InconclusiveError."""
    with Hub.from_environment() as hub:
        snapshot = hub.snapshot(repo)
    files = {name: FileRecord(size, snapshot.digests.get(name)) for name, size in snapshot.sizes.items()}
    return Given("repo", f"hf://{repo.id}@{snapshot.commit}", files=MappingProxyType(files), commit=snapshot.commit)


def read_given(path: Path, names: Sequence[str], progress: Progress | None) -> Given:
    """Read a folder's files of these ``names``, or an archive. Raises InputError where there is nothing to read."""
    if is_folder(path):
        source = FolderSource(path)
        there = [name for name in names if name in source.files()]
        files, damaged = _digests(source, there, progress)
        for reason in damaged.values():
            raise InputError(reason)
        return Given("folder", str(path), files=files, base_model=_base_model(source))
    with _opened(path) as file:
        return _archive(str(path), file, progress)


def fetch_given(address: str, progress: Progress | None) -> Given:
    """Fetch an archive from ``s3://bucket/key.zip`` or a URL, and read it. Raises InputError, InconclusiveError."""
    from lora_packer.publisher.reading import fetched

    with fetched(address) as (name, file):
        return _archive(name, file, progress)


def _archive(name: str, file: BinaryIO, progress: Progress | None) -> Given:
    """Return an open archive, with what it holds or why that cannot be read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(2)
    file.seek(0)
    whole = FileRecord(size, _sha256(file, _Counted(progress, size)))
    given = Given("archive", name, _FORMATS.get(magic), whole)
    try:
        # What it is called does not matter here, so it is given a name without a suffix.
        with read_archive(name_of(Path(name)), file) as source:
            files, damaged = _digests(source, source.files(), progress)
            base_model = None if CONFIG_NAME in damaged else _base_model(source)
    except InputError as error:
        return replace(given, unreadable=error.message)
    return replace(given, files=files, damaged=damaged, base_model=base_model)


def _opened(path: Path) -> BinaryIO:
    """Open a regular file. Raises InputError where there is none, or it cannot be read."""
    if not path.name:
        raise InputError(f"'{escape(str(path))}' is no archive.")
    return FolderSource(path.parent).open(path.name)


def _digests(
    source: AdapterSource, names: Sequence[str], progress: Progress | None
) -> tuple[Mapping[str, FileRecord], Mapping[str, str]]:
    """Return size and SHA-256 of each file, and why one cannot be read; in bounded memory."""
    files: dict[str, FileRecord] = {}
    damaged: dict[str, str] = {}
    count = _Counted(progress, sum(source.size(name) for name in names))
    for name in names:
        try:
            with source.open(name) as file:
                files[name] = FileRecord(source.size(name), _sha256(file, count))
        except _DAMAGE as error:
            damaged[name] = error.message if isinstance(error, InputError) else escape(str(error))
    return MappingProxyType(files), MappingProxyType(damaged)


class _Counted:
    """Tells how many bytes of one pass are done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def _sha256(file: BinaryIO, count: _Counted) -> str:
    sha256 = hashlib.sha256()
    while piece := file.read(_PIECE):
        sha256.update(piece)
        count.add(len(piece))
    return sha256.hexdigest()


def _base_model(source: AdapterSource) -> str | None:
    """Return the base model that adapter_config.json names; None where nothing tells it."""
    if CONFIG_NAME not in source.files() or source.size(CONFIG_NAME) > _MOST_CONFIG:
        return None
    with source.open(CONFIG_NAME) as file:
        data = file.read(_MOST_CONFIG)
    try:
        value, _ = parse(data)
    except StrictJsonError:
        return None
    return parse_config(value)[0].base_model_name_or_path if isinstance(value, dict) else None
