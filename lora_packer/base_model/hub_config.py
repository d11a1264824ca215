"""The ``config.json`` of a base model on the Hub: from the Hub's cache on this machine, else fetched and kept there.

Its size is asked before it is fetched, and no more than that is read.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.files import read_whole, write_whole
from lora_packer.hub import HubRepo, parse_repo
from lora_packer.redact import escape

MAX_CONFIG_BYTES = 4_000_000
"""Bytes of the largest base config that is read, wherever it is."""

_NAME = "config.json"
_HINT = "Give the base model's config.json with --base-config PATH."
# The Hub's oldest models stand under no organisation: gpt2, bert-base-uncased.
_WITHOUT_ORGANISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def hub_config(name: str, *, quick: bool = False) -> bytes:
    """Return what is in a base model's config; ``quick`` is as for ``Hub``.

    Raises InputError (no Hub id), InconclusiveError (not to be had).
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        repo = HubRepo(name) if _WITHOUT_ORGANISATION.fullmatch(name) else parse_repo(name)
    except InputError:
        raise InputError(f"'{escape(name)}' is neither a file nor a Hub id.", hint=_HINT) from None
    cached = try_to_load_from_cache(repo.id, _NAME, revision=repo.revision)
    if isinstance(cached, str):
        return _cached(Path(cached), name)
    try:
        return _fetched(repo, quick=quick)
    except LoraPackerError as error:
        raise InconclusiveError(
            f"the base config of '{escape(name)}' could not be fetched from the Hub: {error}", hint=_HINT
        ) from error


def _cached(path: Path, name: str) -> bytes:
    try:
        return read_whole(path, MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"the base config of '{escape(name)}' in the Hub's cache, '{escape(str(path))}', cannot be read: {reason}.",
            hint="Remove it, and run it again.",
        ) from None


def _fetched(repo: HubRepo, *, quick: bool) -> bytes:
    from lora_packer.hub import Hub, stored_token

    with Hub.from_environment(token=stored_token(), quick=quick) as hub:
        snapshot = hub.snapshot(repo)
        size = snapshot.sizes.get(_NAME)
        if size is None:
            raise InputError(f"{repo} lacks the file: {_NAME}.", hint=f"See {repo.url}/tree/main.")
        if size > MAX_CONFIG_BYTES:
            raise InputError(
                f"its {_NAME} has {size:,} bytes; a base config has no more than {MAX_CONFIG_BYTES:,}.", hint=_HINT
            )
        with snapshot.open(_NAME) as file:
            data = file.read()
    with suppress(OSError):  # a cache that cannot be written to is one that does not help
        _keep(repo, snapshot.commit, data)
    return data


def _keep(repo: HubRepo, commit: str, data: bytes) -> None:
    """Put a config where huggingface_hub looks for it: ``try_to_load_from_cache`` in its file_download.py (2.4)."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.id.replace('/', '--')}"
    place = folder / "snapshots" / commit / _NAME
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(place, data.decode())
    except UnicodeDecodeError:
        return  # it is no config; whoever parses it says so
    revision = repo.revision or "main"
    if revision != commit:
        reference = folder / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_whole(reference, commit)
