"""Which module of the class that SGLang serves each tensor of an adapter lands on: its names, rules and order.

``data/sglang-classes.json`` has which modules its LoRA manager wraps (``tools/record_sglang.py``). The rules are those
of SGLang 0.5.23, for a server that starts with this adapter: ``LoRAAdapter._process_weight`` and the functions that it
calls to put names together (``sglang/srt/lora/lora.py:150-531``), ``LoRAManager.init_lora_shapes`` and
``init_lora_modules`` (``lora_manager.py:821-963, 1041-1198``), and ``LoRAMemoryPool.load_lora_weight_to_buffer``
(``mem_pool.py:892-1055``). What is before ``layers.N.`` in a name is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

from lora_packer.targets.placement import HALF, Base, NotServed, Placement, recorded
from lora_packer.targets.target import Target

_TABLE = "sglang-classes.json"
_LAYER = re.compile(r"layers\.(\d+)\.")  # sglang/srt/layers/utils/common.py:14
_EXPERT = re.compile(r"experts\.(\d+)\.")
_EVERY = ("all", "all-linear")
# get_normalized_target_modules (sglang/srt/lora/utils.py:297-330).
_NORMALIZED: Mapping[str, str] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
    **dict.fromkeys(("vocab_emb", "embeddings", "word_embeddings"), "embed_tokens"),
    **dict.fromkeys(("output", "unembed_tokens"), "lm_head"),
    **dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa"), "fused_qkv_a_proj_with_mqa"),
    **{name: f"indexer.{name}" for name in ("wq_b", "wk", "weights_proj")},
}
_EXPERTS = frozenset({"gate_up_proj", "down_proj"})


class _RefusedError(Exception):
    """SGLang raises: the rest of a sentence, and the tensors that it raises for."""

    def __init__(self, why: str, names: Collection[str]) -> None:
        super().__init__(why)
        self.why, self.names = why, tuple(names)


def placement(
    target: Target, base: Base, tensors: Collection[str], targeted: str | Collection[str] | None
) -> Placement | NotServed | str:
    """Follow every half of an update to its module; or why that is not known.

    Args:
        target: SGLang.
        base: how the base model is served.
        tensors: the adapter's names.
        targeted: its ``target_modules``.
    """
    table = recorded(_TABLE)
    name = base.architecture or table["types"].get(base.model_type)
    if name not in table["classes"]:
        return f"the modules of {name or base.model_type} in {target.summary} {target.version} were not recorded"
    if targeted is None or (isinstance(targeted, str) and targeted not in _EVERY):
        return f"{target.summary} refuses this target_modules before it looks at a tensor"
    layout = table["layouts"][table["classes"][name]]
    served = f"{target.summary} {target.version} serves this base model with {layout['class']}, which"
    halves = [tensor for tensor in tensors if HALF.search(tensor)]
    try:
        wanted = _wanted(layout, targeted)
        _starts(layout, wanted, halves)
        landed = _landed(layout, wanted, halves)
    except _RefusedError as error:
        return Placement(served, {}, refused={error.why: error.names})
    return Placement(served, landed, tuple(name for name in halves if name not in landed))


def _wanted(layout: Mapping[str, Any], targeted: str | Collection[str]) -> frozenset[str]:
    """The names that the server serves LoRA on."""
    if isinstance(targeted, str):
        return frozenset(layout["detected"])
    leaves = (name.rpartition(".")[2] for name in targeted)
    return frozenset(_NORMALIZED.get(name, name) for name in leaves)


def _starts(layout: Mapping[str, Any], wanted: Collection[str], halves: Collection[str]) -> None:
    """A name that the class has no sizes for ends the server's start (``get_hidden_dim``)."""
    known = {*layout.get("modules", ()), *layout.get("nothing", ())} | (_EXPERTS if layout.get("experts") else set())
    for name in sorted(wanted):
        if name in layout.get("refused", ()) or (name not in known and layout.get("unknown")):
            parts = [part for part, whole in _NORMALIZED.items() if whole == name]
            of_it = [half for half in halves if any(part in half for part in (name, *parts))]
            raise _RefusedError(f"has no sizes for LoRA on {name}: the server does not start", of_it or halves)


def _landed(layout: Mapping[str, Any], wanted: frozenset[str], halves: Collection[str]) -> dict[str, str]:
    """The halves that the server uses, each with the module that it lands on."""
    layers: dict[str, dict[str, list[str]]] = {}
    landed: dict[str, str] = {}
    modules: Mapping[str, list[str]] = layout.get("modules", {})
    for name in halves:
        renamed = name.replace("unembed_tokens", "lm_head")
        layer = _LAYER.search(renamed)
        if layer is not None:
            layers.setdefault(layer[1], {})[renamed] = [name]
            continue
        whole = next((one for one in ("embed_tokens", "lm_head") if one in renamed), None)
        if whole in wanted and whole in modules:
            landed[name] = whole
        elif whole == "lm_head" and whole in wanted:  # an assertion (mem_pool.py:1507-1509)
            why = "has no output head that LoRA reaches, and stops when the adapter is first used"
            raise _RefusedError(why, [half for half in halves if "lm_head" in half])
    for weights in layers.values():
        _put_together(weights)
        landed |= _in_layer(layout, wanted, weights)
    return landed


