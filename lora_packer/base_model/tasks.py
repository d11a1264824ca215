"""For which tasks transformers has a class of a model type, as ``tools/record_tasks.py`` has written it.

Where it has none, an adapter for that task can only have been trained on another class, such as the language model's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.base_model.architecture import Head
from lora_packer.base_model.registry import ARCHITECTURES

FILE = Path(__file__).with_name("tasks.json")
GENERATION = "generation"


def has_class(model_type: str, head: Head) -> bool:
    """Whether transformers' auto classes have one with this head for the type (models/auto/modeling_auto.py).

    For a type that transformers does not have: whether its own modelling file has one.
    """
    own = ARCHITECTURES.get(model_type)
    if own is not None and own.proof is not None:
        return head == "causal-lm" or head not in _without() or head in own.proof.heads
    return model_type not in _without().get(head, ())


def generates(model_type: str) -> bool:
    """Whether a class of the type in transformers' auto classes has ``prepare_inputs_for_generation``."""
    return model_type not in _without()[GENERATION]


def generating_instead(model_type: str, named: str | None) -> tuple[str, ...]:
    """Return the classes of the type that have ``prepare_inputs_for_generation`` where the ``named`` one has not.

    The first is that of a language model, the last that with an encoder and a decoder, where it has two. Of a class
    that transformers has not, nothing is known.
    """
    return tuple(_recorded()["generating"].get(model_type, ())) if named in _not_generating() else ()


def is_described(model_type: str, named: str) -> bool:
    """Whether the definition of a type describes the class that a config names.

    Of a type that transformers has not, nothing is recorded: its definition is that of the classes in its own code.
    """
    classes = _recorded()["described"].get(model_type)
    return classes is None or named in classes.values()


def standing_in(model_type: str, head: Head) -> str:
    """Return transformers' class whose modules a definition has under a head, or the type's first."""
    classes: Mapping[str, str] = _recorded()["described"][model_type]
    return classes.get(head) or next(iter(classes.values()))


@cache
def _without() -> Mapping[str, frozenset[str]]:
    return {head: frozenset(types) for head, types in _recorded()["without"].items()}


@cache
def _not_generating() -> frozenset[str]:
    return frozenset(_recorded()["not_generating"])


@cache
def _recorded() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
