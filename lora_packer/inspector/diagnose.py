"""The difference between expected and found tensors, explained: one cause, one finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import (
    PREFIX,
    WEIGHTS_NAME,
    WRAPPER_SEGMENTS,
    canonical_name,
    layer_index,
    parse_key,
    without_index,
)
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import Modules
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.expected import Expectation, Shape, Want
from lora_packer.redact import escape

PAIRED = {
    "lora_A.weight": "lora_B.weight",
    "lora_B.weight": "lora_A.weight",
    "lora_embedding_A": "lora_embedding_B",
    "lora_embedding_B": "lora_embedding_A",
}


@dataclass(slots=True)
class Difference:
    """The found tensors, sorted against the expected ones.

    Attributes:
        matched: expected name -> (name in the file, its info, what was wanted).
        renamed: how a name has to be changed to be the expected one -> the names in the file.
        missing: the required names without a tensor.
        extra: names in the file that nothing expects.
    """

    matched: dict[str, tuple[str, TensorInfo, Want]] = field(default_factory=dict)
    renamed: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def distance(self) -> int:
        """How far the file is from what was expected; 0 where every tensor is."""
        wrong = sum(info.shape != want.shape for _, info, want in self.matched.values())
        return len(self.missing) + len(self.extra) + wrong + sum(map(len, self.renamed.values()))


def compare(expectation: Expectation, tensors: Mapping[str, TensorInfo]) -> Difference:
    """Match every tensor of the file with an expected one, by its name or by the name it should have had."""
    result = Difference()
    wanted = {**expectation.optional, **expectation.required}
    unmatched = []
    for name, info in tensors.items():
        want = wanted.get(name)
        if want is None:
            unmatched.append(name)
        else:
            result.matched[name] = (name, info, want)
    for name in unmatched:
        for change, candidate in _renamings(name):
            want = wanted.get(candidate)
            if want is not None and candidate not in result.matched:
                result.matched[candidate] = (name, tensors[name], want)
                if change:
                    result.renamed.setdefault(change, []).append(name)
                break
        else:
            result.extra.append(name)
    result.missing = [name for name in expectation.required if name not in result.matched]
    return result


ADAPTER_NAME = "adapter name"
DOUBLED_PREFIX = PREFIX * 2


def _renamings(name: str) -> Iterable[tuple[str, str]]:
    """Names that this one may have been meant as, each with what is off about it ("" where PEFT takes it as it is)."""
    plain = canonical_name(name)
    if plain != name:
        yield ADAPTER_NAME if parse_key(name).adapter_name else "", plain
    stripped = plain
    for segment in WRAPPER_SEGMENTS:
        if segment in stripped:
            stripped = stripped.replace(segment, "")
    if stripped != plain:
        wrapper = next(segment for segment in WRAPPER_SEGMENTS if segment in plain)
        yield f"the segment {wrapper!r} of a training wrapper was left in", stripped
        yield f"the segment {wrapper!r} of a training wrapper was left in", PREFIX + stripped
    if stripped.startswith("module."):
        yield "the prefix 'module.' of data-parallel training was left in", stripped.removeprefix("module.")
        yield "the prefix 'module.' of data-parallel training was left in", PREFIX + stripped.removeprefix("module.")
    if ".modules_to_save." in stripped:
        before, _, after = stripped.partition(".modules_to_save.")
        yield "the segment 'modules_to_save.' was left in", f"{before}.{after}"
        yield "the segment 'modules_to_save.' was left in", f"{before}.{after.partition('.')[2]}"
    if stripped.startswith(DOUBLED_PREFIX):
        yield f"the prefix {PREFIX!r} stands twice", stripped.removeprefix(PREFIX)
    if not stripped.startswith("base_model."):
        yield f"the prefix {PREFIX!r} is missing", PREFIX + stripped
        yield f"the prefix {PREFIX + 'model.'!r} is missing", PREFIX + "model." + stripped
    elif stripped.startswith(PREFIX):
        path = stripped.removeprefix(PREFIX)
        yield "one 'model.' is missing after the prefix", PREFIX + "model." + path
        if path.startswith("model."):
            yield "one 'model.' too many stands after the prefix", PREFIX + path.removeprefix("model.")
    else:
        yield f"the prefix is not {PREFIX!r}", PREFIX + stripped.removeprefix("base_model.")
    folded = stripped
    for letter in "ab":
        folded = folded.replace(f".lora_{letter}.", f".lora_{letter.upper()}.")
    if folded != stripped:
        yield "lora_a and lora_b are written in lower case", folded
    if ".lora_embedding_" in stripped and stripped.endswith(".weight"):
        yield "LoRA on an embedding has no '.weight' at the end", stripped.removesuffix(".weight")
    for letter in "AB":
        if stripped.endswith(f".lora_{letter}.weight"):
            embedding = stripped.removesuffix(f".lora_{letter}.weight") + f".lora_embedding_{letter}"
            yield "LoRA on an embedding is named lora_embedding_A and lora_embedding_B", embedding


@dataclass(frozen=True, slots=True)
class Context:
    """What the explanations need besides the difference."""

    config: LoraConfig
    modules: Modules
    tensors: Mapping[str, TensorInfo]
    base_name: str


def explain(difference: Difference, expectation: Expectation, context: Context) -> list[Finding]:
    """Return the findings, each cause once, in the order of the tensors it is about."""
    findings = list(_renamed(difference))
    shapes = list(_wrong_shapes(difference, context))
    rest = [*_missing(difference, expectation, context), *_extra(difference, context)]
    other_base = next((item for item in shapes if item.code == rules.WRONG_BASE.code), None)
    layers = _layer_counts(context)
    if other_base is not None and other_base.count == len(difference.matched) and layers[0] != layers[1]:
        # Not one tensor fits: that the number of layers is another one too has the same cause.
        message = f"{other_base.message}, {layers[1]} layers instead of {layers[0]}"
        shapes[shapes.index(other_base)] = replace(other_base, message=message)
        by_layers = (rules.MISSING_MODULES.code, rules.LAYER_OUT_OF_RANGE.code)
        rest = [item for item in rest if item.code not in by_layers]
    return findings + shapes + rest


def _layer_counts(context: Context) -> tuple[int, int]:
    """How many layers the base model has, and how many the file has tensors for."""
    expected = max((i for path in context.modules if (i := layer_index(path)) is not None), default=-1)
    found = max((i for name in context.tensors if (i := layer_index(parse_key(name).path)) is not None), default=-1)
    return expected + 1, found + 1


def _renamed(difference: Difference) -> Iterable[Finding]:
    for change, names in difference.renamed.items():
        expected = next(e for e, (found, _, _) in difference.matched.items() if found == names[0])
        details: dict[str, Any] = {"tensor": escape(names[0]), "count": len(names)}
        details |= {"expected": expected, "actual": escape(names[0])}
        if change == ADAPTER_NAME:
            kept = parse_key(names[0]).adapter_name or ""
            message = f"the adapter's name '{escape(kept, 40)}' was left in the names of {_tensors(len(names))}"
            yield rules.ADAPTER_NAME_LEFT.finding(message, file=WEIGHTS_NAME, **details)
        else:
            message = f"{_tensors(len(names))} would be dropped: {change}"
            yield rules.RENAMED.finding(message, file=WEIGHTS_NAME, **details)


def _tensors(count: int, one: str = "", many: str = "") -> str:
    """``1 tensor fits`` or ``3 tensors fit``: the noun, and the verb's form that goes with it."""
    return f"1 tensor {one}".rstrip() if count == 1 else f"{count} tensors {many}".rstrip()


