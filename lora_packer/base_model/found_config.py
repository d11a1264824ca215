"""Where a base model's config comes from: a file, a folder, the catalogue, the Hub, a parsed dict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lora_packer.adapter.strict_json import StrictJsonError, parse
from lora_packer.base_model.catalogue import catalogue_config
from lora_packer.base_model.hub_config import MAX_CONFIG_BYTES, hub_config
from lora_packer.base_model.names import cached_repo
from lora_packer.errors import InputError
from lora_packer.files import is_file, is_folder, read_whole
from lora_packer.redact import escape


class FoundConfig(NamedTuple):
    """A base model's config, and where it came from.

    Attributes:
        fields: what it says.
        source: a path, a Hub id, or ``catalogue:`` and one; None for a parsed dict.
        sha256: of its file; of the catalogue's entry, as JSON with sorted keys and no blanks.
    """

    fields: Mapping[str, Any]
    source: str | None
    sha256: str


def config_of(source: str | Path | Mapping[str, Any]) -> FoundConfig:
    """Return a base config: of a path, a folder, a Hub id, or as it is. Raises InputError, InconclusiveError."""
    if isinstance(source, Mapping):
        return FoundConfig(source, None, digest_of(source))
    path = Path(source)
    if is_folder(path):
        path = path / "config.json"
        if not is_file(path):
            raise InputError(
                f"there is no config.json in '{escape(str(source))}'.", hint="Give the base model's folder."
            )
    if is_file(path):
        return _read_config(path, str(path))
    name = cached_repo(str(source)) or str(source)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or name.endswith(".json"):
        raise InputError(
            f"there is no file '{escape(name)}'.",
            hint="Give a config.json, a folder with one, or a Hub id such as org/name.",
        )
    return published_config(name)


def published_config(name: str, *, quick: bool = False) -> FoundConfig:
    """Return the config that the catalogue or the Hub has of a base model; ``quick`` is as for ``Hub``.

    Raises InputError, InconclusiveError.
    """
    known = catalogue_config(name)
    if known is not None:
        return FoundConfig(known, f"catalogue:{name}", digest_of(known))
    return _parsed(hub_config(name, quick=quick), name, name)


def digest_of(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a parsed config: of its JSON with sorted keys and no blanks."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def _read_config(path: Path, source: str) -> FoundConfig:
    shown = escape(str(path))
    try:
        data = read_whole(path, MAX_CONFIG_BYTES)
    except OSError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error}.") from None
    return _parsed(data, shown, source)


def _parsed(data: bytes, shown: str, source: str) -> FoundConfig:
    shown = escape(shown)
    try:
        value, _ = parse(data)
    except StrictJsonError as error:
        raise InputError(f"the base config '{shown}' is not JSON: {error}.") from None
    except ValueError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"the base config '{shown}' is not a JSON object.")
    return FoundConfig(value, source, hashlib.sha256(data).hexdigest())
