"""How PEFT renames an adapter's tensors when it loads them into a model of transformers 5.

transformers changes names of older checkpoints (``transformers/conversion_mapping.py``), and PEFT applies the same
changes to adapters (``peft/utils/transformers_weight_conversion.py`` of PEFT 0.21.2,
https://github.com/huggingface/peft/tree/v0.21.2/src/peft). Which there are for which model stands in
``conversions.json``, which ``tools/record_conversions.py`` writes; most model types have none, and the file is not read
for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.frozen import frozen

FILE = Path(__file__).with_name("conversions.json")
TYPES = Path(__file__).with_name("converted_types.json")
ADAPTER = "default"

_GENERAL: tuple[tuple[str, str], ...] = (
    ("base_model.model.model.", "model."),
    ("base_model.model.", ""),
    (r"(lora_[^\.]*)", rf"\1.{ADAPTER}"),
)


@frozen
class Scope:
    """Where a list of changes applies: behind the path of the model that it is of."""

    base_prefix: str
    path: str

    def split(self, name: str) -> tuple[str, str] | None:
        """Return what stands before the part that may change, and that part; None where the scope is another's."""
        path = f"{self.path}." if self.path else ""
        base = f"{self.base_prefix}." if self.base_prefix else ""
        for prefix in (base + path, path):
            if name.startswith(prefix):
                return prefix, name.removeprefix(prefix)
        return None


@dataclass(slots=True)
class Change:
    """One entry of a list: what it finds in a name, and what it puts there.

    Attributes:
        kind: transformers' class.
        sources, targets: its patterns.
        operations: what a converter does to the tensors that it collects, in order.
        offset: what is added to the number in a name.
        scope: where it applies; None for the whole name.
    """

    kind: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[str, ...] = ()
    offset: int = 0
    scope: Scope | None = None
    _seen: bool = False

    def apply(self, name: str) -> tuple[str, str | None]:
        """Return the changed name and the source pattern that matched, or the name and None.

        ``transformers/core_model_loading.py``: ``WeightTransform.rename_source_key`` and those of its subclasses.
        """
        if self.kind == "LayerPairCollapse":
            paired = _LAYER_PAIR.sub(_of_the_pair, name, count=1)
            return paired, None if paired == name else self.sources[0]
        parts = ("", name) if self.scope is None else self.scope.split(name)
        if parts is None:
            return name, None
        before, rest = parts
        found = _compiled(self.sources).search(rest)
        if found is None:
            return name, None
        group = next(key for key, value in found.groupdict().items() if value is not None)
        at = int(group[1:])
        replacement = self._replacement(at, found, found.re.groupindex[group])
        if replacement is None:
            return name, None
        return before + rest.replace(found[0], replacement, 1), self.sources[at]

    def _replacement(self, at: int, found: re.Match[str], group: int) -> str | None:
        if self.kind == "GroupWeightRename":
            # The first pattern is a guard: without it the file has the newer names already.
            self._seen = self._seen or at == 0
            if not self._seen:
                return None
            return re.sub(r"\\(\d+)", lambda number: found[group + int(number[1])], self.targets[at])
        target = self.targets[0]
        if r"\1" not in target:
            return target
        inner = found[group + 1]
        return target.replace(r"\1", str(int(inner) + self.offset) if self.offset else inner)


# Dory's checkpoints number attention and feed-forward as layers of their own; the pair is one layer when it runs.
_LAYER_PAIR = re.compile(r"layers\.(\d+)\.(mixer|attn_alpha|mlp_alpha)(?=\.|$)")
_OF_A_LAYER = {"attn_alpha": "lambda_1", "mlp_alpha": "lambda_2"}


def _of_the_pair(found: re.Match[str]) -> str:
    index, name = int(found[1]), found[2]
    return f"layers.{index // 2}.{_OF_A_LAYER.get(name, ('self_attn', 'mlp')[index % 2])}"


