"""The class defaults of transformers' configs, as ``tools/record_defaults.py`` has written them to ``defaults.json``.

A type is a config class's own ``model_type``; a class that has none goes by the field that holds it, such as
``dbrx.attn_config``. A nested config's default is a mapping with its ``model_type`` and what differs from the defaults
of that type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FILE = Path(__file__).with_name("defaults.json")


def recorded(config_type: str) -> Mapping[str, Any]:
    """Return the recorded class defaults of a config type. Raises KeyError where there are none."""
    return MappingProxyType(_types()[config_type])


@cache
def _types() -> Mapping[str, dict[str, Any]]:
    found: Mapping[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["types"]
    return found
