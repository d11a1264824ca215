"""``adapter_config.json`` as a typed value, with PEFT's meaning.

Fields and defaults are those of ``peft/tuners/lora/config.py::LoraConfig`` and ``peft/config.py`` in PEFT 0.3 to
0.21.2 (https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/config.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from lora_packer.names import CONFIG_NAME as CONFIG_NAME
from lora_packer.redact import escape

TASK_TYPES = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")

# Every field that a LoraConfig of PEFT 0.3 to 0.21.2 may hold and that no rule of ours reads.
_OTHER_FIELDS = frozenset(
    {
        "alora_invocation_tokens",
        "arrow_config",
        "auto_mapping",
        "corda_config",
        "eva_config",
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)

_NO_ITEMS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with a config field.

    ``kind`` is ``invalid`` where PEFT raises or computes nonsense, ``unknown`` where it drops the field with a warning,
    ``not-lora`` where the adapter is of another method, ``no-effect`` where the adapter does nothing, ``odd`` where
    PEFT takes the value for another one and stricter loaders may not.
    """

    kind: Literal["invalid", "unknown", "not-lora", "no-effect", "odd"]
    field: str
    message: str
    expected: Any = None
    actual: Any = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A LoRA adapter's configuration: which modules it targets, and with which rank and scale.

    Attributes are PEFT's own names. ``rank_pattern`` and ``alpha_pattern`` keep the file's order, because the first
    pattern that matches wins (``peft/utils/other.py::get_pattern_key``).
    """

    r: int = 8
    lora_alpha: float = 8
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    target_parameters: tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=lambda: _NO_ITEMS)
    alpha_pattern: Mapping[str, float] = field(default_factory=lambda: _NO_ITEMS)
    layer_replication: tuple[tuple[int, int], ...] = ()
    trainable_token_indices: Mapping[str | None, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    ensure_weight_tying: bool = False
    bias: str = "none"
    lora_bias: bool = False
    use_dora: bool = False
    use_rslora: bool = False
    use_qalora: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str = True
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    peft_version: str | None = None
    use_bdlora: Mapping[str, Any] | None = None
    kasa_config: Mapping[str, Any] | None = None
    velora_config: Mapping[str, Any] | None = None
    monteclora_config: Mapping[str, Any] | None = None

    def scale(self, rank: int, alpha: float) -> float:
        """Return what the update B·A is multiplied with: alpha/r, or alpha/sqrt(r) with ``use_rslora``."""
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def parse_config(raw: Mapping[str, Any]) -> tuple[LoraConfig, tuple[ConfigProblem, ...]]:
    """Return the typed config and everything wrong with it; a field that is wrong keeps PEFT's default."""
    reader = _Reader(raw)
    reader.method()
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        if name in raw:
            value = read(reader, name, raw[name])
            if value is not _KEEP_DEFAULT:
                values[name] = value
    known = set(_READERS) | _OTHER_FIELDS | {"peft_type"}
    for name in raw:
        if name not in known:
            shown = escape(name, 60)
            message = f"{shown!r} is not one of PEFT's fields: PEFT 0.14 and newer ignore it, older ones refuse it"
            reader.problem("unknown", name, message)
    return LoraConfig(**values), tuple(reader.problems)


_KEEP_DEFAULT: Any = object()


