"""A model type under many configs, as transformers builds it on the meta device. Needs torch and transformers.

The configs are those of the proof: small random ones around the class default. Then each field of one of them is
changed alone, so that no size is taken for a constant because its field was never another.
"""

from __future__ import annotations

import copy
import inspect
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proof import HEADS, build, model_class
from proof_configs import class_type, random_config

from drafting.recorded import Recorded
from lora_packer.base_model.meta import modules_of
from lora_packer.base_model.module import Modules

Fields = dict[str, Any]
_MOST_TRIES = 20
# What a modelling file asks a config for that its class may not declare.
_READ_IF_THERE = re.compile(r'getattr\((?:self\.)?config, "(\w+)"')
_UNDECLARED_TRIES = 4
_NEVER_CHANGED = frozenset({"model_type", "transformers_version", "id2label", "label2id", "dtype", "torch_dtype"})


def record(model_type: str, wanted: int) -> Recorded:
    """Return what a type's models are under so many random configs, and with each field changed. Raises LookupError."""
    heads = _heads(model_type)
    if not heads:
        raise LookupError(f"transformers has no class that the proof compares for the model type {model_type}")
    chance = random.Random(f"draft {model_type}")
    default, aliases = _default(model_type)
    nullable = _nullable(default)
    models: list[tuple[Fields, Fields, dict[str, Modules]]] = []
    for _ in range(wanted * _MOST_TRIES):
        if len(models) >= wanted:
            break
        _add(models, _with_nulls(random_config(model_type, chance), nullable, chance), heads)
    if not models:
        raise LookupError(f"none of {wanted * _MOST_TRIES} random configs of {model_type} can be built")
    for config in [
        *_changed(models[0][0], chance),
        *_with_undeclared(models, model_class(model_type, heads[0]), chance),
    ]:
        _add(models, config, heads[:1])
    first = build(models[0][0], heads[0])
    return Recorded(
        model_type,
        [_declared(config, aliases) for config, _, _ in models],
        [resolved for _, resolved, _ in models],
        [classes for _, _, classes in models],
        {head: prefix for head in heads if (prefix := _prefix(model_type, head, models)) is not None},
        aliases,
        _nested(default, model_type),
        _targets(model_type),
        _input_embedding(first),
        bool(getattr(default, "is_encoder_decoder", False)),
    )


def _heads(model_type: str) -> list[str]:
    """The bare model first; a class that stands under several heads once."""
    found: dict[Any, str] = {}
    for head in ("none", *(head for head in HEADS if head not in ("none", "text-only"))):
        cls = model_class(model_type, head)
        if cls is not None:
            found.setdefault(cls, head)
    return list(found.values())


def _add(models: list[tuple[Fields, Fields, dict[str, Modules]]], config: Fields, heads: list[str]) -> None:
    """Build a config under each head, and keep it where transformers takes it."""
    classes: dict[str, Modules] = {}
    resolved: Fields = {}
    try:
        for head in heads:
            model = build(config, head)
            classes[head] = modules_of(model)
            resolved = model.config.to_dict()
    except Exception:  # noqa: BLE001 - transformers refuses some random configs in ways of its own
        return
    models.append((config, resolved, classes))


def _nullable(default: Any) -> frozenset[str]:
    """The fields whose declared default is null, whatever the class makes of it: of the config, and nested ones."""
    configs = [default, *(getattr(default, name, None) for name in getattr(default, "sub_configs", None) or {})]
    fields = (fields for config in configs for fields in getattr(type(config), "__dataclass_fields__", {}).values())
    return frozenset(item.name for item in fields if item.default is None) - _NEVER_CHANGED


def _with_nulls(config: Fields, nullable: frozenset[str], chance: random.Random) -> Fields:
    """The same, with fields null in some that may be: transformers derives them then."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name, value in part.items():
            if name in nullable and isinstance(value, int | list) and chance.random() < 0.3:
                part[name] = None
    return config


def _with_undeclared(
    models: list[tuple[Fields, Fields, dict[str, Modules]]], cls: Any, chance: random.Random
) -> Iterator[Fields]:
    """Yield configs with a field that the modelling code reads where it is, and the config class does not declare."""
    source = Path(inspect.getfile(cls)).read_text(encoding="utf-8")
    for name in sorted({"head_dim", *_READ_IF_THERE.findall(source)}):
        for config, _, _ in models[:_UNDECLARED_TRIES]:
            if name not in config and not any(name in part for part in config.values() if isinstance(part, dict)):
                yield {**copy.deepcopy(config), name: chance.choice((24, 40, 48))}


def _changed(config: Fields, chance: random.Random) -> Iterator[Fields]:
    """Yield the config with each of its numbers and flags changed alone."""
    nested = [name for name, value in config.items() if isinstance(value, dict) and "model_type" in value]
    for place in (None, *nested):
        part = config[place] if place else config
        for name, value in part.items():
            if name in _NEVER_CHANGED or name.endswith("_token_id"):
                continue
            for other in _others(value, chance):
                changed = copy.deepcopy(config)
                (changed[place] if place else changed)[name] = other
                yield changed


def _others(value: Any, chance: random.Random) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield 2 * value if value else chance.choice((1, 2))
        if value > 1:
            yield value + chance.choice((1, 2, 3))
    elif value is None:
        yield chance.choice((2, 4, 8))


def _default(model_type: str) -> tuple[Any, dict[str, Mapping[str, str]]]:
    """The class default, and the other names of fields by nested config."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(class_type(model_type))
    aliases = {"": dict(getattr(default, "attribute_map", {}))}
    for name in getattr(default, "sub_configs", None) or {}:
        aliases[name] = dict(getattr(getattr(default, name, None), "attribute_map", {}))
    return default, {name: names for name, names in aliases.items() if names}


def _nested(default: Any, model_type: str) -> dict[str, str]:
    """The type of each nested config, as the recorded defaults name it."""
    found = {}
    for name in getattr(default, "sub_configs", None) or {}:
        child = getattr(default, name, None)
        if child is not None:
            found[name] = child.model_type or f"{model_type}.{name}"
    return found


def _declared(config: Fields, aliases: Mapping[str, Mapping[str, str]]) -> Fields:
    """The config under the declared names of its fields."""
    found = copy.deepcopy(config)
    for place, names in aliases.items():
        part = found.get(place) if place else found
        if isinstance(part, dict):
            for alias, name in names.items():
                if alias in part:
                    value = part.pop(alias)
                    part[name] = part.get(name) if value is None else value
    return found


def _prefix(model_type: str, head: str, models: list[tuple[Fields, Fields, dict[str, Modules]]]) -> str | None:
    """What stands before the bare model's paths in a class."""
    if head == "none":
        return ""
    before = f"{model_class(model_type, head).base_model_prefix}."
    classes = next(classes for _, _, classes in models if head in classes)
    if any(path.startswith(before) for path in classes[head]):
        return before
    bare = classes.get("none")
    starts = dict.fromkeys(path.partition(".")[0] for path in classes[head])
    return next(
        (f"{start}." for start in starts if bare and all(f"{start}.{path}" in classes[head] for path in bare)), ""
    )


def _targets(model_type: str) -> tuple[str, ...] | str:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    found = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type, ())
    return found if isinstance(found, str) else tuple(found)


def _input_embedding(model: Any) -> str:
    """How the path of the input embedding ends."""
    try:
        found = model.get_input_embeddings()
    except Exception:  # noqa: BLE001 - some classes have none and say so in ways of their own
        return "embed_tokens"
    return next((path.rpartition(".")[2] for path, module in model.named_modules() if module is found), "embed_tokens")