@cache
def _compiled(sources: tuple[str, ...]) -> re.Pattern[str]:
    branches = []
    for at, source in sorted(enumerate(sources), key=lambda item: -len(item[1])):
        pattern = source.replace("*.", r".*\.")
        if re.search(r"[a-zA-Z0-9]$", pattern):
            pattern += r"(?!\w)"
        branches.append(f"(?P<g{at}>{pattern})")
    return re.compile("|".join(branches))


@frozen
class Conversion:
    """What PEFT does to the names of an adapter for one class of model.

    Attributes:
        prefix: transformers' ``base_model_prefix`` of the class.
        renamings: applied one after another, all of them.
        converters: applied after these, at most one.
    """

    prefix: str
    renamings: tuple[Change, ...]
    converters: tuple[Change, ...]


@cache
def recorded() -> Mapping[str, Any]:
    """Return what ``tools/record_conversions.py`` wrote."""
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@cache
def _types() -> frozenset[str]:
    """The model types for whose models PEFT changes anything."""
    return frozenset(json.loads(TYPES.read_text(encoding="utf-8")))


def conversion(model_type: str, head: str, nested: Mapping[str, str]) -> Conversion | None:
    """Return what is done for a class, or None where nothing is.

    ``nested`` is the model type of each nested config, by the name of its field. Raises nothing.
    """
    if model_type not in _types():
        return None
    data = recorded()
    classes = data["classes"][model_type]
    tree = data["trees"].get(classes.get(head) or next(iter(classes.values())))
    if tree is None:
        return None
    general = tuple(Change("WeightRenaming", (source,), (target,)) for source, target in _GENERAL)
    changes = list(_lists(tree, nested, data))
    changes += [_change(item, None) for item in data["renames"]["legacy"]]
    renamings = tuple(item for item in changes if item.kind != "WeightConverter")
    converters = tuple(item for item in changes if item.kind == "WeightConverter")
    return Conversion(tree["prefix"], general + renamings, converters)


def _lists(tree: Mapping[str, Any], nested: Mapping[str, str], data: Mapping[str, Any]) -> Iterator[Change]:
    """The lists of every model in a class (``transformers/conversion_mapping.py::get_model_conversion_mapping``)."""
    claimed: dict[str, list[str]] = {}

    def taken(name: str, path: str) -> bool:
        return any(seen == "" or path.startswith(f"{seen}.") for seen in claimed.get(name, ()))

    for path, name, model_type, field in tree["models"]:
        other = data["same"].get(nested.get(field, ""), nested.get(field))
        if field and other and other != model_type:
            name, model_type = data["towers"].get(other, ""), other
        if taken(name, path):
            continue
        own = data["renames"].get(name)
        by_class = own is not None
        if own is None:
            if taken(model_type, path):
                continue
            own = data["renames"].get(model_type)
        if own is None:
            continue
        scope = Scope(tree["prefix"], path.removeprefix(tree["prefix"]).removeprefix(".")) if path else None
        yield from (_change(item, scope) for item in own)
        claimed.setdefault(name, []).append(path)
        if not by_class and model_type:
            claimed.setdefault(model_type, []).append(path)


def _change(item: Sequence[Any], scope: Scope | None) -> Change:
    kind, sources, targets = item[0], tuple(item[1]), tuple(item[2])
    if kind == "WeightConverter":  # PEFT makes these anew, without the scope
        return Change(kind, sources, targets, operations=tuple(item[3]))
    return Change(kind, sources, targets, offset=item[3] if len(item) > 3 else 0, scope=scope)


def experts_pattern(model_type: str) -> str | None:
    """Return by whose names PEFT takes the targets of a mixture's experts from older configs, or None.

    ``_MODEL_TO_CONVERSION_PATTERN`` in ``peft/utils/transformers_weight_conversion.py``.
    """
    if model_type not in _types():
        return None
    data = recorded()
    found: str | None = data["experts"].get(data["same"].get(model_type, model_type))
    return found
