"""The fields of ``adapter_config.json``, each read as PEFT takes it.

What PEFT refuses is told, and what it takes for another value. The meaning is that of ``peft/tuners/lora/config.py``,
``layer.py`` and ``peft/tuners/tuners_utils.py`` in PEFT 0.21.2
(https://github.com/huggingface/peft/tree/v0.21.2/src/peft).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lora_packer.adapter.config_reader import KEEP_DEFAULT, Read, Reader, as_json

# As many as a model with its layers listed some dozens of times.
_MOST_LAYERS = 10_000
TASK_TYPES = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")


def _boolean(reader: Reader, name: str, value: Any) -> Any:
    """PEFT asks only whether the value is true, as Python takes it: 1 and "no" are, 0 and [] are not."""
    if not isinstance(value, bool) and value is not None:
        reader.odd(name, value, "true" if value else "false")
    return bool(value)


def _text(reader: Reader, name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    message = f"{name} is {as_json(value)}, which is no string: PEFT does not look at it"
    return reader.problem("odd", name, message, expected="a string or null", actual=value)


def _rank(reader: Reader, name: str, value: Any) -> Any:
    if type(value) is not int or value <= 0:
        return reader.wrong_type(name, value, "a whole number above 0")
    return value


def _alpha(reader: Reader, name: str, value: Any) -> Any:
    if isinstance(value, bool):
        reader.odd(name, value, str(int(value)))
        value = int(value)
    if not isinstance(value, int | float):
        return reader.wrong_type(name, value, "a number")
    if not math.isfinite(value):
        message = f"{name} is {value}; every output of the adapter would be NaN or infinite"
        return reader.problem("invalid", name, message, expected="a finite number", actual=str(value))
    if value == 0 and not reader.raw.get("alpha_pattern"):
        message = f"{name} is 0, so the adapter's update is multiplied by 0: it would serve the base model"
        reader.problem("no-effect", name, message, expected="a number other than 0", actual=value)
    return value


def _names(reader: Reader, name: str, value: Any) -> Any:
    if value is None:
        return KEEP_DEFAULT
    if isinstance(value, dict):
        reader.odd(name, value, "a list of its keys")
        value = list(value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return reader.wrong_type(name, value, "a list of names or null")
    return tuple(value)


def _names_or_pattern(reader: Reader, name: str, value: Any) -> Any:
    return value if isinstance(value, str) else _names(reader, name, value)


def _only_names(read: Read) -> Read:
    """A list in which PEFT passes over what is no name."""

    def parse(reader: Reader, name: str, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
            return reader.wrong_type(name, value, "a list of names or null")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            reader.odd(name, value, "a list without what is no name in it")
            value = [item for item in value if isinstance(item, str)]
        return read(reader, name, value)

    return parse


def _optional(read: Read, *empty: Any) -> Read:
    """A field that PEFT asks first whether it is true, as Python takes it: what is not, is as if it were not there."""

    def parse(reader: Reader, name: str, value: Any) -> Any:
        if value is not None and any(value == item and type(value) is type(item) for item in (False, 0, 0.0, *empty)):
            reader.odd(name, value, "null")
            return KEEP_DEFAULT
        return read(reader, name, value)

    return parse


def _name_or_names(reader: Reader, name: str, value: Any) -> Any:
    return (
        (value,) if isinstance(value, str) and value else KEEP_DEFAULT if value == "" else _names(reader, name, value)
    )


def _layers(reader: Reader, name: str, value: Any) -> Any:
    if value is None:
        return KEEP_DEFAULT
    layers = value if isinstance(value, list) else [value]
    if not all(isinstance(layer, int) or (isinstance(layer, float) and value is layers) for layer in layers):
        return reader.wrong_type(name, value, "a layer index or a list of them")
    whole = tuple(int(layer) for layer in layers if layer == layer // 1)
    if any(type(layer) is not int for layer in layers):
        reader.odd(name, value, f"the layers {list(whole)}")
    return whole if layers else KEEP_DEFAULT


def _pattern(read: Read) -> Read:
    def parse(reader: Reader, name: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return reader.wrong_type(name, value, "an object: pattern -> number")
        result: dict[str, Any] = {}
        for key, item in value.items():
            parsed = read(reader, name, item)
            if parsed is not KEEP_DEFAULT:
                result[key] = parsed
        return MappingProxyType(result)

    return parse


def _replication(reader: Reader, name: str, value: Any) -> Any:
    """A pair whose end is not behind its start stands for no layer, and one below 0 counts from the last layer."""
    if value is None:
        return KEEP_DEFAULT
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, int) for n in pair) for pair in value
    ):
        return reader.wrong_type(name, value, "a list of [start, end) pairs")
    pairs = tuple((int(pair[0]), int(pair[1])) for pair in value)
    layers = sum(max(0, end - start) for start, end in pairs)
    if layers > _MOST_LAYERS:
        message = f"{name} stands for {layers} layers; at most {_MOST_LAYERS} are read"
        return reader.problem("invalid", name, message, expected=f"at most {_MOST_LAYERS} layers", actual=layers)
    if any(isinstance(n, bool) for pair in value for n in pair):
        reader.odd(name, value, str([list(pair) for pair in pairs]))
    return pairs


def _tokens(reader: Reader, name: str, value: Any) -> Any:
    if value is None:
        return KEEP_DEFAULT
    wanted = "a list of token ids, or an object: module -> list of token ids"
    groups: dict[Any, Any] = value if isinstance(value, dict) else {None: value}
    for ids in groups.values():
        if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
            return reader.wrong_type(name, value, wanted)
    return MappingProxyType({module: tuple(ids) for module, ids in groups.items()})


def _dropout(reader: Reader, name: str, value: Any) -> Any:
    if not isinstance(value, int | float) or value > 1:
        return reader.wrong_type(name, value, "a number from 0 to 1")
    return value


def _invocation(reader: Reader, name: str, value: Any) -> Any:
    if not value:
        return KEEP_DEFAULT
    if not isinstance(value, list) or not all(isinstance(token, int) and token >= 0 for token in value):
        return reader.wrong_type(name, value, "a list of token ids or null")
    return tuple(value)


def _bias(reader: Reader, name: str, value: Any) -> Any:
    if value not in ("none", "all", "lora_only"):
        return reader.wrong_type(name, value, "'none', 'all' or 'lora_only'")
    return value


def _task_type(reader: Reader, name: str, value: Any) -> Any:
    if value is not None and value not in TASK_TYPES:
        return reader.wrong_type(name, value, "null or one of " + ", ".join(TASK_TYPES))
    return value


def _init(reader: Reader, name: str, value: Any) -> Any:
    if value is None:
        return KEEP_DEFAULT
    if not value and not isinstance(value, bool | str):
        reader.odd(name, value, "false")
        return False
    return value if isinstance(value, bool | str) else reader.wrong_type(name, value, "true, false or a name")


def _object(reader: Reader, name: str, value: Any) -> Any:
    if value is None:
        return KEEP_DEFAULT
    return MappingProxyType(value) if isinstance(value, dict) else reader.wrong_type(name, value, "an object or null")


READERS: Mapping[str, Read] = MappingProxyType(
    {
        "r": _rank,
        "lora_alpha": _alpha,
        "target_modules": _names_or_pattern,
        "exclude_modules": _optional(_only_names(_names_or_pattern), {}),
        "target_parameters": _optional(_only_names(_names), {}),
        "modules_to_save": _optional(_names, {}, ""),
        "layers_to_transform": _layers,
        "layers_pattern": _optional(_name_or_names, {}),
        "rank_pattern": _pattern(_rank),
        "alpha_pattern": _pattern(_alpha),
        "layer_replication": _optional(_replication, {}, ""),
        "trainable_token_indices": _tokens,
        "ensure_weight_tying": _boolean,
        "lora_dropout": _dropout,
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
        "alora_invocation_tokens": _invocation,
        "arrow_config": _object,
        "use_bdlora": _object,
        "kasa_config": _object,
        "velora_config": _object,
        "monteclora_config": _optional(_object, "", []),
    }
)
