"""Which files are the adapter's, read into a draft: at the root or below, in shards, safetensors or pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from lora_packer.adapter import CONFIG_NAME, WEIGHTS_NAME, AdapterSource
from lora_packer.adapter.adapter import MAX_CONFIG_BYTES
from lora_packer.adapter.kohya import is_kohya
from lora_packer.adapter.safetensors_header import HeaderError, SafetensorsHeader, read_header
from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.misplaced import DISTRIBUTED_METADATA, folder_meant, weights_meant
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Draft, Span
from lora_packer.repair.json_text import read_config
from lora_packer.repair.result import Told, repaired, skipped

_MOST_TENSORS = 200_000
_MOST_SHARED = 8  # times that a pickle's tensors may share its bytes, as tied ones do


class View:
    """Some files of a source under names of their own.

    Attributes:
        remote, holder: those of the source.
    """

    def __init__(self, source: AdapterSource, names: Mapping[str, str]) -> None:
        self._source = source
        self._names = names
        self.remote = source.remote
        self.holder = source.holder

    @property
    def name(self) -> str:
        """What to call the source in messages."""
        return self._source.name

    def files(self) -> tuple[str, ...]:
        """Return the files' names."""
        return tuple(self._names)

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises InputError."""
        return self._source.size(self._names.get(name, name))

    def path(self, name: str) -> Path | None:
        """Return the path of a file on the local disk, or None."""
        return self._source.path(self._names.get(name, name))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any offset. Raises InputError."""
        return self._source.open(self._names.get(name, name))


@frozen
class Found:
    """What was found.

    Attributes:
        source: the adapter's files, at its root.
        draft: what is in them, or None where they cannot be read.
        told: what was mended by that, and what was not.
    """

    source: AdapterSource
    draft: Draft | None
    told: tuple[Told, ...]


def find(source: AdapterSource, extras: Sequence[str]) -> Found:
    """Find and read the adapter; ``extras`` are the names of files that go along where they are there."""
    rooted, told = _rooted(source)
    files = rooted.files()
    config = next((name for name in files if name.lower() == CONFIG_NAME), None)
    if config is None:
        alone = _without_a_config(rooted, files)
        if alone is not None:
            return Found(rooted, alone, tuple(told))
        instead = "Take it from the run's folder: rank and scale of the update stand in no other file."
        return Found(rooted, None, (*told, skipped("missing-file", "LP101", f"{CONFIG_NAME} is missing. {instead}")))
    if config != CONFIG_NAME:
        told.append(_renamed(config, CONFIG_NAME))
    weights = weights_meant(files)
    if not weights:
        instead = "Save the adapter again with save_pretrained."
        return Found(rooted, None, (*told, skipped("missing-file", "LP101", f"{WEIGHTS_NAME} is missing. {instead}")))
    parsed, more = read_config(_config_bytes(rooted, config))
    told += more
    if parsed is None:
        return Found(rooted, None, tuple(told))
    read = _read_weights(rooted, weights)
    if isinstance(read, str):
        code = "LP104" if weights == (WEIGHTS_NAME,) else "LP101"
        return Found(rooted, None, (*told, skipped("weights-file", code, read)))
    draft, more = read
    kept = tuple(name for name in files if name in extras)
    changed = any(item.name in ("json", "file-name") for item in more) or parsed.changed
    draft = replace(draft, config=parsed.value, config_bytes=None if changed else parsed.data, extras=kept)
    return Found(rooted, draft, (*told, *more))


def _without_a_config(source: AdapterSource, files: Sequence[str]) -> Draft | None:
    """Return the weights of a layout whose tensors say what a config would, or None where they are another's."""
    weights = weights_meant(files)
    read = _read_weights(source, weights) if weights else ""
    return read[0] if not isinstance(read, str) and is_kohya(read[0].tensors) else None


def _rooted(source: AdapterSource) -> tuple[AdapterSource, list[Told]]:
    files = source.files()
    names = {name.lower() for name in files if "/" not in name}
    if CONFIG_NAME in names and weights_meant(files):
        return source, []
    folder = folder_meant(files)
    if folder is None:
        return source, []
    below = {name.removeprefix(f"{folder}/"): name for name in files if name.startswith(f"{folder}/")}
    several = sum(name.endswith(f"/{CONFIG_NAME}") for name in files)
    which = f"the newest of {several} folders that have one" if several > 1 else "the one folder that has one"
    message = f"the adapter was taken from the folder '{escape(folder, 80)}', {which}"
    done = repaired("nested-folder", "LP101", 1, message, "its files are copied as they are")
    return View(source, below), [done]


def _renamed(found: str, name: str) -> Told:
    return repaired("file-name", "LP101", 1, f"'{escape(found)}' is {name} now", "the file is copied as it is")


def _config_bytes(source: AdapterSource, name: str) -> bytes:
    size = source.size(name)
    if size > MAX_CONFIG_BYTES:
        message = f"{CONFIG_NAME} is {size} bytes long; at most {MAX_CONFIG_BYTES} are read."
        raise InputError(message, hint="An adapter's config is a few kilobytes: is this another file?")
    with source.open(name) as file:
        return file.read(MAX_CONFIG_BYTES + 1)


@frozen
class _Part:
    """One weights file: its tensors, its metadata, and what it is."""

    tensors: Mapping[str, Blob]
    metadata: Mapping[str, str]
    whole: Span | None
    surplus: int = 0
    is_pickle: bool = False