# --- shapes ----------------------------------------------------------------------------------------------------------


def _wrong_shapes(difference: Difference, context: Context) -> Iterable[Finding]:
    """Group the tensors of a wrong shape by cause."""
    wrong = {
        n: (found, info, want) for n, (found, info, want) in difference.matched.items() if info.shape != want.shape
    }
    groups: dict[str, list[str]] = {}
    for name, (_, info, want) in wrong.items():
        groups.setdefault(_shape_cause(name, info.shape, want, wrong), []).append(name)
    for cause, names in groups.items():
        found, info, want = wrong[names[0]]
        shapes = {"expected": list(want.shape), "actual": list(info.shape)}
        details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(found), "count": len(names), **shapes}
        yield _SHAPE_FINDINGS[cause](names, wrong, context).finding_with(details)


@dataclass(frozen=True, slots=True)
class _Explained:
    rule: rules.Rule
    message: str
    field: str | None = None

    def finding_with(self, details: dict[str, Any]) -> Finding:
        return self.rule.finding(self.message, field=self.field, **details)


_Wrong = Mapping[str, tuple[str, TensorInfo, Want]]


def _shape_cause(name: str, found: Shape, want: Want, wrong: _Wrong) -> str:
    if 0 in found:
        return "empty"
    partner_part = PAIRED.get(want.part)
    partner = wrong.get(name.removesuffix(want.part) + partner_part) if partner_part else None
    if partner and found == partner[2].shape and partner[1].shape == want.shape:
        return "swapped"
    if len(found) == 2 and found == want.shape[::-1]:
        return "transposed"
    axis = _rank_axis(want.part)
    if axis is not None and len(found) == len(want.shape) and _without(found, axis) == _without(want.shape, axis):
        return "rank"
    return "base"


