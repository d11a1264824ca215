"""Targets: the places that load an adapter, and what each is known to do with LoRA's features.

``profiles.json`` holds them as data, with the source of each statement. What a target does not state is a warning that
says so, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.errors import InputError
from lora_packer.redact import escape

DEFAULT_TARGET = "together"


@dataclass(frozen=True, slots=True)
class Profile:
    """One target.

    Attributes:
        name: its name.
        summary: what to call it in a sentence.
        unstated: the features that it documents nothing about: field -> what to call it.
        refuses: what it is known to refuse beyond the rules for all targets: feature -> how.
    """

    name: str
    summary: str
    unstated: Mapping[str, str]
    refuses: Mapping[str, str]


@cache
def _profiles() -> Mapping[str, Profile]:
    text = Path(__file__).with_name("profiles.json").read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = json.loads(text)["profiles"]
    return {name: Profile(name, item["summary"], item["unstated"], item["refuses"]) for name, item in data.items()}


def profile(name: str) -> Profile:
    """Return the target's profile. Raises InputError."""
    found = _profiles().get(name)
    if found is None:
        raise InputError(f"there is no target '{escape(name, 60)}'.", hint=f"Known: {', '.join(sorted(_profiles()))}.")
    return found
