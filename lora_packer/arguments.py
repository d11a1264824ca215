"""Arguments of the Python functions that make no sense, told in a sentence before anything is done with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from lora_packer.errors import InputError
from lora_packer.redact import escape

BaseSource = str | Path | Mapping[str, Any]
"""What a base model is read from: a file or folder, an id of the Hub, or a config that was read."""


def require_path(value: object, name: str, *more: type) -> None:
    """Raise InputError where a value is no path and no text that could name something, nor one of ``more``."""
    if (isinstance(value, str | os.PathLike) and os.fspath(value)) or isinstance(value, more):
        return
    raise InputError(f"{name} is {_shown(value)}; it is to be a path or a text that names it.")


def require_text(value: object, name: str) -> None:
    """Raise InputError where a value is no text, or an empty one."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} is {_shown(value)}; it is to be a text.")


def require_targets(value: object) -> None:
    """Raise InputError where a value is neither a target's name nor a list of such names."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        require_text(value, "target")
        return
    for name in value:
        require_text(name, "target")


def require_codes(value: object, name: str) -> None:
    """Raise InputError where a value is no list of rules' codes: a single text would be taken letter by letter."""
    if isinstance(value, str):
        raise InputError(f"{name} is the text {_shown(value)}.", hint=f"Give a list: {name}=[{_shown(value)}].")
    if not isinstance(value, Sequence) or not all(isinstance(code, str) for code in value):
        raise InputError(f"{name} is {_shown(value)}; it is to be a list of rules' codes, such as ['LP3'].")


def require_one_of(value: object, name: str, choices: Sequence[object]) -> None:
    """Raise InputError where a value is none of the choices."""
    if value not in choices:
        raise InputError(f"{name} is {_shown(value)}; it is to be one of {', '.join(map(repr, choices))}.")


def require_duration(value: object, name: str) -> None:
    """Raise InputError where a value is no time span, or one that has gone."""
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InputError(
            f"{name} is {_shown(value)}; it is to be a datetime.timedelta.", hint=f"Like {name}=timedelta(hours=12)."
        )


def require_base(value: object, name: str, *more: type) -> None:
    """Raise InputError where a value is no base model's config: a path, a folder, a Hub id or a parsed one."""
    if value is not None and not isinstance(value, Mapping):
        require_path(value, name, *more)


def _shown(value: object) -> str:
    return escape(repr(value), 60)
