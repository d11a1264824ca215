"""Which field of the config, set to what, makes it call for exactly the modules and ranks that the file has.

Whatever is proposed was tried: the config with it targets these modules and no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from lora_packer.adapter.keys import PAIRED, layer_index, without_index
from lora_packer.adapter.patterns import PatternError
from lora_packer.inspector.case import Case, Tensor, parsed
from lora_packer.peft.expected import RANK_AXIS
from lora_packer.peft.targets import PatternLookup, targeting

_LONGEST = 200  # of a value that is shown


class Change(NamedTuple):
    """A field of the config and the value that it should have; None: the field should go.

    ``without``: fields that have to go besides.
    """

    field: str
    value: tuple[str, ...] | tuple[int, ...] | str | None
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it as a next step."""
        gone = "".join(f"Remove {name}. " for name in self.without)
        if self.value is None:
            return f"{gone}Remove {self.field}."
        value = self.value if isinstance(self.value, str) else list(self.value)
        return f"{gone}Set {self.field} to {json.dumps(value)}."

    def fields(self) -> dict[str, Any]:
        """Return the fields as a config that was read has them."""
        return {**dict.fromkeys(self.without), self.field: self.value}

    def written(self) -> dict[str, Any]:
        """Return the fields as the config file is to have them; ``...``: not at all."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.fields().items()}
        return {name: ... if value is None else value for name, value in values.items()}


def exact_change(case: Case) -> Change | None:
    """Return the change after which the config targets what the file has tensors for, or None.

    It is that of one field where one is enough.

    None too where some layers of a kind of module have their tensors and others have not: to ask for less would hide
    what was lost.
    """
    trained = trained_modules(case)
    if not trained or _is_damaged(case, trained):
        return None
    for change in chain(_changes(case, trained), _several(case, trained)):
        if len(str(change)) <= _LONGEST and _targets(case, change) == trained:
            return change
    return None


def listed_targets(case: Case) -> tuple[str, ...] | None:
    """Return ``target_modules`` as the shortest list that targets what the config targets now, or None."""
    meant = frozenset(path for path in case.expectation.targeted if _is_module(path, case))
    for tail in (1, 2, 0):
        names = tuple(dict.fromkeys(".".join(path.split(".")[-tail:]) for path in case.modules if path in meant))
        if names and _targets(case, Change("target_modules", names)) == meant:
            return names
    return None


def own_ranks(case: Case) -> Mapping[str, int] | None:
    """Return ``rank_pattern`` with a key for each module, where keys overlap and each rank is that of one of them.

    PEFT sorts the keys when it saves, and takes the first that matches when it loads (peft/utils/other.py). None where
    a module has a rank that no key gives it, or where its alpha depends on the order too.
    """
    config = case.config
    if len(config.rank_pattern) < 2 or case.sources:
        return None
    lookup, alphas = PatternLookup(config.rank_pattern, config.r), PatternLookup(config.alpha_pattern, 0.0)
    ranks: dict[str, int] = {}
    for match in case.difference.matched.values():
        want = match.want
        if want.part not in PAIRED or want.path in case.expectation.experts:
            continue
        if len(match.info.shape) != 2:
            return None
        rank = match.info.shape[RANK_AXIS[want.part]]
        given = lookup.all_of(want.path) or [config.r]
        if rank not in given or ranks.setdefault(want.path, rank) != rank or len(set(alphas.all_of(want.path))) > 1:
            return None
    return {path: rank for path, rank in ranks.items() if rank != config.r} or None


def _is_damaged(case: Case, trained: frozenset[str]) -> bool:
    targeted = case.expectation.targeted.keys()
    whole = {without_index(path) for path in targeted & trained}
    return any(without_index(path) in whole for path in targeted - trained)


def trained_modules(case: Case) -> frozenset[str]:
    """The base's modules that the file has LoRA for, under the names that PEFT reads."""
    named = {match.name: name for name, match in case.difference.matched.items()}
    tensors = (item for item in parsed({named.get(name, name): info for name, info in case.tensors.items()}))
    paths = {tensor.module for tensor in tensors if tensor.key.part in PAIRED and _is_layer(tensor, case)}
    return frozenset(paths)


