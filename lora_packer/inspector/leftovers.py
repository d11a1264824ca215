"""Tensors that nothing expects, by why they are there."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Literal, NamedTuple

from lora_packer.adapter.keys import PAIRED, key_name, without_index
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case, Tensor
from lora_packer.inspector.matching import core_of
from lora_packer.peft.expected import Shape
from lora_packer.peft.targets import containers

Why = Literal[
    "past",  # behind the base's last layer or expert
    "feature",  # of one that is switched off
    "untargeted",  # of a module that is not targeted
    "surplus",  # of a module that is, and has no such tensor
    "embeddings",  # the base model's own
    "misfits",  # embeddings of another shape than its own
    "base",  # its own weights
    "misshapen",  # its own weights, of another shape
    "lora",  # of a module that there is not
    "unknown",
]

# part -> the field that switches the feature on
_FEATURES = {
    "lora_magnitude_vector": "use_dora",
    "lora_B.bias": "lora_bias",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
    "token_adapter.base_layer.weight": "trainable_token_indices",
    "token_adapter.base_layer.bias": "trainable_token_indices",
    "lora_diag": "kasa_config",
}


class Leftover(NamedTuple):
    """One tensor that nothing expects: why it is there, and what to name (a field, a kind of module)."""

    tensor: Tensor
    why: Why
    what: str = ""


@frozen
class Leftovers:
    """Tensors that nothing expects.

    Attributes:
        items: each with its cause.
        past: of the first one behind the end: what the base has a list of (``layers``), and the last index there.
    """

    items: tuple[Leftover, ...]
    past: tuple[str, int] | None = None

    def of(self, *whys: Why) -> tuple[Tensor, ...]:
        """Return the tensors of these causes, cause by cause."""
        return tuple(item.tensor for why in whys for item in self.items if item.why == why)

    def without(self, *whys: Why) -> Leftovers:
        """The same but for these causes: another finding tells of their tensors."""
        return Leftovers(tuple(item for item in self.items if item.why not in whys), self.past)

    def but(self, names: Container[str]) -> Leftovers:
        """The same but for these tensors: another finding tells of them."""
        return Leftovers(tuple(item for item in self.items if item.tensor.name not in names), self.past)

    def by_cause(self) -> Mapping[Why, tuple[Leftover, ...]]:
        """Return the tensors of each cause, in the order of the first of each."""
        whys = dict.fromkeys(item.why for item in self.items)
        return {why: tuple(item for item in self.items if item.why == why) for why in whys}


def leftovers(case: Case) -> Leftovers:
    """Sort the tensors that nothing expects."""
    extra = case.difference.extra
    if not extra:
        return Leftovers(())
    tree = _Tree.of(case)
    items = tuple(_sorted(extra, case, tree))
    past = next((tree.past_the_end(item.tensor.module) for item in items if item.why == "past"), None)
    return Leftovers(items, past)


def _sorted(extra: tuple[Tensor, ...], case: Case, tree: _Tree) -> Iterator[Leftover]:
    adapted = {tensor.key.path for tensor in extra if tensor.key.part in PAIRED}
    misnamed = _misnamed_embeddings(case)
    for tensor in extra:
        if tensor.name in misnamed or (case.config.bias == "all" and _is_bias_buffer(tensor, tree)):
            continue
        item = _leftover(tensor, case, tree)
        if item.why in ("embeddings", "misfits", "base", "misshapen") and tensor.owner in adapted:
            # PEFT saves a copy beside the LoRA on an embedding, and biases: they go or stay together.
            why: Why = "surplus" if _is_targeted(tensor.owner, case) else "untargeted"
            item = Leftover(tensor, why, tensor.owner.rpartition(".")[2])
        yield item


def _leftover(tensor: Tensor, case: Case, tree: _Tree) -> Leftover:
    if not tensor.name.isprintable() or not tensor.name:
        return Leftover(tensor, "lora")
    part, path = tensor.key.part, tensor.module
    known = path in case.modules
    if not known and tensor.key.prefixed and tree.past_the_end(path) is not None:
        return Leftover(tensor, "past")
    if not known and part and without_index(path) in tree.kinds and path not in tree.containers:
        return Leftover(tensor, "lora")
    if part in _FEATURES and known and _is_switched_off(_FEATURES[part], path, case):
        return Leftover(tensor, "feature", _FEATURES[part])
    if part.startswith("base_layer") or not part:
        return Leftover(tensor, _of_the_base(tensor, case))
    if known or path in tree.containers:
        return Leftover(tensor, "surplus" if _is_targeted(path, case) else "untargeted", path.rpartition(".")[2])
    return Leftover(tensor, "lora")


def _of_the_base(tensor: Tensor, case: Case) -> Why:
    """What kind of the base model's own parameters it is, if any."""
    shape = base_shape(tensor, case)
    if shape is None:
        return "unknown"
    module = case.modules.get(tensor.owner)
    if module is None or not (module.kind == "embedding" or tensor.owner == case.output_head):
        return "base" if tensor.info.shape == shape else "misshapen"
    # Of another vocabulary, the reading of the base model says.
    found = tensor.info.shape
    return "embeddings" if len(found) == len(shape) and found[1:] == shape[1:] and 0 not in found else "misfits"


