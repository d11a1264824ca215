"""Base models whose configs come with the package, so that a check needs no network.

``catalogue.json`` is written by ``tools/make_catalogue.py`` from ``fixtures/base-configs``; it holds the fields that
may decide shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

# What services and quantisers append to a base model's name. The weights' logical shapes stay the base's.
_HOSTED_SUFFIX = re.compile(
    r"-(?:turbo|reference|lite|free|lora|fp8|nvfp4|fp4|awq|gptq|4bit|8bit|int4|int8|bnb|unsloth|dynamic|hf|tput)$"
)


@cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """Return every known base model: id -> config."""
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    models: Mapping[str, Mapping[str, Any]] = json.loads(text)["models"]
    return models


def catalogue_config(base_model: str) -> Mapping[str, Any] | None:
    """Return the config of a base model that the catalogue knows under exactly this id, else None."""
    return catalogue().get(base_model)


def lookalike(name: str) -> str | None:
    """Return the catalogue's id for a name that a service or a quantiser made from it, else None.

    ``meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo`` and ``unsloth/Llama-3.1-8B-Instruct-bnb-4bit`` look like
    ``meta-llama/Llama-3.1-8B-Instruct``. It is a guess from the name: to be shown, not to be used.
    """
    plain = _plain(name)
    if not plain:
        return None
    alike = [known for known in catalogue() if known != name and _plain(known) == plain]
    return min(alike, key=lambda known: (len(known), known), default=None)


def _plain(name: str) -> str:
    """The model's name in lower case, without organisation and without what was appended."""
    plain = name.rstrip("/").rpartition("/")[2].lower().removeprefix("meta-")
    while (shorter := _HOSTED_SUFFIX.sub("", plain)) != plain:
        plain = shorter
    return plain
