"""Which fields of two adapter_config.json mean something else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from lora_packer.adapter.config import LoraConfig
from lora_packer.frozen import frozen
from lora_packer.redact import escape

# PEFT writes these from sets, in another order each time (peft/tuners/lora/config.py, `target_modules`; sets become
# lists in peft/config.py).
_SETS = frozenset({"target_modules", "exclude_modules", "modules_to_save", "target_parameters"})
_WIDEST = 200  # characters of one text
_LARGEST = 4000  # characters of one value
_DEFAULTS = {item.name: item.default for item in fields(LoraConfig) if item.default is not MISSING}


@frozen
class ConfigChange:
    """A field, and both its values as JSON has them; None where it is not there. Texts are escaped and clipped."""

    field: str
    old: Any
    new: Any


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[ConfigChange, ...]:
    """Return the fields that differ, by name.

    A field that is missing is as good as one with its default, or with nothing in it: each release of PEFT writes more
    of them. The order of modules means nothing, that of patterns does: the first that matches wins.
    """
    return tuple(_changes(old, new))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ConfigChange]:
    for name in sorted(old.keys() | new.keys()):
        if _meaning(name, old.get(name)) != _meaning(name, new.get(name)):
            yield ConfigChange(escape(name, 60), _shown(old.get(name)), _shown(new.get(name)))


def _meaning(name: str, value: Any) -> str | None:
    """A text that is the same for values that mean the same; None for those that are as good as missing."""
    default = _DEFAULTS.get(name)
    is_empty = value is False or value in ("", [], {})
    is_default = value == default and isinstance(value, bool) is isinstance(default, bool)
    if value is None or is_default or (is_empty and not default):
        return None
    if name in _SETS and isinstance(value, list):
        return json.dumps(sorted(json.dumps(item, sort_keys=True) for item in value))
    return json.dumps(value)


def _shown(value: Any) -> Any:
    shown = _escaped(value)
    text = json.dumps(shown)
    return shown if len(text) <= _LARGEST else escape(text, _LARGEST)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value, _WIDEST)
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {escape(name, _WIDEST): _escaped(item) for name, item in value.items()}
    return value
