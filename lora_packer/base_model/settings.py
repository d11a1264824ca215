"""A base model's ``config.json`` with the class defaults filled in, read with types."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from lora_packer.base_model.defaults import recorded
from lora_packer.errors import InputError
from lora_packer.redact import escape

# No model has as many layers, and none a width or a vocabulary as large: such a config would only fill the memory.
_MOST_LAYERS = 10_000
_MOST = 1 << 40


class Settings:
    """Typed access to a config's fields; an absent field has the default of transformers' config class.

    ``defaults`` are those of a config type that has recorded ones, or these.
    """

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any] | str) -> None:
        self._raw = raw
        self._defaults = recorded(defaults) if isinstance(defaults, str) else defaults

    def _value(self, name: str) -> Any:
        return self._raw[name] if name in self._raw else self._defaults.get(name)

    def size(self, name: str) -> int:
        """Return a field that has to be a positive integer. Raises InputError."""
        value = self._value(name)
        most = _MOST_LAYERS if name.endswith(("layers", "n_layer", "depth")) else _MOST
        if type(value) is not int or not 0 < value <= most:
            shown = escape(repr(value), 60)
            raise InputError(
                f"the base config's {name} is {shown}; it has to be a whole number from 1 to {most:,}.",
                hint="Use the base model's own config.json.",
            )
        return value

    # The sizes that nearly every config has, by a word. Each raises InputError as :meth:`size` does.

    @cached_property
    def vocab(self) -> int:
        """The number of tokens, ``vocab_size``."""
        return self.size("vocab_size")

    @cached_property
    def hidden(self) -> int:
        """The width of the hidden state, ``hidden_size``."""
        return self.size("hidden_size")

    @cached_property
    def inner(self) -> int:
        """The width inside a feed-forward block, ``intermediate_size``."""
        return self.size("intermediate_size")

    @cached_property
    def heads(self) -> int:
        """The number of query heads, ``num_attention_heads``."""
        return self.size("num_attention_heads")

    @cached_property
    def layers(self) -> int:
        """The number of layers, ``num_hidden_layers``."""
        return self.size("num_hidden_layers")

    def optional_size(self, name: str) -> int | None:
        """Return a size, or None where the field is absent or null. Raises InputError."""
        return None if self._value(name) is None else self.size(name)

    def count(self, name: str) -> int:
        """Return a field that has to be a whole number, zero allowed (null is zero). Raises InputError."""
        return 0 if self._value(name) in (None, 0) else self.size(name)

    def flag(self, name: str) -> bool:
        """Return whether the field is true."""
        return bool(self._value(name))

    def labels(self) -> int:
        """Return the number of labels: the length of ``id2label``, two by default (configuration_utils.py)."""
        labels = self._value("id2label")
        count = len(labels) if isinstance(labels, Mapping) else self._value("num_labels")
        return count if type(count) is int and count > 0 else 2

    def nested(self, name: str) -> Settings:
        """Return a nested config, such as ``text_config``; its defaults are those of its type and of this config."""
        raw, own = self._raw.get(name), self.default(name)
        defaults = own
        if "model_type" in own:
            others = {field: value for field, value in own.items() if field != "model_type"}
            defaults = recorded(own["model_type"])
            defaults = {**defaults, **others} if others else defaults
        return Settings(raw if isinstance(raw, Mapping) else {}, defaults)

    def default(self, name: str) -> Mapping[str, Any]:
        """Return what this config's class puts for a nested config that is absent: its type and its fields."""
        value = self._defaults.get(name)
        return value if isinstance(value, Mapping) else {}

    def aliased(self, names: Mapping[str, str]) -> Settings:
        """Return the same config, in which a field can be read by its name and by its alias.

        ``names`` is transformers' ``attribute_map``, alias -> name. Where the file has both, the alias wins, as it does
        in transformers (configuration_utils.py).
        """
        raw, defaults = dict(self._raw), dict(self._defaults)
        for alias, name in names.items():
            for fields in (raw, defaults):
                if alias in fields or name in fields:
                    value = fields.get(alias)
                    fields[alias] = fields[name] = fields.get(name) if value is None else value
        return Settings(raw, defaults)

    def value(self, name: str) -> Any:
        """Return a field as it is, for what is not a size: a pattern, a list, a string."""
        return self._value(name)

    def pair(self, name: str) -> tuple[int, int]:
        """Return a size that may be written as one number or as two. Raises InputError."""
        value = self._value(name)
        if not isinstance(value, list | tuple) or len(value) != 2:
            return self.size(name), self.size(name)
        first, second = (Settings({name: number}, {}).size(name) for number in value)
        return first, second

    @property
    def raw(self) -> Mapping[str, Any]:
        """The fields of the config itself, without defaults."""
        return self._raw

    def ratio(self, name: str) -> float:
        """Return a field that has to be a positive number. Raises InputError."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 40:
            shown = escape(repr(value), 60)
            raise InputError(
                f"the base config's {name} is {shown}; it has to be a positive number.",
                hint="Use the base model's own config.json.",
            )
        return float(value)

    def names(self, name: str) -> tuple[str, ...] | None:
        """Return a list of strings, such as ``layer_types``, or None where it is absent or null. Raises InputError."""
        value = self._value(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise InputError(
                f"the base config's {name} is not a list of strings.", hint="Use the base model's own config.json."
            )
        return tuple(value)

    def indices(self, name: str) -> frozenset[int]:
        """Return a list of layer numbers; absent or null is empty. Raises InputError."""
        value = self._value(name)
        if value is not None and not (isinstance(value, list | tuple) and all(type(item) is int for item in value)):
            raise InputError(
                f"the base config's {name} is not a list of whole numbers.",
                hint="Use the base model's own config.json.",
            )
        return frozenset(value or ())

    def filled(self, *names: str) -> Settings:
        """Return the config with the default of these fields in place of null, as a class does that fills them in."""
        raw = {field: value for field, value in self._raw.items() if value is not None or field not in names}
        return Settings(raw, self._defaults)

    def length(self, name: str) -> int:
        """Return how long a list is; absent or null is zero. Raises InputError."""
        value = self._value(name)
        if value is not None and not isinstance(value, list | tuple):
            raise InputError(f"the base config's {name} is not a list.", hint="Use the base model's own config.json.")
        return len(value or ())

    def with_fields(self, **fields: Any) -> Settings:
        """Return the same config with these fields set, whatever the file has."""
        return Settings({**self._raw, **fields}, self._defaults)

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of sizes, such as one for each layer, or None where it is absent or null. Raises InputError."""
        value = self._value(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise InputError(f"the base config's {name} is not a list.", hint="Use the base model's own config.json.")
        return tuple(Settings({name: number}, {}).count(name) for number in value)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return a list of positive whole numbers that must not be empty. Raises InputError."""
        numbers = self.numbers(name)
        if not numbers or 0 in numbers:
            raise InputError(
                f"the base config's {name} is not a list of positive whole numbers.",
                hint="Use the base model's own config.json.",
            )
        return numbers
