"""The class defaults of transformers' configs, as ``tools/record_defaults.py`` has written them to ``defaults.json``.

A type is a config class's own ``model_type``; a class that has none goes by the field that holds it, such as
``dbrx.attn_config``. A nested config's default is a mapping with its ``model_type`` and what differs from the defaults
of that type.

The types of ``remote.json`` are those that transformers does not have: their defaults are those of the config class in
the model's own repository, where ``tools/proof_remote.py`` compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FILE = Path(__file__).with_name("defaults.json")
REMOTE = Path(__file__).with_name("remote.json")


@cache
def recorded(config_type: str) -> Mapping[str, Any]:
    """Return the recorded class defaults of a config type. Raises KeyError where there are none.

    Only its line is parsed: a check needs a handful of the 400 types, and the whole file takes longer than the rest.
    """
    for path in (FILE, REMOTE):
        _, found, rest = _contents(path).partition(f'\n"{config_type}": '.encode())
        if found:
            line, _, _ = rest.partition(b"\n")
            return MappingProxyType(json.loads(line.removesuffix(b",")))
    raise KeyError(config_type)


@cache
def _contents(path: Path) -> bytes:
    return path.read_bytes()
