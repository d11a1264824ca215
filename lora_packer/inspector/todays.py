"""What an older release wrote, in the form of today's: other names, or the halves of experts the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from lora_packer.adapter.keys import key_name, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import Modules
from lora_packer.inspector.case import Case
from lora_packer.inspector.matching import core_of
from lora_packer.peft.expected import named_parameters

Tensors = Mapping[str, TensorInfo]


def todays_names(case: Case, names: Iterable[str]) -> Mapping[str, str] | None:
    """Return the new name of each tensor that has one of another release or class, or None where one has no place."""
    first = next(iter(case.base.dialects))
    if case.dialect == first or case.sources:
        return None
    place = _places(case.base.dialects[case.dialect], case.base.dialects[first])
    moved = {}
    for name in names:
        key = parse_key(name)
        path, leaf = (key.path, "") if key.part else key.path.rpartition(".")[::2]
        new = place(path)
        if new is None:
            return None
        moved[name] = key_name(new if key.part else f"{new}.{leaf}", key.part)
    return {old: new for old, new in moved.items() if old != new} or None


def _places(old: Modules, new: Modules) -> Callable[[str], str | None]:
    """Where a module of one tree is in the other: the one with the same place behind what stands in front."""
    places = by_core(new)

    @cache
    def place(path: str) -> str | None:
        meant = places.get(core_of(key_name(path, ""))) if path in old else None
        return meant if meant is not None and new[meant] == old[path] else None

    return place


def by_core(modules: Modules) -> Mapping[str, str | None]:
    """Return the module at each place behind what stands in front; None where several have the same."""
    places: dict[str, str | None] = {}
    for path in modules:
        core = core_of(key_name(path, ""))
        places[core] = None if core in places else path
    return places


def turned_experts(case: Case, names: Iterable[str]) -> Mapping[str, int]:
    """Return the paths of fused experts whose halves a PEFT before 0.19 wrote, each with the number of its experts."""
    if not case.era.swapped_experts:
        return {}
    there = set(names)
    parameters = {name: module for name, _, module in named_parameters(case.config, case.modules)}
    return {
        path: experts
        for path, (name, experts) in case.expectation.experts.items()
        if not parameters[name].transposed
        and len(parameters[name].weight_shape) == 3
        and all(key_name(path, part) in there for part in ("lora_A.weight", "lora_B.weight"))
    }


def in_todays_form(case: Case, tensors: Tensors) -> Tensors | None:
    """Return the names and shapes that ``fix`` gives what PEFT does not load today, or None where it does nothing."""
    turned = turned_experts(case, tensors)
    if turned:
        infos = dict(tensors)
        for path in turned:
            a, b = key_name(path, "lora_A.weight"), key_name(path, "lora_B.weight")
            infos[a] = tensors[a]._replace(shape=tensors[b].shape[::-1])
            infos[b] = tensors[b]._replace(shape=tensors[a].shape[::-1])
        return infos
    names = todays_names(case, tensors)
    if names is None:
        return None
    moved = {names.get(name, name): info for name, info in tensors.items()}
    return moved if len(moved) == len(tensors) else None
