"""A base model by whatever is at hand: a definition, its checkpoint's headers, or an installed transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_packer.base_model.found_config import FoundConfig, config_of, published_config
from lora_packer.base_model.load import BaseModel, base_from
from lora_packer.errors import InconclusiveError, UnknownArchitecture
from lora_packer.files import is_file


def find_base(source: str | Path | Mapping[str, Any]) -> BaseModel:
    """Return the base model. Raises InputError, InconclusiveError; UnknownArchitecture where nothing helps.

    For a model type without a definition the installed transformers is asked first, because it knows the running
    model's names; then the headers of the checkpoint, if ``source`` is a folder or a Hub id.
    """
    return _described_by(config_of(source), None if isinstance(source, Mapping) else source)


def find_published(name: str, *, quick: bool = False) -> BaseModel:
    """Return the base model that the catalogue or the Hub has under this id, whatever is on this machine.

    ``quick`` is whether the Hub is asked for the config once, and for 5 seconds at the most.

    Raises as ``find_base``.
    """
    return _described_by(published_config(name, quick=quick), name)


def _described_by(found: FoundConfig, source: str | Path | None) -> BaseModel:
    try:
        return base_from(found)
    except UnknownArchitecture as unknown:
        reasons = []
        for ask in (_installed_transformers, _checkpoint):
            try:
                model = ask(found, source)
            except InconclusiveError as error:
                reasons.append(error.message.rstrip("."))
                continue
            if model is not None:
                return replace(model, sha256=found.sha256)
        more = f" ({'; '.join(reasons)})" if reasons else ""
        raise UnknownArchitecture(f"{unknown.message.rstrip('.')}{more}.", hint=unknown.hint) from None


def _installed_transformers(found: FoundConfig, _source: str | Path | None) -> BaseModel | None:
    from lora_packer.base_model.meta import is_available, load_meta

    return load_meta(found.fields, found.source) if is_available() else None


def _checkpoint(_found: FoundConfig, source: str | Path | None) -> BaseModel | None:
    from lora_packer.base_model.checkpoint import load_checkpoint

    return None if source is None or is_file(Path(source)) else load_checkpoint(source)
