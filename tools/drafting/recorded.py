"""What was recorded of a model type: its models under many configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drafting.parts import Seen
from drafting.scope import Key, Scope
from drafting.write import below
from lora_packer.base_model.module import Modules

Raw = Mapping[str, Any]
_TEXT = "text_config"


@dataclass(frozen=True)
class Recorded:
    """A model type under many configs.

    Attributes:
        model_type: the type.
        configs: one a model, as a file would have it, under the declared names of the fields.
        resolved: the same as transformers holds them.
        classes: the modules of each model, by head.
        prefixes: what stands before the bare model's paths under each head.
        aliases: transformers' ``attribute_map`` by nested config, "" for the config itself.
        nested: nested config -> its type.
        targets: what PEFT targets by default.
        input_embedding: how the input embedding's path ends.
        encoder_decoder: whether it is a model of that kind.
    """

    model_type: str
    configs: Sequence[Raw]
    resolved: Sequence[Raw]
    classes: Sequence[Mapping[str, Modules]]
    prefixes: Mapping[str, str]
    aliases: Mapping[str, Mapping[str, str]]
    nested: Mapping[str, str]
    targets: tuple[str, ...] | str = ()
    input_embedding: str = "embed_tokens"
    encoder_decoder: bool = False

    @property
    def name(self) -> str:
        """The type as a name of the source."""
        return self.model_type.replace("-", "_")

    @property
    def heads(self) -> list[str]:
        """The heads that it has a class for."""
        return list(dict.fromkeys(head for classes in self.classes for head in classes))

    @property
    def text(self) -> str | None:
        """The nested config that holds the language model, or None."""
        return _TEXT if _TEXT in self.nested else None

    def bare(self) -> list[Seen]:
        """Return the model without a head, once for each config."""
        return [Seen(Key(model), self._bare_of(classes)) for model, classes in enumerate(self.classes)]

    def _bare_of(self, classes: Mapping[str, Modules]) -> Modules:
        if "none" in classes:
            return classes["none"]
        head, modules = next(iter(classes.items()))
        prefix = self.prefixes.get(head, "")
        return {path.removeprefix(prefix): module for path, module in modules.items() if path.startswith(prefix)}

    def scope(self, *nested: str, labels: bool = False) -> Scope:
        """Return the configs as ``s``, and nested ones beside it."""
        variables = {"s": "", **{variable_of(name): name for name in nested}}
        return self._scope(variables, labels=labels)

    def scope_of(self, nested: str) -> Scope:
        """Return a nested config alone, as ``s``."""
        return self._scope({"s": nested})

    def _scope(self, variables: Mapping[str, str], *, labels: bool = False) -> Scope:
        return Scope(
            {variable: [_at(config, name) for config in self.configs] for variable, name in variables.items()},
            {variable: [_at(config, name) for config in self.resolved] for variable, name in variables.items()},
            labels=labels,
        )


def variable_of(nested: str) -> str:
    """What the source calls a nested config."""
    return nested.removesuffix("_config")


def _at(config: Raw, nested: str) -> Raw:
    part = config.get(nested) if nested else config
    return part if isinstance(part, Mapping) else {}


def at(seen: Sequence[Seen], prefix: str) -> list[Seen]:
    """Return what lies below a prefix, of any depth."""
    return [below(one, prefix) for one in seen]