def _rank_axis(part: str) -> int | None:
    return {"lora_A.weight": 0, "lora_embedding_A": 0, "lora_B.weight": 1, "lora_embedding_B": 1}.get(part)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _explain_empty(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.EMPTY_TENSOR, f"{_tensors(len(names))} without elements: the weights were saved ungathered")


def _explain_swapped(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.SWAPPED, f"lora_A and lora_B are swapped in {_tensors(len(names))}")


def _explain_transposed(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.TRANSPOSED, f"{_tensors(len(names))} stored transposed")


def _explain_rank(names: list[str], wrong: _Wrong, context: Context) -> _Explained:
    ranks = Counter(info.shape[_rank_axis(want.part) or 0] for _, info, want in (wrong[name] for name in names))
    wanted = Counter(want.shape[_rank_axis(want.part) or 0] for _, _, want in (wrong[name] for name in names))
    tensors = _tensors(len(names))
    message = f"the config gives {tensors} rank {_listed(wanted)}, and the file has rank {_listed(ranks)}"
    return _Explained(rules.RANK_MISMATCH, message, "rank_pattern" if context.config.rank_pattern else "r")


def _listed(counted: Counter[int]) -> str:
    values = sorted(counted)
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")


def _explain_base(names: list[str], wrong: _Wrong, context: Context) -> _Explained:
    """Say which of the base's dimensions are off: (what, expected, found), the commonest first."""
    changes: Counter[tuple[str, int, int]] = Counter()
    for name in names:
        _, info, want = wrong[name]
        if len(info.shape) == len(want.shape):
            for axis, (expected, found) in enumerate(zip(want.shape, info.shape, strict=True)):
                if expected != found and axis != _rank_axis(want.part):
                    changes[(_dimension(want, axis, expected, context), expected, found)] += 1
    if not changes:
        _, info, want = wrong[names[0]]
        message = f"{_tensors(len(names))} with a shape of {len(info.shape)} axes where {len(want.shape)} are expected"
        return _Explained(rules.WRONG_BASE, message)
    parts = [f"{what} {found} instead of {expected}" for (what, expected, found), _ in changes.most_common(4)]
    does_not_fit = _tensors(len(names), "does not fit", "do not fit")
    message = f"{does_not_fit} {context.base_name}: " + ", ".join(parts)
    return _Explained(rules.WRONG_BASE, message)


