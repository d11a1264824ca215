"""Tensors of a wrong shape, grouped by what made them so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import Modules
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.matching import Difference
from lora_packer.peft.expected import RANK_AXIS, Expectation, Shape, Want
from lora_packer.peft.targets import PatternLookup
from lora_packer.redact import escape

_SQUARE_IN_RANK = "lora_monteclora_sampler.gaussian_var_prior"
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class Context:
    """What the explanations need besides the difference: the config, the base's modules, the file, the base's name,
    and the paths of its input and output embedding.
    """

    config: LoraConfig
    modules: Modules
    tensors: Mapping[str, TensorInfo]
    base_name: str
    input_embedding: str | None
    output_head: str | None


_Wrong = Mapping[str, tuple[str, TensorInfo, Want]]


def wrong_shapes(difference: Difference, expectation: Expectation, context: Context) -> Iterable[Finding]:
    """Yield one finding for each cause."""
    wrong = {
        n: (found, info, want) for n, (found, info, want) in difference.matched.items() if info.shape != want.shape
    }
    groups: dict[str, list[str]] = {}
    for name, (_, info, want) in wrong.items():
        groups.setdefault(_cause(name, info.shape, want, wrong), []).append(name)
    if "rank" in groups and _other_experts(groups["rank"], wrong, difference, expectation):
        experts = groups.pop("rank")
        groups["base"] = [name for name in wrong if name in {*experts, *groups.get("base", ())}]
    # A square layer's pair looks the same transposed and swapped, and sizes coincide: a file has one or the other.
    turned = {cause: groups.pop(cause) for cause in ("transposed", "swapped", "either") if cause in groups}
    if turned:
        cause = "swapped" if len(turned.get("swapped", ())) > len(turned.get("transposed", ())) else "transposed"
        together = {name for names in turned.values() for name in names}
        groups[cause] = [name for name in wrong if name in together]
    for cause, names in groups.items():
        found, info, want = wrong[names[0]]
        shapes = {"expected": list(want.shape), "actual": list(info.shape)}
        details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(found), "count": len(names), **shapes}
        explained = _EXPLANATIONS[cause](names, wrong, context)
        yield explained.rule.finding(explained.message, field=explained.field, **{**details, **explained.more})


@dataclass(frozen=True, slots=True)
class _Explained:
    rule: rules.Rule
    message: str
    field: str | None = None
    hint: str | None = None

    @property
    def more(self) -> dict[str, Any]:
        return {} if self.hint is None else {"hint": self.hint}


def _cause(name: str, found: Shape, want: Want, wrong: _Wrong) -> str:
    if 0 in found:
        return "empty"
    partner_part = PAIRED.get(want.part)
    partner = wrong.get(name.removesuffix(want.part) + partner_part) if partner_part else None
    if _has_third_axis(found, want) or (partner and _has_third_axis(partner[1].shape, partner[2])):
        return "old"
    swapped = partner is not None and found == partner[2].shape and partner[1].shape == want.shape
    transposed = len(found) == 2 and found == want.shape[::-1]
    if swapped or transposed:
        return "either" if swapped and transposed else "swapped" if swapped else "transposed"
    axis = RANK_AXIS.get(want.part)
    if axis is not None and len(found) == len(want.shape) and _without(found, axis) == _without(want.shape, axis):
        return "rank"
    if want.part == _SQUARE_IN_RANK and len(found) == 2 and found[0] == found[1]:
        return "rank"
    return "base"


def _other_experts(names: list[str], wrong: _Wrong, difference: Difference, expectation: Expectation) -> bool:
    """Whether it is another number of experts that these ranks show: fused experts have theirs times that number.

    All of them are then off by the same factor, and the other modules have the rank that the config gives them.
    """
    fused = {path: count for path, (_, count) in expectation.experts.items() if count > 1}
    if not all(wrong[name][2].path in fused for name in names):
        return False
    every = {name for name, (_, _, want) in difference.matched.items() if want.path in fused and want.part in PAIRED}
    if not every <= set(names) or len(every) == len(difference.matched):
        return False
    factors = set()
    for name in names:
        _, info, want = wrong[name]
        axis = RANK_AXIS[want.part]
        factors.add(Fraction(info.shape[axis], want.shape[axis]))
    experts = fused[wrong[names[0]][2].path] * next(iter(factors))
    return len(factors) == 1 and experts.denominator == 1


def _has_third_axis(found: Shape, want: Want) -> bool:
    return want.part == "lora_B.weight" and len(want.shape) == 2 and len(found) == 3 and found[2] == 1


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def counted(count: int, one: str = "", many: str = "") -> str:
    """``1 tensor fits`` or ``3 tensors fit``: the noun, and the verb's form that goes with it."""
    return f"1 tensor {one}".rstrip() if count == 1 else f"{count} tensors {many}".rstrip()