def towers(paths: Iterable[str], trained: frozenset[str]) -> tuple[list[str], list[str]]:
    """Sort modules without tensors: the parts of the model where nothing was trained, and the paths of the others."""
    held = {prefix for path in trained for prefix in _prefixes(path)}
    parts: dict[str, None] = {}
    others = []
    for path in paths:
        outermost = next((prefix for prefix in _prefixes(path) if prefix not in held), path)
        if outermost != path and not any(segment.isdecimal() for segment in outermost.split(".")):
            parts[outermost] = None
        else:
            others.append(path)
    return list(parts), others


def _is_layer(tensor: Tensor, case: Case) -> bool:
    return _is_module(tensor.module, case)


def _is_module(path: str, case: Case) -> bool:
    module = case.modules.get(path)
    return module is not None and module.kind != "parameter"


def _prefixes(path: str) -> Iterator[str]:
    segments = path.split(".")
    return (".".join(segments[:at]) for at in range(1, len(segments) + 1))


def _changes(case: Case, trained: frozenset[str]) -> Iterator[Change]:
    """What may help, the simplest first."""
    config = case.config
    leaves = tuple(dict.fromkeys(path.rpartition(".")[2] for path in case.modules if path in trained))
    listed = config.target_modules if isinstance(config.target_modules, tuple) else ()
    if config.exclude_modules:
        yield Change("exclude_modules", None)
    if config.layers_to_transform is not None:
        yield Change("layers_to_transform", tuple(sorted({layer_index(path) or 0 for path in trained})))
        yield Change("layers_to_transform", None)
    kept = tuple(name for name in listed if any(path == name or path.endswith(f".{name}") for path in trained))
    added = tuple(leaf for leaf in leaves if leaf not in listed)
    for names in (kept, (*kept, *added), leaves):
        if names:
            yield Change("target_modules", names)
    wider = [path for path in case.expectation.targeted if path not in trained]
    parts, _ = towers(wider, trained)
    if parts and not config.exclude_modules:
        names = tuple(part.rpartition(".")[2] for part in parts)
        yield Change("exclude_modules", f".*{names[0]}.*" if len(names) == 1 else f".*({'|'.join(names)}).*")
    yield Change(
        "target_modules", tuple(dict.fromkeys(".".join(p.split(".")[-2:]) for p in case.modules if p in trained))
    )
    stem = _stem(trained)
    if stem and config.layers_to_transform is None:  # beside a pattern PEFT refuses it (LoraConfig.__post_init__)
        alternatives = "|".join(map(re.escape, leaves))
        yield Change("target_modules", rf"{re.escape(stem)}\..*\.({alternatives})")
    yield Change("target_modules", tuple(path for path in case.modules if path in trained))


def _several(case: Case, trained: frozenset[str]) -> Iterator[Change]:
    """The same where fields that take modules away have to go besides."""
    config = case.config
    narrow = [name for name in ("exclude_modules", "layers_to_transform") if getattr(config, name) not in (None, ())]
    for names in (*((name,) for name in narrow), *([tuple(narrow)] if len(narrow) > 1 else [])):
        *others, last = names
        if others:
            yield Change(last, None, tuple(others))
        gone: dict[str, Any] = dict.fromkeys(names)
        for change in _changes(replace(case, config=replace(config, **gone)), trained):
            if change.field == "target_modules":
                yield change._replace(without=names)


def _stem(trained: frozenset[str]) -> str:
    """What stands before the first number in all paths; "" where that differs."""
    stems = {re.split(r"\.\d+\.", path)[0] for path in trained}
    return stems.pop() if len(stems) == 1 else ""


def _targets(case: Case, change: Change) -> frozenset[str]:
    fields = change.fields()
    if "layers_to_transform" in fields and fields["layers_to_transform"] is None:
        fields["layers_pattern"] = ()
    try:
        targets = targeting(replace(case.config, **fields), case.modules, case.base.default_targets)
        return frozenset(p for p, module in case.modules.items() if module.kind != "parameter" and targets(p))
    except PatternError:
        return frozenset()