def _dimension(want: Want, axis: int, expected: int, context: Context) -> str:
    """Name the base's dimension that an axis has."""
    leaf = want.path.rpartition(".")[2]
    is_output = want.part in ("lora_B.weight", "lora_B.bias", "lora_magnitude_vector") or (not want.part and axis == 0)
    embeddings = [module for module in context.modules.values() if module.kind == "embedding"]
    hidden = embeddings[0].weight_shape[1] if embeddings else None
    vocab = embeddings[0].weight_shape[0] if embeddings else None
    if want.part == "token_adapter.trainable_tokens_delta" and axis == 0:
        return "number of trained tokens"
    if expected == vocab and (want.part == "lora_embedding_A" or "embed" in leaf or leaf in ("lm_head", "weight")):
        return "vocabulary"
    if leaf in ("k_proj", "v_proj") and is_output:
        return "key/value size (kv heads x head size)"
    if (leaf == "q_proj" and is_output) or (leaf == "o_proj" and not is_output):
        return "attention size (heads x head size)"
    if expected == hidden:
        return "hidden size"
    if (leaf in ("gate_proj", "up_proj") and is_output) or (leaf == "down_proj" and not is_output):
        return "intermediate size"
    return "out features" if is_output else "in features"


_SHAPE_FINDINGS: Mapping[str, Callable[[list[str], _Wrong, Context], _Explained]] = {
    "empty": _explain_empty,
    "swapped": _explain_swapped,
    "transposed": _explain_transposed,
    "rank": _explain_rank,
    "base": _explain_base,
}

# --- missing ---------------------------------------------------------------------------------------------------------


def _missing(difference: Difference, expectation: Expectation, context: Context) -> Iterable[Finding]:
    half: dict[str, list[str]] = {}
    whole: list[str] = []
    parts: dict[str, list[str]] = {}
    gone = set(difference.missing)
    for name in difference.missing:
        want = expectation.required[name]
        partner_part = PAIRED.get(want.part)
        if partner_part is None:
            parts.setdefault(want.part or "weights", []).append(name)
        elif name.removesuffix(want.part) + partner_part not in gone:
            half.setdefault(want.part, []).append(name)
        elif want.part in ("lora_A.weight", "lora_embedding_A"):
            whole.append(name)
    for part, names in half.items():
        message = f"{_missing_count(part, names)}, whose other half is in the file"
        yield _missing_finding(rules.HALF_PAIR, names, message, expectation)
    lost = {expectation.required[name].path for name in whole}
    for part, names in parts.items():
        # A module that is missing as a whole is one cause; its magnitude vector is not a second one.
        names = [name for name in names if expectation.required[name].path not in lost]
        if names:
            yield _missing_finding(rules.MISSING_PART, names, _part_message(part, names), expectation)
    yield from _missing_modules(whole, difference, expectation, context)


def _missing_count(part: str, names: list[str]) -> str:
    short = part.removesuffix(".weight")
    return f"{short} is missing for {len(names)} module{'s' if len(names) > 1 else ''}"


def _part_message(part: str, names: list[str]) -> str:
    what = {
        "lora_magnitude_vector": "use_dora is true, and lora_magnitude_vector is missing for {}",
        "token_adapter.trainable_tokens_delta": "trainable_token_indices is set, and the rows are missing for {}",
        "lora_diag": "kasa_config is set, and lora_diag is missing for {}",
        "weights": "modules_to_save names {} whose weights are missing",
    }.get(part, part + " is missing for {}")
    return what.format(f"{len(names)} module{'s' if len(names) > 1 else ''}")


def _missing_finding(rule: rules.Rule, names: list[str], message: str, expectation: Expectation) -> Finding:
    want = expectation.required[names[0]]
    return rule.finding(
        message,
        file=WEIGHTS_NAME,
        tensor=escape(names[0]),
        count=len(names),
        expected=list(want.shape),
        actual="missing",
    )


