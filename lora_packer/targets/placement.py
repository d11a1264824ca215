"""Where the tensors of an adapter land in what an engine makes of the base model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_packer.frozen import frozen

HALF = re.compile(r"\.(?:lora_[AB]\.weight|lora_embedding_[AB])$")
_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
_DATA = Path(__file__).with_name("data")


@frozen
class Base:
    """What decides how an engine serves a base model.

    Attributes:
        architecture: the first of its config's ``architectures``, or None where it names none.
        model_type: its config's.
        tied: whether its output head is its input embedding.
    """

    architecture: str | None
    model_type: str
    tied: bool


@frozen
class Placement:
    """Where the tensors of an adapter land.

    Attributes:
        served: what the engine makes of the base model, as the beginning of a sentence that goes on with a verb.
        landed: tensor -> the path that it has there.
        nowhere: the tensors that are loaded and then used by nothing.
        in_towers: those for which a setting of the server decides.
        refused: why the engine refuses the adapter, as the rest of that sentence -> the tensors for which it does.
    """

    served: str
    landed: Mapping[str, str]
    nowhere: tuple[str, ...] = ()
    in_towers: tuple[str, ...] = ()
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@frozen
class NotServed:
    """That the engine takes no adapter for this base model, and why, as a sentence without its end."""

    why: str


@cache
def recorded(name: str) -> Mapping[str, Any]:
    """Return a table of ``data/``: what ``tools/record_*.py`` saw of an engine's classes."""
    table: Mapping[str, Any] = json.loads((_DATA / name).read_text(encoding="utf-8"))
    return table


def every_layer(path: str) -> str:
    """Return a path with ``*`` for each index."""
    return _INDEX.sub("*", path)
