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


@cache
def recorded(config_type: str) -> Mapping[str, Any]:
    """Return the recorded class defaults of a config type. Raises KeyError where there are none."""
    key = f"\n{json.dumps(config_type)}: "
    start = _text().find(key)
    if start < 0:
        raise KeyError(config_type)
    line = _text()[start + len(key) : _text().index("\n", start + 1)]
    return MappingProxyType(json.loads(line.rstrip(",")))


@cache
def _text() -> str:
    """The file, of which a check needs a line or three: to parse it whole takes longer than all the rest."""
    return FILE.read_text(encoding="utf-8")
