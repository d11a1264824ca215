"""A base model by whatever is at hand: a definition, its checkpoint's headers, or an installed transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_packer.base_model.load import BaseModel, config_of
from lora_packer.errors import InconclusiveError, UnknownArchitecture
from lora_packer.files import is_file


def find_base(source: str | Path | Mapping[str, Any]) -> BaseModel:
    """Return the base model. Raises InputError, InconclusiveError; UnknownArchitecture where nothing helps.

    For a model type without a definition the installed transformers is asked first, because it knows the running
    model's names; then the headers of the checkpoint, if ``source`` is a folder or a Hub id.
    """
    try:
        return BaseModel.load(source)
    except UnknownArchitecture as unknown:
        reasons = []
        for ask in (_installed_transformers, _checkpoint):
            try:
                found = ask(source)
            except InconclusiveError as error:
                reasons.append(error.message.rstrip("."))
                continue
            if found is not None:
                return found
        more = f" ({'; '.join(reasons)})" if reasons else ""
        raise UnknownArchitecture(f"{unknown.message.rstrip('.')}{more}.", hint=unknown.hint) from None


def _installed_transformers(source: str | Path | Mapping[str, Any]) -> BaseModel | None:
    from lora_packer.base_model.meta import is_available, load_meta

    if not is_available():
        return None
    config, where = (source, None) if isinstance(source, Mapping) else config_of(source)
    return load_meta(config, where)


def _checkpoint(source: str | Path | Mapping[str, Any]) -> BaseModel | None:
    from lora_packer.base_model.checkpoint import load_checkpoint

    if isinstance(source, Mapping) or is_file(Path(source)):
        return None
    return load_checkpoint(source)
