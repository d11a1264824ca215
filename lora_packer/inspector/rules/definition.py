"""How the base model's definition is held, where transformers has no class to compare it with (LP324)."""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import Rule
from lora_packer.redact import escape

OF_REMOTE_CODE = Rule(
    "LP324",
    "remote-code-base",
    "info",
    "The base model's code is in its own repository: its definition was not compared with a class of transformers.",
    "Another revision of that repository may name or size a module otherwise.",
    "Compare the module names with those of the revision that you train and serve, if a finding surprises you.",
    needs="base",
)

_HOW = {"built": "compared module by module with", "read": "read from"}


def how_it_is_held(base: BaseModel) -> Iterator[Finding]:
    """Say what a definition of a type that transformers does not have was compared with."""
    if base.proof is not None:
        held = f"{_HOW[base.proof.how]} {base.proof.source}"
        message = f"transformers has no class of {escape(base.model_type, 60)}: its modules here were {held}"
        yield OF_REMOTE_CODE.finding(message, actual=base.proof.how)