def base_shape(tensor: Tensor, case: Case) -> Shape | None:
    """Return the shape that the base model's own parameter of this name has, or None where it has none."""
    module = case.modules.get(tensor.owner)
    if module is not None and tensor.name.endswith(".bias"):
        return (module.out_features,)
    if module is not None and tensor.name.endswith(".weight"):
        return module.weight_shape
    parameter = case.modules.get(tensor.key.path)
    return None if parameter is None else parameter.weight_shape


def _misnamed_embeddings(case: Case) -> frozenset[str]:
    """Copies of the base's embeddings under the wrong names that the other tensors have too: not a second cause."""
    if not case.difference.renamed:
        return frozenset()
    owners = [path for path in (case.input_embedding, case.output_head) if path is not None]
    known = {core_of(key_name(path, "weight")) for path in owners}
    return frozenset(tensor.name for tensor in case.difference.extra if core_of(tensor.name) in known)


def _is_bias_buffer(tensor: Tensor, tree: _Tree) -> bool:
    """``bias="all"`` of PEFT before 0.21 also saves buffers, such as a router's ``e_score_correction_bias``."""
    leaf = tensor.key.path.rpartition(".")[2]
    return not tensor.key.part and leaf.endswith("_bias") and tensor.owner in tree.containers


def _is_switched_off(field_name: str, path: str, case: Case) -> bool:
    """Whether the config has the feature off; where it is on, or the module has no LoRA, the cause is another."""
    if field_name == "trainable_token_indices":
        return not case.config.trainable_token_indices
    return not getattr(case.config, field_name) and path in case.expectation.targeted


def _is_targeted(path: str, case: Case) -> bool:
    return path in case.expectation.targeted or path in case.expectation.experts


@frozen
class _Tree:
    """What a path can be compared with.

    Attributes:
        kinds: the paths of modules and containers, without their numbers.
        containers: the paths of all that holds modules.
        last: the path of each numbered list, without numbers -> its last index.
    """

    kinds: frozenset[str]
    containers: frozenset[str]
    last: Mapping[str, int]

    @classmethod
    def of(cls, case: Case) -> _Tree:
        last: dict[str, int] = {}
        holders = containers(case.modules)  # LoRA on fused experts has the name of what holds them
        for path in (*case.modules, *holders):
            listed, _, index = path.rpartition(".")
            if index.isdecimal():
                stack = without_index(listed)
                last[stack] = max(int(index), last.get(stack, -1))
        return cls(frozenset(map(without_index, [*case.modules, *holders])), holders, last)

    def past_the_end(self, path: str) -> tuple[str, int] | None:
        """Return which list a path leaves behind its end, and the list's last index."""
        segments = path.split(".")
        for at, segment in enumerate(segments):
            if segment.isdecimal():
                last = self.last.get(without_index(".".join(segments[:at])))
                if last is not None and int(segment) > last:
                    return segments[at - 1], last
        return None
