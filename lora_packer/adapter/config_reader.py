"""What reading a field of ``adapter_config.json`` may find wrong, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lora_packer.adapter.config_mending import KEEP, mended_value
from lora_packer.frozen import frozen
from lora_packer.redact import escape


@frozen
class ConfigProblem:
    """One thing wrong with a config field.

    ``kind`` is ``invalid`` where PEFT raises or computes nonsense, ``unknown`` where it drops the field with a warning,
    ``not-lora`` where the adapter is of another method, ``foreign`` where the config is another trainer's,
    ``no-effect`` where the adapter does nothing, ``odd`` where PEFT takes the value for another one and stricter
    loaders may not.
    """

    kind: Literal["invalid", "unknown", "not-lora", "foreign", "no-effect", "odd"]
    field: str
    message: str
    expected: Any = None
    actual: Any = None
    hint: str | None = None
    fixable: bool = False


KEEP_DEFAULT: Any = object()

_TRAIN = "Train a LoRA adapter: this method cannot be merged into a model."
# PEFT 0.21.2's methods that have nothing to merge into weights (peft/tuners: prompt learning, and layers of their own).
_UNMERGEABLE = (
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "CPT",
    "CARTRIDGE",
    "ADAPTION_PROMPT",
    "XLORA",
)
Read = Callable[["Reader", str, Any], Any]


class Reader:
    """Collects problems while the fields are read."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.problems: list[ConfigProblem] = []

    def problem(self, kind: Any, name: str, message: str, **details: Any) -> Any:
        """Note a problem; return KEEP_DEFAULT."""
        if "actual" in details:
            details["actual"] = shown(details["actual"])
        details["fixable"] = kind in ("invalid", "odd") and mended_value(self.raw, name) is not KEEP
        self.problems.append(ConfigProblem(kind, escape(name, 60), message, **details))
        return KEEP_DEFAULT

    def wrong_type(self, name: str, value: Any, expected: str) -> Any:
        """Note that PEFT cannot use the value; return KEEP_DEFAULT."""
        message = f"{name} is {as_json(value)}; it has to be {expected}"
        return self.problem("invalid", name, message, expected=expected, actual=value)

    def odd(self, name: str, value: Any, taken: str) -> None:
        """PEFT takes the value for another one; who reads it more strictly may not."""
        message = f"{name} is {as_json(value)}, which PEFT takes for {taken}"
        self.problem("odd", name, message, expected=f"{taken}, written so", actual=value)

    def method(self) -> None:
        """PEFT picks the class by ``peft_type``, case-sensitively (peft/config.py::from_peft_type)."""
        kind = self.raw.get("peft_type")
        if kind == "LORA":
            return
        if isinstance(kind, str) and kind.upper() == "LORA":
            hint = 'Write "peft_type": "LORA".'
            self.problem(
                "invalid",
                "peft_type",
                f"peft_type is {kind!r}; PEFT knows only 'LORA'",
                expected="LORA",
                actual=kind,
                hint=hint,
            )
        elif kind is None:
            foreign = next((name for name in ("fine_tune_type", "swift_type", "lora_layers") if name in self.raw), None)
            message = "peft_type is missing; PEFT cannot load a config without it"
            if foreign:
                message += f", and the field {foreign!r} belongs to another trainer's format"
            hint = 'Add "peft_type": "LORA".'
            if foreign:
                hint = "Export the adapter in PEFT's format."
            self.problem("foreign" if foreign else "invalid", "peft_type", message, expected="LORA", hint=hint)
        else:
            message = f"peft_type is {shown(kind)}; only LoRA adapters can be served"
            way_out = _TRAIN if kind in _UNMERGEABLE else None
            self.problem("not-lora", "peft_type", message, expected="LORA", actual=kind, hint=way_out)


def shown(value: Any) -> Any:
    """Return a config value as a message or a report may hold it: numbers as they are, text escaped and clipped."""
    return value if isinstance(value, int | float | bool) or value is None else escape(repr(value), 80)


def as_json(value: Any) -> Any:
    """Return the value as the file has it: null and true, not None and True."""
    return json.dumps(value) if value is None or isinstance(value, bool) else shown(value)
