"""Names in a config that match nothing of a base model, of which PEFT says nothing where others match.

``peft/tuners/tuners_utils.py::inject_adapter`` of PEFT 0.21.2 raises only where no module at all is targeted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import layer_index
from lora_packer.base_model import Modules
from lora_packer.peft.expectation import parameters
from lora_packer.peft.targets import HEADS_OF_TASKS, OUTPUT_HEADS, containers

Field = Literal["target_modules", "target_parameters", "layers_to_transform"]

# What one class of a type has and another has not: it is named for whichever class there is.
_HEADS = frozenset(OUTPUT_HEADS).union(*HEADS_OF_TASKS.values())


# More than a list of every module of a large model has; each is looked for in all of them.
_MOST_NAMES = 2_000


class Unmatched(NamedTuple):
    """A name that matches nothing: the field it stands in, and the name (of ``layers_to_transform``: the index)."""

    field: Field
    name: str


def unmatched(config: LoraConfig, trees: Sequence[Modules]) -> Iterator[Unmatched]:
    """Yield what matches nothing in any of these trees, which are the names of one model in several releases.

    Of a list that is longer than any model's modules the first names are looked for.
    """
    names = [Unmatched("target_modules", name) for name in _listed(config.target_modules)]
    names += [Unmatched("target_parameters", name) for name in config.target_parameters or ()]
    for item in names[:_MOST_NAMES]:
        if item.name not in _HEADS and not any(_matches(item, modules) for modules in trees):
            yield item
    layers = config.layers_to_transform or ()
    if layers:
        last = max((layer_index(path) or 0 for modules in trees for path in modules), default=0)
        yield from (Unmatched("layers_to_transform", str(index)) for index in layers if index > last)


def _listed(names: tuple[str, ...] | str | None) -> tuple[str, ...]:
    return () if isinstance(names, str) or names is None else names


def _matches(item: Unmatched, modules: Modules) -> bool:
    match item.field:
        case "target_modules":
            layers = (path for path, module in modules.items() if module.kind != "parameter")
            return _any_ends(layers, item.name) or _any_ends(containers(modules), item.name)
        case _:
            return _any_ends((name for name, *_ in parameters(modules)), item.name)


def _any_ends(paths: Iterable[str], name: str) -> bool:
    dotted = f".{name}"
    return any(path == name or path.endswith(dotted) for path in paths)
