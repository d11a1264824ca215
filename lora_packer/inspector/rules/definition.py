"""Which class the base model's definition was compared with, where it is not the config's own (LP324, LP325)."""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.base_model import BaseModel
from lora_packer.base_model.architecture import TRANSFORMERS_5
from lora_packer.base_model.tasks import is_described, standing_in
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

STAND_IN = Rule(
    "LP325",
    "stand-in-class",
    "info",
    "The base config names a class that the definition of its model type does not describe: another stood in for it.",
    "That class may have other modules, so that what fits here does not fit there.",
    "Give the config of the class that the adapter is loaded into.",
    needs="base",
)

_HOW = {"built": "compared module by module with", "read": "read from"}


def how_it_is_held(base: BaseModel) -> Iterator[Finding]:
    """Say what class stood in for the one that the config names, and what holds a type that transformers has not."""
    named = base.named_class
    if TRANSFORMERS_5 in base.dialects and named is not None and not is_described(base.model_type, named):
        other = standing_in(base.model_type, base.head)
        message = f"the base config names the class '{escape(named, 60)}', whose modules are not known here: "
        yield STAND_IN.finding(f"{message}the adapter was held against {other}", expected=named, actual=other)
    if base.proof is not None:
        held = f"{_HOW[base.proof.how]} {base.proof.source}"
        message = f"transformers has no class of {escape(base.model_type, 60)}: its modules here were {held}"
        yield OF_REMOTE_CODE.finding(message, actual=base.proof.how)
