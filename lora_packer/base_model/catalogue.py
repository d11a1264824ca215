"""Base models whose configs come with the package, so that a check needs no network.

``catalogue.json`` is written by ``tools/make_catalogue.py`` from ``fixtures/base-configs``; it holds the fields that
may decide shapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.base_model.names import find_id, hosted_as, plain_name


@cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """Return every known base model: id -> config."""
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    models: Mapping[str, Mapping[str, Any]] = json.loads(text)["models"]
    return models


def catalogue_config(base_model: str) -> Mapping[str, Any] | None:
    """Return the config of a base model that the catalogue knows under exactly this id, else None."""
    return catalogue().get(base_model)


def hosted_id(hosted: str) -> str | None:
    """Return the catalogue's id for the id under which a service hosts a base model; None where it has none.

    It is that id itself, in any case and with or without Meta's "Meta-", or what the service's own name stands for:
    ``meta-llama/Meta-Llama-3.1-8B-Instruct-Reference`` is ``meta-llama/Llama-3.1-8B-Instruct``.
    """
    if hosted in catalogue():
        return hosted
    own = hosted_as(hosted)
    return find_id(hosted, catalogue()) or (find_id(own, catalogue()) if own else None)


def lookalike(name: str) -> str | None:
    """Return the catalogue's id for a name that somebody made from it, else None.

    ``unsloth/Llama-3.1-8B-Instruct-bnb-4bit`` looks like ``meta-llama/Llama-3.1-8B-Instruct``. It is a guess from the
    name: to be shown, not to be used.
    """
    plain = plain_name(name)
    if not plain:
        return None
    alike = [known for known in catalogue() if known != name and plain_name(known) == plain]
    return min(alike, key=lambda known: (len(known), known), default=None)