class _Reader:
    """Collects problems while the fields are read."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.problems: list[ConfigProblem] = []

    def problem(self, kind: Any, name: str, message: str, **details: Any) -> Any:
        if "actual" in details:
            details["actual"] = shown(details["actual"])
        self.problems.append(ConfigProblem(kind, escape(name, 60), message, **details))
        return _KEEP_DEFAULT

    def wrong_type(self, name: str, value: Any, expected: str) -> Any:
        message = f"{name} is {_as_json(value)}; it has to be {expected}"
        return self.problem("invalid", name, message, expected=expected, actual=value)

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
            hint = 'Add "peft_type": "LORA", or export the adapter in PEFT\'s format.'
            self.problem("invalid", "peft_type", message, expected="LORA", hint=hint)
        else:
            message = f"peft_type is {shown(kind)}; only LoRA adapters can be served"
            self.problem("not-lora", "peft_type", message, expected="LORA", actual=kind)


def shown(value: Any) -> Any:
    """Return a config value as a message or a report may hold it: numbers as they are, text escaped and clipped."""
    return value if isinstance(value, int | float | bool) or value is None else escape(repr(value), 80)


def _as_json(value: Any) -> Any:
    """The value as the file has it: null and true, not None and True."""
    return json.dumps(value) if value is None or isinstance(value, bool) else shown(value)


def _boolean(reader: _Reader, name: str, value: Any) -> Any:
    """PEFT asks only whether the value is true, as Python takes it: 1 and "no" are, 0 and [] are not."""
    if not isinstance(value, bool) and value is not None:
        taken = "true" if value else "false"
        message = f"{name} is {_as_json(value)}, which PEFT takes for {taken}"
        reader.problem("odd", name, message, expected=f"{taken}, written so", actual=value)
    return bool(value)


def _text(reader: _Reader, name: str, value: Any) -> Any:
    return value if value is None or isinstance(value, str) else reader.wrong_type(name, value, "a string or null")


def _rank(reader: _Reader, name: str, value: Any) -> Any:
    if type(value) is not int or value <= 0:
        return reader.wrong_type(name, value, "a whole number above 0")
    return value


def _alpha(reader: _Reader, name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return reader.wrong_type(name, value, "a number")
    if not math.isfinite(value):
        message = f"{name} is {value}; every output of the adapter would be NaN or infinite"
        return reader.problem("invalid", name, message, expected="a finite number", actual=str(value))
    if value == 0:
        message = f"{name} is 0, so the adapter's update is multiplied by 0: it would serve the base model"
        reader.problem("no-effect", name, message, expected="a number other than 0", actual=value)
    return value


def _names(reader: _Reader, name: str, value: Any) -> Any:
    if value is None:
        return _KEEP_DEFAULT
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return reader.wrong_type(name, value, "a list of names or null")
    return tuple(value)


def _names_or_pattern(reader: _Reader, name: str, value: Any) -> Any:
    return value if isinstance(value, str) else _names(reader, name, value)


def _name_or_names(reader: _Reader, name: str, value: Any) -> Any:
    return (
        (value,) if isinstance(value, str) and value else _KEEP_DEFAULT if value == "" else _names(reader, name, value)
    )


def _layers(reader: _Reader, name: str, value: Any) -> Any:
    if value is None:
        return _KEEP_DEFAULT
    layers = [value] if type(value) is int else value
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        return reader.wrong_type(name, value, "a layer index or a list of them")
    return tuple(layers) if layers else _KEEP_DEFAULT


def _pattern(read: Callable[[_Reader, str, Any], Any]) -> Callable[[_Reader, str, Any], Any]:
    def parse(reader: _Reader, name: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return reader.wrong_type(name, value, "an object: pattern -> number")
        result: dict[str, Any] = {}
        for key, item in value.items():
            parsed = read(reader, name, item)
            if parsed is not _KEEP_DEFAULT:
                result[key] = parsed
        return MappingProxyType(result)

    return parse


def _replication(reader: _Reader, name: str, value: Any) -> Any:
    if value is None:
        return _KEEP_DEFAULT
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair) and 0 <= pair[0] < pair[1]
        for pair in value
    ):
        return reader.wrong_type(name, value, "a list of [start, end) pairs")
    return tuple((pair[0], pair[1]) for pair in value)


def _tokens(reader: _Reader, name: str, value: Any) -> Any:
    if value is None:
        return _KEEP_DEFAULT
    wanted = "a list of token ids, or an object: module -> list of token ids"
    groups: dict[Any, Any] = value if isinstance(value, dict) else {None: value}
    for ids in groups.values():
        if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
            return reader.wrong_type(name, value, wanted)
    return MappingProxyType({module: tuple(ids) for module, ids in groups.items()})


def _bias(reader: _Reader, name: str, value: Any) -> Any:
    if value not in ("none", "all", "lora_only"):
        return reader.wrong_type(name, value, "'none', 'all' or 'lora_only'")
    return value


def _task_type(reader: _Reader, name: str, value: Any) -> Any:
    if value is not None and value not in TASK_TYPES:
        return reader.wrong_type(name, value, "null or one of " + ", ".join(TASK_TYPES))
    return value


def _init(reader: _Reader, name: str, value: Any) -> Any:
    return (
        value
        if isinstance(value, bool | str)
        else _KEEP_DEFAULT
        if value is None
        else reader.wrong_type(name, value, "true, false or a name")
    )


def _object(reader: _Reader, name: str, value: Any) -> Any:
    if value is None or value is False:
        return _KEEP_DEFAULT
    return MappingProxyType(value) if isinstance(value, dict) else reader.wrong_type(name, value, "an object or null")


_READERS: Mapping[str, Callable[[_Reader, str, Any], Any]] = MappingProxyType(
    {
        "r": _rank,
        "lora_alpha": _alpha,
        "target_modules": _names_or_pattern,
        "exclude_modules": _names_or_pattern,
        "target_parameters": _names,
        "modules_to_save": _names,
        "layers_to_transform": _layers,
        "layers_pattern": _name_or_names,
        "rank_pattern": _pattern(_rank),
        "alpha_pattern": _pattern(_alpha),
        "layer_replication": _replication,
        "trainable_token_indices": _tokens,
        "ensure_weight_tying": _boolean,
        "bias": _bias,
        "lora_bias": _boolean,
        "use_dora": _boolean,
        "use_rslora": _boolean,
        "use_qalora": _boolean,
        "fan_in_fan_out": _boolean,
        "init_lora_weights": _init,
        "task_type": _task_type,
        "base_model_name_or_path": _text,
        "peft_version": _text,
        "use_bdlora": _object,
        "kasa_config": _object,
        "velora_config": _object,
        "monteclora_config": _object,
    }
)
assert set(_READERS) == {item.name for item in fields(LoraConfig)}