def _missing_modules(
    names: list[str], difference: Difference, expectation: Expectation, context: Context
) -> Iterable[Finding]:
    """Whole modules without tensors: a kind that has none anywhere is a wider config, else layers were lost."""
    present = {without_index(want.path) for _, _, want in difference.matched.values()}
    lost = [name for name in names if without_index(expectation.required[name].path) in present]
    untrained = [name for name in names if without_index(expectation.required[name].path) not in present]
    if lost:
        layers = sorted({i for name in lost if (i := layer_index(expectation.required[name].path)) is not None})
        shown = ", ".join(map(str, layers[:6])) + (", ..." if len(layers) > 6 else "")
        message = f"{len(lost)} targeted module{'s have' if len(lost) > 1 else ' has'} no tensors" + (
            f" (layer{'s' if len(layers) > 1 else ''} {shown})" if layers else ""
        )
        yield _missing_finding(rules.MISSING_MODULES, lost, message, expectation)
    if untrained and present:
        kinds = sorted({expectation.required[name].path.rpartition(".")[2] for name in untrained})
        message = f"target_modules also names {escape(', '.join(kinds), 120)}, for which the file has no tensors"
        yield _missing_finding(rules.WIDER_CONFIG, untrained, message, expectation)
    elif untrained and not any(_extra_cause(name, context, -1)[0] == "untargeted" for name in difference.extra):
        # An empty file never comes here. Tensors that the config does not target are a finding of their own.
        message = f"no tensor of the file belongs to any of the {len(untrained)} targeted modules"
        yield _missing_finding(rules.MISSING_MODULES, untrained, message, expectation)


# --- extra -----------------------------------------------------------------------------------------------------------

_FEATURE_FIELDS = {
    "lora_magnitude_vector": "use_dora",
    "lora_B.bias": "lora_bias",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
    "lora_diag": "kasa_config",
}


def _extra(difference: Difference, context: Context) -> Iterable[Finding]:
    groups: dict[str, list[str]] = {}
    whats: dict[str, set[str]] = {}
    deepest = _layer_counts(context)[0] - 1
    for name in difference.extra:
        cause, what = _extra_cause(name, context, deepest)
        groups.setdefault(cause, []).append(name)
        whats.setdefault(cause, set()).add(what)
    for cause, names in groups.items():
        detail = escape(", ".join(sorted(whats[cause])), 120)
        details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(names[0]), "count": len(names)}
        details["actual"] = list(context.tensors[names[0]].shape)
        tensors = _tensors(len(names))
        match cause:
            case "layer":
                message = f"{tensors} for layers that {context.base_name} does not have (its last is {deepest})"
                yield rules.LAYER_OUT_OF_RANGE.finding(message, expected=f"layers 0 to {deepest}", **details)
            case "feature":
                message = f"{tensors} would be dropped: the config does not set {detail}"
                yield rules.FLAG_OFF.finding(message, field=detail, **details)
            case "untargeted":
                message = f"{tensors} would be dropped: the config does not target {detail}"
                yield rules.DROPPED_BY_CONFIG.finding(message, field="target_modules", **details)
            case "embeddings":
                yield rules.SAVED_EMBEDDINGS.finding(f"{tensors} with full embeddings of the base model", **details)
            case "base":
                yield rules.BASE_WEIGHTS.finding(f"{tensors} would overwrite the base model's own weights", **details)
            case "lora":
                message = f"{tensors} of modules that {context.base_name} does not have would be dropped"
                yield rules.UNKNOWN_TENSOR.finding(message, severity="error", **details)
            case _:
                belongs = _tensors(len(names), "belongs", "belong")
                yield rules.UNKNOWN_TENSOR.finding(f"{belongs} to nothing in {context.base_name}", **details)


def _extra_cause(name: str, context: Context, deepest: int) -> tuple[str, str]:
    key = parse_key(name)
    path = key.path
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    known = path in context.modules
    index = layer_index(path)
    if not name.isprintable() or not name:
        return "lora", ""
    if not known and index is not None and index > deepest and key.part:
        first = path.replace(f".{index}.", ".0.", 1)
        if first in context.modules:
            return "layer", ""
    if key.part in _FEATURE_FIELDS and known:
        return "feature", _FEATURE_FIELDS[key.part]
    if key.part.startswith("base_layer") or not key.part:
        owner = key.path if key.part else key.path.rpartition(".")[0]
        module = context.modules.get(owner)
        if module is not None:
            return ("embeddings" if module.kind == "embedding" or owner == "lm_head" else "base"), ""
        return ("base", "") if key.path in context.modules else ("unknown", "")
    if known or any(module.startswith(path + ".") for module in context.modules):
        return "untargeted", path.rpartition(".")[2]
    return "lora", ""
