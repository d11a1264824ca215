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
    """Return the recorded class defaults of a config type. Raises KeyError where there are none.

    Only its line is parsed: a check needs a handful of the 400 types, and the whole file takes longer than the rest.
    """
    _, found, rest = _contents().partition(f'\n"{config_type}": '.encode())
    if not found:
        raise KeyError(config_type)
    line, _, _ = rest.partition(b"\n")
    return MappingProxyType(json.loads(line.removesuffix(b",")))


@cache
def _contents() -> bytes:
    return FILE.read_bytes()