def _in_layer(
    layout: Mapping[str, Any], wanted: frozenset[str], weights: Mapping[str, list[str]]
) -> Iterator[tuple[str, str]]:
    taken: dict[tuple[str, bool, str], list[str]] = {}
    for name, of in weights.items():
        target = max((one for one in wanted if one in name), key=len, default=None)
        if target is None:
            leaf = HALF.sub("", name).rpartition(".")[2]
            why = f"finds no target for LoRA on {leaf}, and stops when the adapter is first used"
            raise _RefusedError(why, of)
        expert = _EXPERT.search(name)
        slot = (target, "lora_A" in name or "embedding_A" in name, expert[1] if expert else "")
        if slot in taken:
            why = f"has one place for LoRA on {target} in a layer, and two modules of the adapter go there"
            raise _RefusedError(why, [*taken[slot], *of])
        taken[slot] = of
        path = _path(layout, wanted, target, expert=expert is not None)
        if path is not None:
            yield from ((one, path) for one in of)


def _path(layout: Mapping[str, Any], wanted: frozenset[str], target: str, *, expert: bool) -> str | None:
    """The module of a layer that uses what was loaded for this target, or None."""
    if expert:
        experts: list[str] = layout.get("experts", [])
        return experts[0] if experts and wanted >= _EXPERTS else None
    paths: list[str] = layout.get("modules", {}).get(target, [])
    return paths[0] if paths else None


# --- what lora.py makes of the names of one layer: name -> the names that it was put together from -------------------


def _put_together(weights: MutableMapping[str, list[str]]) -> None:
    _qkv(weights)
    _rename_experts(weights)
    _in_proj(weights)
    _merge(weights, "in_proj_q.", ("in_proj_k.", "in_proj_v.", "in_proj_z."), "in_proj_qkvz.")
    _gate_up(weights)
    _fused_qkv_a(weights)


def _qkv(weights: MutableMapping[str, list[str]]) -> None:
    """``normalize_qkv_proj``: without ``k_proj`` zeros stand in for it, and without ``v_proj`` it raises."""
    with_keys = any("k_proj" in name for name in weights)
    for name in list(weights):
        if "q_proj" not in name:
            continue
        parts = [name, *([name.replace("q_proj", "k_proj")] if with_keys else []), name.replace("q_proj", "v_proj")]
        if lacking := next((part for part in parts if part not in weights), None):
            leaf = HALF.sub("", lacking).rpartition(".")[2]
            raise _RefusedError(f"takes LoRA on q_proj only beside {leaf}: KeyError", weights[name])
        weights[name.replace("q_proj", "qkv_proj")] = [one for part in parts for one in weights.pop(part)]


def _rename_experts(weights: MutableMapping[str, list[str]]) -> None:
    """``_rename_expert_w_to_proj``."""
    for name in list(weights):
        for old, new in ((".w1.", ".gate_proj."), (".w3.", ".up_proj."), (".w2.", ".down_proj.")):
            if old in name:
                weights[name.replace(old, new)] = weights.pop(name)
                break


def _in_proj(weights: MutableMapping[str, list[str]]) -> None:
    """``_normalize_in_proj``."""
    for name in list(weights):
        if "gate_proj" in name and (other := name.replace("gate_proj", "x_proj")) in weights:
            weights[name.replace("gate_proj", "in_proj")] = weights.pop(name) + weights.pop(other)


def _merge(weights: MutableMapping[str, list[str]], first: str, others: Collection[str], whole: str) -> None:
    for name in list(weights):
        parts = [name, *(name.replace(first, other) for other in others)]
        if first in name and all(part in weights for part in parts):
            weights[name.replace(first, whole)] = [one for part in parts for one in weights.pop(part)]


def _gate_up(weights: MutableMapping[str, list[str]]) -> None:
    """``normalize_gate_up_proj``: without ``up_proj`` zeros stand in for it; ``up_proj`` alone stays as it is."""
    for name in list(weights):
        if "gate_proj" in name:
            other = weights.pop(name.replace("gate_proj", "up_proj"), [])
            weights[name.replace("gate_proj", "gate_up_proj")] = weights.pop(name) + other


def _fused_qkv_a(weights: MutableMapping[str, list[str]]) -> None:
    """``normalize_fused_qkv_a_proj``."""
    for name in list(weights):
        if "q_a_proj" in name and "fused_qkv_a_proj_with_mqa" not in name:
            other = weights.pop(name.replace("q_a_proj", "kv_a_proj_with_mqa"), [])
            weights[name.replace("q_a_proj", "fused_qkv_a_proj_with_mqa")] = weights.pop(name) + other
