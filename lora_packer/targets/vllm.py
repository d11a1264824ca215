"""Which module of the class that an engine serves each tensor of an adapter lands on: vLLM's names, rules and order.

``data/vllm-classes.json`` has what vLLM's classes are made of (``tools/record_vllm.py``). The rules are vLLM 0.33.0's:
``parse_fine_tuned_lora_name`` (``vllm/lora/utils.py``), ``check_unexpected_modules`` (``vllm/lora/lora_model.py``), and
``_get_text_lora_names``, ``_create_merged_loras_inplace`` and ``_validate_moe_lora_format``
(``vllm/lora/model_manager.py``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from functools import cache
from types import MappingProxyType
from typing import Any

from lora_packer.adapter.keys import PREFIX
from lora_packer.frozen import frozen
from lora_packer.targets.placement import HALF, Base, NotServed, Placement, recorded
from lora_packer.targets.target import Target, numbers

# The release from which a multimodal class takes the names of its text-only class (``_get_text_lora_names``).
_TEXT_NAMES_SINCE = "0.33.0"
_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
_BASE_EMBEDDINGS = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_EXPERT = re.compile(r"experts\.\d+\.(.+)")


@frozen
class Layout:
    """What a class of vLLM is made of, as its LoRA manager sees it.

    Attributes:
        name: the class.
        modules: the paths of the modules that LoRA reaches, ``*`` for an index.
        packed: a module -> the names that an adapter has for its parts.
        leaves: the last names of the modules that the class has.
        experts: the names of one expert's modules, where each expert has its own.
        fused_experts: the paths of experts that are taken as PEFT's ``target_parameters`` writes them.
        non_gated: whether an expert has two modules in place of three.
        language: where a multimodal class has its language model.
        towers: where a multimodal class has what LoRA reaches with ``--enable-tower-connector-lora`` alone.
        pooling: whether it is a class for embeddings or labels.
        skip: what begins a name that is passed over.
        renames: what is renamed, in this order: how, from, to.
    """

    name: str
    modules: frozenset[str]
    packed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leaves: frozenset[str] = frozenset()
    experts: frozenset[str] = frozenset()
    fused_experts: frozenset[str] = frozenset()
    non_gated: bool = False
    language: str | None = None
    towers: tuple[str, ...] = ()
    pooling: bool = False
    skip: tuple[str, ...] = ()
    renames: tuple[tuple[str, str, str], ...] = ()

    @property
    def expected(self) -> frozenset[str]:
        """The last names that an adapter may have: those of the parts in place of what is made of them."""
        return frozenset(name for leaf in self.leaves for name in self.packed.get(leaf, (leaf,)))


def placement(target: Target, base: Base, tensors: Collection[str]) -> Placement | NotServed | str:
    """Follow every half of an update to its module; or why that is not known, or why none is taken."""
    layout = served_class(target, base.architecture, base.model_type)
    if layout is None:
        name = base.architecture or f"the class of {base.model_type}"
        served = f"{target.summary} {target.version} serves {name} without LoRA"
        return NotServed(f"{served}: with --enable-lora it does not start")
    return layout if isinstance(layout, str) else place(layout, target, tensors)


def served_class(target: Target, architecture: str | None, model_type: str) -> Layout | str | None:
    """Return the class that serves a base model.

    Args:
        target: vLLM, with its release.
        architecture: the first of the base config's ``architectures``; where it names none, the type's own class.
        model_type: the base config's.

    Returns:
        The class; why it is not known; or None where it is served without LoRA.
    """
    release, first = target.version, _table()["releases"][0]
    if release is None or numbers(release) < numbers(first):
        return f"the classes of {target.summary} before {first} were not recorded"
    name = architecture or _table()["types"].get(model_type)
    if name is None:
        return f"the base config names no class, and {target.summary} has none of its own for {model_type}"
    known = [index for index, at in enumerate(_table()["releases"]) if numbers(at) <= numbers(release)]
    index = _table()["classes"].get(name, {}).get(str(known[-1]), -1)
    if index == -1:
        return f"the modules of {name} in {target.summary} {release} were not recorded"
    return None if index is None else _layout(index)


@cache
def _table() -> Mapping[str, Any]:
    table = recorded("vllm-classes.json")
    classes = {
        name: {str(at): index for at, index in enumerate(of)} for name, of in table["classes"].items()
    }  # release -> layout
    return MappingProxyType({**table, "classes": classes})


@cache
def _layout(index: int) -> Layout:
    data = _table()["layouts"][index]
    return Layout(
        name=data["class"],
        modules=frozenset(data["modules"]),
        packed={parent: tuple(children) for parent, children in data.get("packed", {}).items()},
        leaves=frozenset(data["leaves"]),
        experts=frozenset(data.get("experts", ())),
        fused_experts=frozenset(data.get("fused_experts", ())),
        non_gated=data.get("non_gated", False),
        language=data.get("language"),
        towers=tuple(data.get("towers", ())),
        pooling=data.get("pooling", False),
        skip=tuple(data.get("skip", ())),
        renames=tuple(tuple(item) for item in data.get("renames", ())),
    )


def place(layout: Layout, target: Target, tensors: Iterable[str]) -> Placement:
    """Follow every tensor of an adapter to where it lands. What is no half of an update is left to other rules."""
    text_names = target.at_least(_TEXT_NAMES_SINCE)
    landed: dict[str, str] = {}
    nowhere: list[str] = []
    in_towers: list[str] = []
    refused: dict[str, list[str]] = {}
    fused: dict[str, dict[bool, str]] = {}
    single: dict[str, dict[str, set[str]]] = {}
    places: dict[str, _Place] = {}
    for name in tensors:
        if name.endswith(_BASE_EMBEDDINGS) or _is_skipped(layout, name) or not HALF.search(name):
            continue
        of_all_layers = _INDEX.sub("0", name)
        at = places.get(of_all_layers)
        if at is None:
            at = places[of_all_layers] = _place(layout, of_all_layers, text_names=text_names)
        if at.why:
            refused.setdefault(at.why, []).append(name)
        elif at.path is None:
            (in_towers if at.in_tower else nowhere).append(name)
        else:
            landed[name] = at.path
            if at.fused:
                fused.setdefault(_owner(name), {})[".base_layer." in name] = name
            elif at.expert:
                owner, _, rest = name.partition(".experts.")
                number, _, module = rest.partition(".")
                single.setdefault(owner, {}).setdefault(number, set()).add(HALF.sub("", module))
    for why, names in (*_half_fused(fused), *_half_experts(layout, single)):
        refused.setdefault(why, []).extend(names)
    told = {why: tuple(names) for why, names in refused.items()}
    served = f"{target.summary} {target.version} serves this base model with {layout.name}, which"
    return Placement(served, landed, tuple(nowhere), tuple(in_towers), told)


@frozen
class _Place:
    """Where one name lands: its path there, or why it is refused, or neither."""

    path: str | None = None
    why: str = ""
    in_tower: bool = False
    fused: bool = False
    expert: bool = False


def _is_skipped(layout: Layout, name: str) -> bool:
    """As ``LoRAModel._should_skip_module``."""
    return any(f".{prefix}" in name or name.startswith(prefix) for prefix in layout.skip)


def _place(layout: Layout, name: str, *, text_names: bool) -> _Place:
    renamed = renamed_as(layout, name.replace(PREFIX, "") if name.startswith(PREFIX) else name)
    module = HALF.sub("", renamed)
    if "base_layer" not in name and not _is_expected(layout, module):
        taken = ", ".join(sorted(layout.expected - {"experts"}))
        return _Place(why=f"refuses LoRA on {_suffix(module)}: it takes {taken}")
    for path in _candidates(layout, module, text_names=text_names):
        if (found := _module_for(layout, path)) is not None:
            return found
    return _Place(in_tower=module.startswith(layout.towers) if layout.towers else False)


def renamed_as(layout: Layout, name: str) -> str:
    """Return a name as the served class has it (``WeightsMapper.map_name``, renames alone)."""
    for how, old, new in layout.renames:
        if how == "regex":
            name = re.sub(old, new, name)
        elif how == "substr" or (how == "prefix" and name.startswith(old)):
            name = name.replace(old, new, 1)
        elif how == "suffix" and name.endswith(old):
            name = new.join(name.rsplit(old, 1))
    return name


def _suffix(module: str) -> str:
    """What ``check_unexpected_modules`` looks at."""
    at = module.find(".experts")
    return module[at + 1 :] if at >= 0 else module.rpartition(".")[2]


def _is_expected(layout: Layout, module: str) -> bool:
    suffix = _suffix(module)
    of_one = _EXPERT.fullmatch(suffix)
    if of_one and ".experts" in module:
        return of_one[1] in layout.experts
    return suffix in layout.expected


def _candidates(layout: Layout, module: str, *, text_names: bool) -> Iterator[str]:
    """The paths under which the manager looks for these weights."""
    yield module
    if layout.pooling:
        yield f"model.{module}"
    if layout.language is not None and text_names:
        inside = layout.language.rstrip(".") + "."
        yield inside + module
        rest = module.removeprefix("model.")
        if rest != module and not rest.startswith(("model.", "lm_head")):
            yield inside + rest


def _module_for(layout: Layout, path: str) -> _Place | None:
    """The module that this path, or the whole that it is a part of, is in the class."""
    experts, of_one, module = path.partition(".experts.0.")
    if of_one and module in layout.experts:
        at = _INDEX.sub("*", f"{experts}.experts")
        return _Place(at, expert=True) if at in layout.modules - layout.fused_experts else None
    whole = path.removesuffix(".base_layer")
    if whole.endswith(".experts"):
        at = _INDEX.sub("*", whole)
        if at in layout.fused_experts:
            return _Place(at, fused=True)
        if at in layout.modules:
            return _Place(why="takes LoRA on one expert at a time, and refuses experts fused into one tensor")
        return None
    for parent, children in layout.packed.items():
        for child in children:
            if len(children) > 1 and path.endswith(f".{child}"):
                at = _INDEX.sub("*", path.removesuffix(child) + parent)
                if at in layout.modules:
                    return _Place(at)
    at = _INDEX.sub("*", path)
    return _Place(at) if at in layout.modules and len(layout.packed.get(path.rpartition(".")[2], ())) <= 1 else None


def _owner(name: str) -> str:
    return HALF.sub("", name).removesuffix(".base_layer")


def _half_fused(fused: Mapping[str, Mapping[bool, str]]) -> Iterator[tuple[str, list[str]]]:
    """``_stack_moe_lora_weights`` asserts that both are there."""
    names = [name for both in fused.values() if len(both) == 1 for name in both.values()]
    if names:
        yield "takes fused experts only where both gate_up_proj and down_proj have LoRA", names


def _half_experts(layout: Layout, single: Mapping[str, Mapping[str, set[str]]]) -> Iterator[tuple[str, list[str]]]:
    """``PackedLoRALayerWeights.pack_moe`` asserts that every module of an expert is there."""
    lacking = [
        f"{owner}.experts.{number}"
        for owner, experts in single.items()
        for number, modules in experts.items()
        if modules != layout.experts
    ]
    if lacking:
        yield f"takes single experts only where each of {', '.join(sorted(layout.experts))} has LoRA", lacking
