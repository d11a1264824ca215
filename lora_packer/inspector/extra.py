"""Tensors that nothing expects, by why they are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, layer_index, parse_key, without_index
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.compare import Difference
from lora_packer.inspector.expected import Expectation
from lora_packer.inspector.shapes import Context, counted
from lora_packer.inspector.targets import OUTPUT_HEADS, containers, output_head
from lora_packer.redact import escape

# part -> the field that switches the feature on
_FEATURES = {
    "lora_magnitude_vector": "use_dora",
    "lora_B.bias": "lora_bias",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
    "lora_diag": "kasa_config",
}


@dataclass(slots=True)
class Extras:
    """Tensors that nothing expects.

    Attributes:
        names: cause -> names: ``layer`` (the base has no such layer), ``feature`` (switched off), ``untargeted``,
            ``embeddings`` and ``base`` (the base model's own weights), ``lora`` (no such module), ``unknown``.
        whats: cause -> what to name: fields, kinds of modules.
        last_layer: the deepest layer of the first tensor's stack.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    whats: dict[str, set[str]] = field(default_factory=dict)
    last_layer: int = -1

    def add(self, cause: str, what: str, name: str) -> None:
        """Note one tensor."""
        self.names.setdefault(cause, []).append(name)
        self.whats.setdefault(cause, set()).add(what)

    def findings(self, context: Context, elsewhere: str = "") -> Iterator[Finding]:
        """Yield one finding for each cause; ``elsewhere`` is what the same cause left without tensors."""
        for cause, names in self.names.items():
            detail = escape(", ".join(sorted(self.whats[cause])), 120)
            details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(names[0]), "count": len(names)}
            details["actual"] = list(context.tensors[names[0]].shape)
            tensors = counted(len(names))
            match cause:
                case "layer":
                    has = f"{context.base_name} does not have (its last is {self.last_layer}){elsewhere}"
                    message, layers = f"{tensors} for layers that {has}", f"layers 0 to {self.last_layer}"
                    yield rules.LAYER_OUT_OF_RANGE.finding(message, expected=layers, **details)
                case "feature":
                    message = f"{tensors} would be dropped: the config does not set {detail}"
                    yield rules.FLAG_OFF.finding(message, field=detail, **details)
                case "untargeted":
                    message = f"{tensors} would be dropped: the config does not target {detail}{elsewhere}"
                    yield rules.DROPPED_BY_CONFIG.finding(message, field="target_modules", **details)
                case "embeddings":
                    yield _embeddings(names, context, details)
                case "base":
                    message = f"{tensors} would overwrite the base model's own weights"
                    yield rules.BASE_WEIGHTS.finding(message, **details)
                case "lora":
                    message = f"{tensors} of modules that {context.base_name} does not have would be dropped"
                    yield rules.UNKNOWN_TENSOR.finding(message, severity="error", **details)
                case _:
                    belongs = counted(len(names), "belongs", "belong")
                    yield rules.UNKNOWN_TENSOR.finding(f"{belongs} to nothing in {context.base_name}", **details)


def _embeddings(names: list[str], context: Context, details: dict[str, Any]) -> Finding:
    """PEFT saves the input and the output embedding together, or one that was trained (modules_to_save).

    An input embedding alone that the config does not mention replaces the base's and nobody meant it.
    """
    message = f"{counted(len(names))} with full embeddings of the base model"
    owners = {_owner(name) for name in names}
    heads = {owner for owner in owners if owner.rpartition(".")[2] in OUTPUT_HEADS}
    if heads or output_head(context.modules) is None:
        return rules.SAVED_EMBEDDINGS.finding(message, **details)
    message += " and without its output head: it would overwrite the base's embedding"
    return rules.SAVED_EMBEDDINGS.finding(message, severity="error", **details)


def _owner(name: str) -> str:
    key = parse_key(name)
    return key.path if key.part else key.path.rpartition(".")[0]


def extras(difference: Difference, expectation: Expectation, context: Context) -> Extras:
    """Sort the tensors that nothing expects."""
    result = Extras()
    if difference.extra:
        tree = _Tree.of(context)
        adapted = {key.path for key in map(parse_key, difference.extra) if key.part in PAIRED}
        for name in difference.extra:
            cause, what = _cause(name, expectation, context, tree)
            if cause in ("embeddings", "base") and _owner(name) in adapted:
                # PEFT saves a copy beside the LoRA on an embedding, and biases: they go or stay together.
                cause, what = "untargeted", _owner(name).rpartition(".")[2]
            if cause == "layer" and result.last_layer < 0:
                result.last_layer = tree.last_layer(parse_key(name).path)
            result.add(cause, what, name)
    return result


@dataclass(frozen=True, slots=True)
class _Tree:
    """What a path can be compared with: the kinds of modules, the containers, the depth of each stack of layers."""

    kinds: frozenset[str]
    containers: frozenset[str]
    depths: Mapping[str, int]

    @classmethod
    def of(cls, context: Context) -> _Tree:
        depths: dict[str, int] = {}
        for path in context.modules:
            index = layer_index(path)
            if index is not None:
                stack = _stack(path)
                depths[stack] = max(index, depths.get(stack, -1))
        holders = containers(context.modules)  # LoRA on fused experts has the name of what holds them
        return cls(frozenset(map(without_index, [*context.modules, *holders])), holders, depths)

    def last_layer(self, path: str) -> int:
        return self.depths.get(_stack(path), -1)


def _stack(path: str) -> str:
    """The path of the list of layers that a path lies in."""
    segments = []
    for segment in path.split("."):
        if segment.isdecimal():
            break
        segments.append(segment)
    return ".".join(segments)


def _cause(name: str, expectation: Expectation, context: Context, tree: _Tree) -> tuple[str, str]:
    if not name.isprintable() or not name:
        return "lora", ""
    key = parse_key(name)
    path = key.path
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    known = path in context.modules
    index = layer_index(path)
    if not known and index is not None and key.part and without_index(path) in tree.kinds:
        last = tree.last_layer(path)
        return ("layer", "") if 0 <= last < index else ("lora", "")
    if key.part in _FEATURES and known and _switched_off(_FEATURES[key.part], path, expectation, context):
        return "feature", _FEATURES[key.part]
    if key.part.startswith("base_layer") or not key.part:
        owner = _owner(name)
        module = context.modules.get(owner)
        if module is not None:
            embedding = module.kind == "embedding" or owner.rpartition(".")[2] in OUTPUT_HEADS
            return ("embeddings" if embedding else "base"), ""
        return ("base", "") if key.path in context.modules else ("unknown", "")
    if known or path in tree.containers:
        return "untargeted", path.rpartition(".")[2]
    return "lora", ""


def _switched_off(field_name: str, path: str, expectation: Expectation, context: Context) -> bool:
    """Whether the config has the feature off; where it is on, or the module has no LoRA, the cause is another."""
    if field_name == "trainable_token_indices":
        return not context.config.trainable_token_indices
    return not getattr(context.config, field_name) and path in expectation.targeted