def _read_weights(source: AdapterSource, names: Sequence[str]) -> tuple[Draft, list[Told]] | str:
    """Return the draft without its config, or why there is none."""
    if names[0].rpartition("/")[2] == DISTRIBUTED_METADATA:
        return _read_distributed(source, names)
    parts: list[_Part] = []
    for name in names:
        try:
            with _opened(source, name) as file:
                parts.append(_read(file, name, source.size(name)))
        except HeaderError as error:
            instead = error.hint or "Save the adapter again."
            return f"'{escape(name)}' cannot be read: {escape(str(error), 200)}. {instead}"
    tensors: dict[str, Blob] = {}
    for part in parts:
        twice = tensors.keys() & part.tensors.keys()
        if twice:
            return f"the tensor '{escape(min(twice), 80)}' stands in several shards: which one is meant is not known."
        tensors |= part.tensors
    too_much = _too_much(tensors, source, names)
    if too_much:
        return too_much
    first = parts[0]
    whole = first.whole if len(parts) == 1 else None
    return Draft({}, tensors, first.metadata, whole=whole), list(_told_of(parts, names, len(tensors)))


def _read_distributed(source: AdapterSource, names: Sequence[str]) -> tuple[Draft, list[Told]] | str:
    from lora_packer.repair.distributed import read_distributed
    from lora_packer.repair.pickled import UnpickleError

    try:
        tensors = read_distributed(source, names[0])
    except UnpickleError as error:
        instead = "Give the files of every rank, or save the adapter with a full state dict."
        return f"'{escape(names[0])}' cannot be used: {escape(str(error), 200)}. {instead}"
    too_much = _too_much(tensors, source, names)
    if too_much:
        return too_much
    message = f"{len(tensors)} tensors, in shards of {len(names) - 1} files, are one {WEIGHTS_NAME} now"
    proof = "the pieces of each tensor are where its metadata puts them, and make the whole of it, none twice"
    return Draft({}, tensors, {"format": "pt"}), [repaired("shards", "LP101", len(tensors), message, proof)]


def _too_much(tensors: Mapping[str, Blob], source: AdapterSource, names: Sequence[str]) -> str:
    """Why so many tensors are not read, or such that are many views of the same few bytes; else ""."""
    if len(tensors) > _MOST_TENSORS:
        return f"it has {len(tensors):,} tensors; at most {_MOST_TENSORS:,} are read."
    size, found = sum(blob.size for blob in tensors.values()), sum(map(source.size, names))
    if size > _MOST_SHARED * found:
        return (
            f"its tensors are views of the same bytes: {size:,} bytes would be written of a file of {found:,}; at most "
            f"{_MOST_SHARED} times as many are."
        )
    return ""


def _opened(source: AdapterSource, name: str) -> AbstractContextManager[BinaryIO]:
    file = source.open(name)
    return file if hasattr(file, "__exit__") else nullcontext(file)


def _read(file: BinaryIO, name: str, size: int) -> _Part:
    try:
        header, surplus = read_header(file, size), 0
    except HeaderError as error:
        if error.surplus:
            header, surplus = read_header(file, size - error.surplus), error.surplus
        else:
            file.seek(0)
            if error.is_pickle or name.endswith((".bin", ".pt")):
                return _read_pickle(file, name)
            raise
    whole = None if surplus else Span(name, 0, size)
    return _Part(_blobs(header, name), header.metadata, whole, surplus)


def _read_pickle(file: BinaryIO, name: str) -> _Part:
    from lora_packer.repair.pickled import UnpickleError
    from lora_packer.repair.torch_file import read_torch_file

    try:
        return _Part(read_torch_file(file, name), {"format": "pt"}, None, is_pickle=True)
    except UnpickleError as error:
        raise HeaderError(str(error)) from None


def _blobs(header: SafetensorsHeader, name: str) -> dict[str, Blob]:
    start = header.data_start
    return {
        key: Blob(info.dtype, info.shape, Span(name, start + info.begin, start + info.end))
        for key, info in header.tensors.items()
    }


def _told_of(parts: Sequence[_Part], names: Sequence[str], tensors: int) -> list[Any]:
    told: list[Any] = []
    if len(names) > 1:
        proof = f"each of the {tensors} tensors stands in one shard, and its bytes are copied as they are"
        told.append(repaired("shards", "LP101", len(names), f"{len(names)} shards are one {WEIGHTS_NAME} now", proof))
    elif names[0] != WEIGHTS_NAME and not parts[0].is_pickle:
        told.append(_renamed(names[0], WEIGHTS_NAME))
    pickled = [name for name, part in zip(names, parts, strict=True) if part.is_pickle]
    if pickled:
        message = f"the {tensors} tensors of '{escape(pickled[0])}', a pickle, are in {WEIGHTS_NAME} now"
        proof = "its tensors' bytes are copied as they are; nothing in the pickle was imported, called or run"
        code = "LP104" if pickled[0] == WEIGHTS_NAME else "LP101"
        told.append(repaired("pickle", code, tensors, message, proof))
    surplus = sum(part.surplus for part in parts)
    if surplus:
        message = f"{surplus:,} bytes behind the last tensor were dropped"
        proof = "the header gives every other byte to exactly one tensor, and none to these"
        told.append(repaired("trailing-bytes", "LP104", 1, message, proof))
    return told
