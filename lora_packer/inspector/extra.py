"""Tensors that nothing expects, by why they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, key_name, parse_key, without_index
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.matching import Difference, core_of
from lora_packer.inspector.shapes import Context, counted
from lora_packer.peft.expected import Expectation
from lora_packer.peft.targets import containers, targeting
from lora_packer.redact import escape

# part -> the field that switches the feature on
_FEATURES = {
    "lora_magnitude_vector": "use_dora",
    "lora_B.bias": "lora_bias",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
    "token_adapter.base_layer.weight": "trainable_token_indices",
    "token_adapter.base_layer.bias": "trainable_token_indices",
    "lora_diag": "kasa_config",
}


@dataclass(slots=True)
class Extras:
    """Tensors that nothing expects.

    Attributes:
        names: cause -> names: ``past`` (behind the base's last layer or expert), ``feature`` (switched off),
            ``untargeted``, ``embeddings`` and ``base`` (the base model's own weights), ``lora`` (no such module),
            ``misfits`` (embeddings of another shape), ``unknown``.
        whats: cause -> what to name: fields, kinds of modules.
        past: of the first tensor behind the end: what the base has a list of (``layers``), and the last index there.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    whats: dict[str, set[str]] = field(default_factory=dict)
    past: tuple[str, int] | None = None

    def add(self, cause: str, what: str, name: str) -> None:
        """Note one tensor."""
        self.names.setdefault(cause, []).append(name)
        self.whats.setdefault(cause, set()).add(what)

    def take(self, cause: str, wanted: Callable[[str], bool]) -> None:
        """Take the names away that another finding tells of."""
        left = [name for name in self.names.get(cause, ()) if not wanted(name)]
        if left:
            self.names[cause] = left
        else:
            self.names.pop(cause, None)

    def findings(self, context: Context, elsewhere: str = "") -> Iterator[Finding]:
        """Yield one finding for each cause; ``elsewhere`` is what the same cause left without tensors."""
        for cause, names in self.names.items():
            detail = escape(", ".join(sorted(self.whats[cause])), 120)
            details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(names[0]), "count": len(names)}
            details["actual"] = list(context.tensors[names[0]].shape)
            tensors = counted(len(names))
            match cause:
                case "past" if self.past is not None:
                    what, last = self.past
                    message = f"{tensors} for {what} that {context.base_name} does not have (its last is {last})"
                    expected = f"{what} 0 to {last}"
                    yield rules.LAYER_OUT_OF_RANGE.finding(message + elsewhere, expected=expected, **details)
                case "feature":
                    message = f"{tensors} would be dropped: the config does not set {detail}"
                    yield rules.FLAG_OFF.finding(message, field=detail, **details)
                case "untargeted":
                    field = _excluding_field(_bare_path(names[0]), context)
                    why = "" if field == "target_modules" else f" because of {field}"
                    message = f"{tensors} would be dropped: the config does not target {detail}{why}{elsewhere}"
                    yield rules.DROPPED_BY_CONFIG.finding(message, field=field, **details)
                case "embeddings":
                    yield _embeddings(names, context, details)
                case "misfits":
                    wanted = _embedding_shape(names[0], context)
                    message = f"{tensors} with full embeddings of another shape than this base model's"
                    yield rules.WRONG_BASE.finding(message, expected=list(wanted), **details)
                case "base":
                    message = f"{tensors} would overwrite the base model's own weights"
                    yield rules.BASE_WEIGHTS.finding(message, **details)
                case "lora":
                    message = f"{tensors} of modules that {context.base_name} does not have would be dropped"
                    yield rules.UNKNOWN_TENSOR.finding(message, severity="error", **details)
                case _:
                    belongs = counted(len(names), "belongs", "belong")
                    yield rules.UNKNOWN_TENSOR.finding(f"{belongs} to nothing in {context.base_name}", **details)


# The fields that take modules away from target_modules, and what each has when it does not.
_EXCLUDING: Mapping[str, Mapping[str, Any]] = {
    "exclude_modules": {"exclude_modules": None},
    "layers_to_transform": {"layers_to_transform": None, "layers_pattern": ()},
    "modules_to_save": {"modules_to_save": (), "task_type": None},
}


def _excluding_field(path: str, context: Context) -> str:
    """The field without which the config would target the module."""
    if path in context.modules:
        for name, absent in _EXCLUDING.items():
            if targeting(replace(context.config, **absent), context.modules, ())(path):
                return name
    return "target_modules"


def _embeddings(names: list[str], context: Context, details: dict[str, Any]) -> Finding:
    """PEFT saves the input and the output embedding together, or one that was trained (modules_to_save).

    An input embedding alone that the config does not mention replaces the base's and nobody meant it.
    """
    message = f"{counted(len(names))} with full embeddings of the base model"
    head = context.output_head
    if head is None or any(_owner(name) == head for name in context.tensors):
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
        misnamed = _misnamed_embeddings(difference, context)
        for name in difference.extra:
            if name in misnamed or (context.config.bias == "all" and _is_bias_buffer(name, tree)):
                continue
            cause, what = _cause(name, expectation, context, tree)
            if cause in ("embeddings", "base") and _owner(name) in adapted:
                # PEFT saves a copy beside the LoRA on an embedding, and biases: they go or stay together.
                cause, what = "untargeted", _owner(name).rpartition(".")[2]
            if cause == "past" and result.past is None:
                result.past = tree.past_the_end(_bare_path(name))
            if cause == "embeddings" and not _same_but_rows(
                context.tensors[name].shape, _embedding_shape(name, context)
            ):
                cause = "misfits"
            result.add(cause, what, name)
    return result


def _same_but_rows(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an embedding has the right shape but for the vocabulary, of which the reading of the base model says."""
    return len(found) == len(wanted) and found[1:] == wanted[1:] and 0 not in found


def _embedding_shape(name: str, context: Context) -> tuple[int, ...]:
    module = context.modules[_owner(name)]
    return (module.out_features,) if name.endswith(".bias") else module.weight_shape


def _misnamed_embeddings(difference: Difference, context: Context) -> set[str]:
    """Copies of the base's embeddings under the wrong names that the other tensors have too: not a second cause."""
    if not difference.renamed:
        return set()
    owners = [path for path in (context.input_embedding, context.output_head) if path is not None]
    known = {core_of(key_name(path, "weight")) for path in owners}
    return {name for name in difference.extra if core_of(name) in known}


def _is_bias_buffer(name: str, tree: _Tree) -> bool:
    """``bias="all"`` of PEFT before 0.21 also saves buffers, such as a router's ``e_score_correction_bias``."""
    key = parse_key(name)
    owner, _, leaf = key.path.rpartition(".")
    return not key.part and leaf.endswith("_bias") and owner in tree.containers


@dataclass(frozen=True, slots=True)
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
    def of(cls, context: Context) -> _Tree:
        last: dict[str, int] = {}
        holders = containers(context.modules)  # LoRA on fused experts has the name of what holds them
        for path in (*context.modules, *holders):
            listed, _, index = path.rpartition(".")
            if index.isdecimal():
                stack = without_index(listed)
                last[stack] = max(int(index), last.get(stack, -1))
        return cls(frozenset(map(without_index, [*context.modules, *holders])), holders, last)

    def past_the_end(self, path: str) -> tuple[str, int] | None:
        """Return which list a path leaves behind its end, and the list's last index."""
        segments = path.split(".")
        for at, segment in enumerate(segments):
            if segment.isdecimal():
                last = self.last.get(without_index(".".join(segments[:at])))
                if last is not None and int(segment) > last:
                    return segments[at - 1], last
        return None


def _bare_path(name: str) -> str:
    """The path of the module that a tensor is about."""
    key = parse_key(name)
    path = key.path
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    return path


def _cause(name: str, expectation: Expectation, context: Context, tree: _Tree) -> tuple[str, str]:
    if not name.isprintable() or not name:
        return "lora", ""
    key, path = parse_key(name), _bare_path(name)
    known = path in context.modules
    if not known and key.prefixed and tree.past_the_end(path) is not None:
        return "past", ""
    if not known and key.part and without_index(path) in tree.kinds and path not in tree.containers:
        return "lora", ""
    if key.part in _FEATURES and known and _switched_off(_FEATURES[key.part], path, expectation, context):
        return "feature", _FEATURES[key.part]
    if key.part.startswith("base_layer") or not key.part:
        owner = _owner(name)
        module = context.modules.get(owner)
        if module is not None and name.endswith((".weight", ".bias")):
            embedding = module.kind == "embedding" or owner == context.output_head
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