def _empty(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.EMPTY_TENSOR, f"{counted(len(names))} without elements: the weights were saved ungathered")


def _swapped(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.SWAPPED, f"lora_A and lora_B are swapped in {counted(len(names))}")


def _transposed(names: list[str], _wrong: _Wrong, _context: Context) -> _Explained:
    return _Explained(rules.TRANSPOSED, f"{counted(len(names), 'is', 'are')} stored transposed")


def _old(names: list[str], wrong: _Wrong, _context: Context) -> _Explained:
    third = next(name for name in names if len(wrong[name][1].shape) == 3)
    axes = f"{len(wrong[third][1].shape)} axes where {len(wrong[third][2].shape)} are expected"
    message = f"{counted(len(names))} with a shape of {axes}: lora_B as PEFT before 0.3 wrote it (enable_lora)"
    hint = "No newer PEFT loads such a file: merge it with the old release, or train again."
    return _Explained(rules.WRONG_BASE, message, hint=hint)


def _rank(names: list[str], wrong: _Wrong, context: Context) -> _Explained:
    ranks = Counter(info.shape[_rank_axis(want)] for _, info, want in (wrong[name] for name in names))
    wanted = Counter(want.shape[_rank_axis(want)] for _, _, want in (wrong[name] for name in names))
    message = f"the config gives {counted(len(names))} rank {_listed(wanted)}, and the file has rank {_listed(ranks)}"
    field = "rank_pattern" if context.config.rank_pattern else "r"
    if _other_pattern_fits(names, wrong, context):
        message += ", which another key of rank_pattern gives: PEFT sorts the keys when it saves, and the first wins"
        hint = "Write rank_pattern with one key for each module, so that their order does not matter."
        return _Explained(rules.RANK_MISMATCH, message, field, hint)
    set_r = f"Set r to {next(iter(ranks))}." if field == "r" and len(ranks) == 1 else None
    return _Explained(rules.RANK_MISMATCH, message, field, set_r)


def _rank_axis(want: Want) -> int:
    return RANK_AXIS.get(want.part, 0)


def _other_pattern_fits(names: list[str], wrong: _Wrong, context: Context) -> bool:
    """Whether each of these modules has the rank of a pattern that matches it and does not win."""
    if len(context.config.rank_pattern) < 2:
        return False
    lookup = PatternLookup(context.config.rank_pattern, context.config.r)
    looked_at = (wrong[name] for name in names[:_LOOKED_AT])
    return all(info.shape[_rank_axis(want)] in lookup.all_of(want.path)[1:] for _, info, want in looked_at)


def _listed(counts: Counter[int]) -> str:
    values = sorted(counts)
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")


def _base(names: list[str], wrong: _Wrong, context: Context) -> _Explained:
    """Say which of the base's dimensions are off: (what, expected, found), the commonest first."""
    changes: Counter[tuple[str, int, int]] = Counter()
    for name in names:
        _, info, want = wrong[name]
        if len(info.shape) == len(want.shape):
            for axis, (expected, found) in enumerate(zip(want.shape, info.shape, strict=True)):
                if expected != found and axis == RANK_AXIS.get(want.part):
                    changes[("experts x rank", expected, found)] += 1
                elif expected != found:
                    changes[(_dimension(want, axis, expected, context), expected, found)] += 1
    if not changes:
        _, info, want = wrong[names[0]]
        message = f"{counted(len(names))} with a shape of {len(info.shape)} axes where {len(want.shape)} are expected"
        return _Explained(rules.WRONG_BASE, message)
    parts = [f"{what} {found} instead of {expected}" for (what, expected, found), _ in changes.most_common(4)]
    does_not_fit = counted(len(names), "does not fit", "do not fit")
    return _Explained(rules.WRONG_BASE, f"{does_not_fit} {context.base_name}: " + ", ".join(parts))


def _dimension(want: Want, axis: int, expected: int, context: Context) -> str:
    """Name the base's dimension that an axis has."""
    leaf = want.path.rpartition(".")[2]
    is_output = want.part in ("lora_B.weight", "lora_B.bias", "lora_magnitude_vector") or (not want.part and axis == 0)
    vocab, hidden = (None, None)
    if context.input_embedding is not None:
        vocab, hidden = context.modules[context.input_embedding].weight_shape
    if want.part == "token_adapter.trainable_tokens_delta" and axis == 0:
        return "number of trained tokens"
    of_embeddings = want.part == "lora_embedding_A" or "embed" in leaf or leaf == "weight"
    if expected == vocab and (of_embeddings or want.path == context.output_head):
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


_EXPLANATIONS: Mapping[str, Callable[[list[str], _Wrong, Context], _Explained]] = {
    "empty": _empty,
    "swapped": _swapped,
    "transposed": _transposed,
    "old": _old,
    "rank": _rank,
    "base": _base,
}
