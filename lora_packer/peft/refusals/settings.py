"""What PEFT 0.21.2 refuses in the objects inside a config: one row for each ``raise`` of their classes.

The lines are those of https://github.com/huggingface/peft/tree/v0.21.2/src/peft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lora_packer.adapter.config_reader import shown
from lora_packer.frozen import frozen
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.redact import escape

_CONFIG = "tuners/lora/config.py"
_VARIANTS = "tuners/lora/variants.py"


@frozen
class _Part:
    """A key of such an object: what PEFT takes for it where it is there, in words, and where it raises."""

    field: str
    key: str
    taken: Callable[[Any], bool]
    expected: str
    source: str


def _least(low: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and value >= low


def _above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _names(value: Any) -> bool:
    return value is None or (isinstance(value, list | str) and all(isinstance(item, str) for item in value))


_INIT_TYPES = ("batch_average_once", "batch_average", "random")

_PARTS = (
    _Part("eva_config", "rho", _least(1), "a number of at least 1", f"{_CONFIG}:308"),
    _Part("eva_config", "tau", lambda value: _least(0)(value) and value <= 1, "a number from 0 to 1", f"{_CONFIG}:310"),
    _Part("kasa_config", "beta", _least(0), "a number of at least 0", f"{_CONFIG}:371"),
    _Part("kasa_config", "gamma", _least(0), "a number of at least 0", f"{_CONFIG}:373"),
    _Part("velora_config", "num_groups", _count, "a whole number above 0", f"{_CONFIG}:113"),
    _Part("velora_config", "scale", _above_zero, "a number above 0", f"{_CONFIG}:115"),
    _Part(
        "velora_config",
        "init_type",
        lambda value: isinstance(value, str) and value in _INIT_TYPES,
        "one of " + ", ".join(_INIT_TYPES),
        f"{_CONFIG}:117",
    ),
    _Part("monteclora_config", "num_samples", _count, "a whole number above 0", f"{_CONFIG}:1258"),
    _Part("monteclora_config", "dirichlet_prior", _above_zero, "a number above 0", f"{_CONFIG}:1260"),
    _Part("monteclora_config", "buffer_size", _count, "a whole number above 0", f"{_CONFIG}:1262"),
    _Part("use_bdlora", "target_modules_bd_a", _names, "a list of names or null", f"{_VARIANTS}:985"),
    _Part("use_bdlora", "target_modules_bd_b", _names, "a list of names or null", f"{_VARIANTS}:986"),
    _Part("use_bdlora", "nblocks", _count, "a whole number above 0", f"{_VARIANTS}:940"),
)
_OBJECTS = (
    "velora_config",
    "kasa_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "arrow_config",
    "use_bdlora",
)
# Of this one alone PEFT passes every key on, and so refuses those that it does not know.
_MONTECLORA_KEYS = frozenset(
    {
        "num_samples",
        "use_entropy",
        "dirichlet_prior",
        "sample_scaler",
        "kl_loss_weight",
        "buffer_size",
    }
)


def refused_settings(raw: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield what PEFT refuses in the config's objects, at most one refusal for each."""
    for name in _OBJECTS:
        value = raw.get(name)
        if value is not None and not isinstance(value, dict):
            message = f"{name} is {shown(value)}; it has to be an object or null"
            yield Refusal(name, message, "an object or null", shown(value), None, f"{_CONFIG}:44")
    objects = {name: raw[name] for name in (*_OBJECTS, "monteclora_config") if isinstance(raw.get(name), dict)}
    unknown = [key for key in objects.get("monteclora_config", ()) if key not in _MONTECLORA_KEYS]
    if unknown:
        message = f"monteclora_config has {escape(repr(unknown[0]), 60)}, which PEFT does not know"
        yield Refusal("monteclora_config", message, sorted(_MONTECLORA_KEYS), None, None, f"{_CONFIG}:1013")
        del objects["monteclora_config"]
    for part in _PARTS:
        if part.key in objects.get(part.field, ()):
            value = objects[part.field][part.key]
            if not part.taken(value):
                message = f"{part.key} in {part.field} is {shown(value)}; it has to be {part.expected}"
                yield Refusal(part.field, message, part.expected, shown(value), None, part.source)
                del objects[part.field]
    blocks = objects.get("use_bdlora", {})
    both = set(blocks.get("target_modules_bd_a") or ()) & set(blocks.get("target_modules_bd_b") or ())
    if both:
        message = f"use_bdlora makes both halves of '{escape(min(both), 60)}' block-diagonal"
        yield Refusal("use_bdlora", message, None, None, None, f"{_CONFIG}:256")
