"""Values of ``adapter_config.json`` that PEFT refuses, or takes for another, and of which it is sure what is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_EXACT = 2**53  # below it a float is one whole number and no other
_NUMBERS = ("r", "lora_alpha")
_BOOLEANS = ("use_dora", "use_rslora", "use_qalora", "lora_bias", "fan_in_fan_out", "ensure_weight_tying")
_PATTERNS = ("rank_pattern", "alpha_pattern")
_FOREIGN = ("fine_tune_type", "swift_type", "lora_layers")
KEEP: Any = object()


def mended_value(raw: Mapping[str, Any], name: str) -> Any:
    """Return the value that is meant where it is another form of the same one, else ``KEEP``."""
    value = raw.get(name)
    if name == "peft_type":
        return _method(raw, value)
    if name in _NUMBERS and name in raw:
        return _number(value, whole=name == "r")
    if name in _BOOLEANS and name in raw and (value is None or (type(value) is int and value in (0, 1))):
        return bool(value)
    if name in _PATTERNS and name in raw:
        return _pattern(value, whole=name == "rank_pattern")
    return KEEP


def _method(raw: Mapping[str, Any], value: Any) -> Any:
    """PEFT knows a method by its name in capitals; a config with a rank and an alpha of LoRA's is of no other."""
    if isinstance(value, str):
        return "LORA" if value != "LORA" and value.upper() == "LORA" else KEEP
    has_both = {"r", "lora_alpha"} <= raw.keys()
    return "LORA" if value is None and has_both and not any(name in raw for name in _FOREIGN) else KEEP


def _number(value: Any, *, whole: bool) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    elif not (type(value) is float and whole):
        return KEEP
    if value.is_integer() and abs(value) < _EXACT:  # neither NaN nor an infinity is
        return int(value)
    return KEEP if whole else value


def _pattern(value: Any, *, whole: bool) -> Any:
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        return KEEP
    changed = {key: new for key, item in value.items() if (new := _number(item, whole=whole)) is not KEEP}
    return {**value, **changed} if changed else KEEP


FIELDS = ("peft_type", *_NUMBERS, *_PATTERNS, *_BOOLEANS)
