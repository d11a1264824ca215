"""Base models whose configs come with the package, so that a check needs no network.

``catalogue.json`` is written by ``tools/make_catalogue.py`` from ``fixtures/base-configs``; it holds the fields that
decide shapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _catalogue() -> Mapping[str, Mapping[str, Any]]:
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    models: Mapping[str, Mapping[str, Any]] = json.loads(text)["models"]
    return models


def catalogue_config(base_model: str) -> Mapping[str, Any] | None:
    """Return the config of a base model that the catalogue knows under exactly this id, else None."""
    return _catalogue().get(base_model)
