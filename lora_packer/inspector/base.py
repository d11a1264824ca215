"""Which base model an adapter is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_packer.adapter import LoraConfig
from lora_packer.base_model import BaseModel, catalogue_config, find_base
from lora_packer.base_model.catalogue import lookalike
from lora_packer.errors import InconclusiveError, InputError, UnknownArchitecture
from lora_packer.redact import escape

BaseSource = str | Path | Mapping[str, Any]


def base_for(given: BaseSource | None, hosted: str | None, config: LoraConfig | None) -> BaseModel:
    """Return the base model.

    Args:
        given: its config: a path, a folder, a Hub id or a parsed dict.
        hosted: the id under which the service hosts it, of which the catalogue may have the config.
        config: the adapter's, which may name it.

    Raises:
        InputError: what is given is no base config.
        InconclusiveError: there is none to be had.
    """
    if given is not None:
        return find_base(given)
    if hosted is not None and catalogue_config(hosted) is not None:
        return BaseModel.load(hosted)
    named = config.base_model_name_or_path if config is not None else None
    hint = _what_next(hosted, named)
    if not named:
        raise InconclusiveError("there is no base config: adapter_config.json names no base model.", hint=hint)
    try:
        return find_base(named)
    except InputError as error:
        message = f"there is no base config for '{escape(named, 80)}': {error.message}"
        raise InconclusiveError(message, hint=hint) from None
    except UnknownArchitecture:
        raise
    except InconclusiveError as error:
        raise InconclusiveError(error.message, hint=hint) from None


def _what_next(*names: str | None) -> str:
    """What to do without a base config; a known model that a name looks like is proposed, never taken."""
    for name in names:
        known = lookalike(name) if name else None
        if known is not None:
            return f"'{escape(name or '', 80)}' looks like {known}: give --base-config {known} if it is."
    return "Give the base model's config.json with --base-config."
