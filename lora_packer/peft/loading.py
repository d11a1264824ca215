"""Where each tensor of a file lands when today's PEFT loads it: the second half of the kernel.

``convert_config`` and ``convert_tensors`` do to a config and to a file what PEFT 0.21.2 does to them on transformers 5
before anything is matched (``peft/utils/transformers_weight_conversion.py``,
https://github.com/huggingface/peft/tree/v0.21.2/src/peft). What comes out is then held against what the model has,
which ``expect`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import EXPERTS, around_expert
from lora_packer.base_model import Modules
from lora_packer.peft.conversions import ADAPTER, Change, Conversion
from lora_packer.peft.expectation import Shape, parameters
from lora_packer.peft.merging import merged
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.peft.targets import ALL_LINEAR, containers, output_head, targeting

_PREFIX = "base_model.model."
# The names of a mixture's layers in transformers 4, and what they are part of in transformers 5.
_EXPERTS: Mapping[str, Mapping[str, str]] = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
_FUSED = "gate_up_proj"


class Loaded(NamedTuple):
    """One tensor as PEFT has it before it looks for its place: its shape, and the names that it had in the file."""

    shape: Shape
    sources: tuple[str, ...]


# --- the config ------------------------------------------------------------------------------------------------------


def convert_config(config: LoraConfig, pattern: str, modules: Modules) -> LoraConfig | Refusal:
    """Return the config with the targets that the experts have in transformers 5, or why PEFT refuses it.

    ``pattern`` is whose names the experts had (``experts_pattern``). Raises PatternError where a pattern of the config
    is not evaluated.
    """
    names = _EXPERTS[pattern]
    targets = _resolved(config, names, modules)
    if targets is None:
        return config
    kept, added, present = [], list(config.target_parameters or ()), set()
    for target in targets:
        old = next((name for name in names if target == name or target.endswith(f".{name}")), None)
        if old is None:
            kept.append(target)
            continue
        added.append(names[old])
        if names[old] == _FUSED:
            present.add(old)
    halves = [name for name, new in names.items() if new == _FUSED]
    if present and len(present) < len(halves):
        return _half_fused(sorted(present), sorted(set(halves) - present))
    ranks, alphas = dict(config.rank_pattern), dict(config.alpha_pattern)
    if present:
        ranks[rf".*\.{_FUSED}"] = config.r * len(halves)
        alphas[rf".*\.{_FUSED}"] = config.lora_alpha * len(halves)
    return replace(
        config,
        target_modules=tuple(dict.fromkeys(kept)),
        target_parameters=tuple(dict.fromkeys(added)),
        rank_pattern=ranks,
        alpha_pattern=alphas,
    )


def _half_fused(present: list[str], missing: list[str]) -> Refusal:
    named, other = ", ".join(present), ", ".join(missing)
    return Refusal(
        "target_modules",
        f"target_modules names {named} without {other}, and transformers 5 has both in one parameter of the experts",
        other,
        named,
        f"Train with {other} too, or load it with transformers 4.",
        "utils/transformers_weight_conversion.py:464",
        "target",
    )


def _resolved(config: LoraConfig, names: Mapping[str, str], modules: Modules) -> Iterable[str] | None:
    """``target_modules`` as a list; a string as the last parts of what it matches. None: PEFT leaves it as it is."""
    targets = config.target_modules
    if not isinstance(targets, str):
        return targets or ()
    if targets.lower() == ALL_LINEAR:
        head = output_head(modules)
        linear = (p for p, m in modules.items() if m.kind in ("linear", "conv1d") and p != head)
        return sorted({_leaf(path) for path in linear} | names.keys())
    matches = targeting(config, modules, ())
    owned = [name for name, _, _, _ in parameters(modules)]
    matched = {_leaf(key) for key in chain(modules, containers(modules), owned) if matches(key)}
    holders: dict[str, list[str]] = {}
    for name in owned:
        holder, _, leaf = name.rpartition(".")
        holders.setdefault(leaf, []).append(holder)
    for old, new in names.items():
        if old not in matched and any(matches(f"{holder}.{old}") for holder in holders.get(new, ())):
            matched.add(old)
    return sorted(matched) or None


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


# --- the tensors -----------------------------------------------------------------------------------------------------


def convert_tensors(conversion: Conversion, shapes: Mapping[str, Shape]) -> dict[str, Loaded]:
    """Return the tensors as PEFT looks for their places.

    ``peft/utils/transformers_weight_conversion.py::convert_peft_adapter_state_dict_for_transformers``. Raises
    MergeError where PEFT raises.
    """
    result = {name: Loaded(shape, (name,)) for name, shape in shapes.items() if ".lora_" not in name}
    collected: dict[str, tuple[Change | None, dict[str, list[str]]]] = {}
    rename = _Renamer(conversion, shapes)
    for name in _in_order(name for name in shapes if ".lora_" in name):
        renamed, converter, pattern = rename(name)
        if (of_one := collected.get(renamed)) is None:
            of_one = collected[renamed] = (converter, {})
        of_one[1].setdefault(pattern, []).append(name)
    found = {}
    for renamed, (converter, own) in collected.items():
        sources = tuple(name for names in own.values() for name in names)
        if converter is None:
            shape = shapes[next(iter(own.values()))[0]]
        else:
            shape = merged(converter, {key: [shapes[name] for name in names] for key, names in own.items()})
        found[_serialised(renamed)] = Loaded(shape, sources)
    return result | found


def _in_order(names: Iterable[str]) -> Iterator[str]:
    """The names as PEFT goes through them; those of single experts, which may be many and for none of which the order
    matters, come last.
    """
    of_experts: list[str] = []
    others: list[str] = []
    for name in names:
        (of_experts if EXPERTS in name else others).append(name)
    yield from sorted(others, key=_natural)
    yield from of_experts


class _Renamer:
    """Renames the tensors of one file; what holds for one expert of a layer holds for the others."""

    def __init__(self, conversion: Conversion, shapes: Mapping[str, Shape]) -> None:
        self._conversion = conversion
        self._shapes = shapes
        self._known: dict[tuple[str, str], tuple[tuple[str, ...], Change | None, str]] = {}

    def __call__(self, name: str) -> tuple[str, Change | None, str]:
        """Return the new name, the converter that collects the tensor, and by which of its patterns."""
        layer, expert, part = around_expert(name)
        if (known := self._known.get((layer, part))) is not None and expert:
            pieces, converter, pattern = known
            return f"{EXPERTS}{expert}.".join(pieces), converter, name if converter is None else pattern
        found = self._renamed(name)
        renamed, converter, pattern = found
        pieces = tuple(renamed.split(f"{EXPERTS}{expert}."))
        # The expert's number is gone, or it still stands behind the experts.
        if expert and renamed.split(".").count(expert) == name.split(".").count(expert) - 2 + len(pieces):
            self._known[layer, part] = pieces, converter, pattern
        return found

    def _renamed(self, name: str) -> tuple[str, Change | None, str]:
        renamed = name
        for change in self._conversion.renamings:
            renamed, _ = change.apply(renamed)
        converter, pattern = None, None
        for item in self._conversion.converters:
            renamed, pattern = item.apply(renamed)
            if pattern is not None:
                converter = item
                break
        plain = "".join(renamed.rsplit(f".{ADAPTER}", 1))
        if renamed not in self._shapes and name.endswith(plain):
            renamed, converter, pattern = self._with_prefix(name), None, None
        return renamed, converter, pattern or name

    def _with_prefix(self, name: str) -> str:
        """The name as it was, with or without the model's own prefix where the file has the other one."""
        prefix = self._conversion.prefix
        shorter = re.sub(f"^{prefix}.", "", name, count=1)
        if name.startswith(prefix) and shorter in self._shapes:
            return shorter
        longer = f"{prefix}.{name}"
        return longer if longer in self._shapes else name


def _natural(name: str) -> list[tuple[int, int] | tuple[int, str] | tuple[int, str, int]]:
    """``transformers/core_model_loading.py::dot_natural_key``: numbers by size."""
    parts: list[tuple[int, int] | tuple[int, str] | tuple[int, str, int]] = []
    for part in name.split("."):
        text = part.rstrip("0123456789")
        digits = part[len(text) :]
        parts.append((0, int(part)) if part.isdecimal() else (1, text, int(digits)) if digits else (1, text))
    return parts


def _serialised(name: str) -> str:
    """The name without the adapter's, and with PEFT's prefix (``_convert_to_peft_serialized_keys``)."""
    if not name.startswith("base_model."):
        name = _PREFIX + name
    suffix = f".{ADAPTER}"
    if name.endswith(suffix):
        return name.removesuffix(suffix)
    before, dot, last = name.rpartition(".")
    return f"{before.removesuffix(suffix)}.{last}" if dot and before.endswith(suffix) else name
