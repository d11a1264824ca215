"""The rules: each declared in the module that finds it, and collected here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lora_packer.inspector.rules import (
    config,
    config_on_base,
    definition,
    extra,
    files,
    limits,
    loading,
    missing,
    names,
    placed,
    served,
    shapes,
    target,
    values,
    vocabulary,
)
from lora_packer.inspector.rules.rule import Effect, Rule

__all__ = ["RULES", "Effect", "Rule"]

_MODULES = (
    files,
    config,
    config_on_base,
    shapes,
    missing,
    extra,
    names,
    loading,
    definition,
    vocabulary,
    values,
    target,
    served,
    limits,
    placed,
)
_DECLARED = {rule.code: rule for module in _MODULES for rule in vars(module).values() if isinstance(rule, Rule)}

RULES: Mapping[str, Rule] = MappingProxyType(dict(sorted(_DECLARED.items())))
