"""Tensors of a wrong shape, grouped by what made them so (LP301, LP303, LP304; two of a shape alone are beside)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case, Match
from lora_packer.inspector.dimensions import dimension
from lora_packer.inspector.narrowing import own_ranks
from lora_packer.inspector.rules.rule import OF_ANOTHER_BASE, Rule
from lora_packer.inspector.rules.shapes_alone import EMPTY_TENSOR, RANK_MISMATCH
from lora_packer.inspector.words import counted
from lora_packer.peft.expected import RANK_AXIS, Shape, Want
from lora_packer.peft.targets import PatternLookup

WRONG_BASE = Rule(
    "LP301",
    "wrong-shape",
    "error",
    "Tensors have shapes that this base model does not call for.",
    "PEFT raises a size mismatch; other engines pad or cut and answer with wrong output. It means another base model.",
    "Give the config of the base model that the adapter was trained on.",
    needs="base",
    explains=OF_ANOTHER_BASE,
    retold="; {message}",
)
TRANSPOSED = Rule(
    "LP303",
    "transposed",
    "error",
    "Tensors are stored transposed.",
    "PEFT raises a size mismatch. Other frameworks save lora_A as (in, r) and lora_B as (r, out).",
    "Transpose them back: lora_A is (r, in), lora_B is (out, r).",
    needs="base",
    fixable=True,
)
SWAPPED = Rule(
    "LP304",
    "swapped-pair",
    "error",
    "lora_A and lora_B stand under each other's name.",
    "PEFT raises a size mismatch.",
    "Exchange the two names.",
    needs="base",
    fixable=True,
)

_SQUARE_IN_RANK = "lora_monteclora_sampler.gaussian_var_prior"
_LOOKED_AT = 64
_PATTERNS_TOLD = 8

_Wrong = Mapping[str, Match]


class _Told(NamedTuple):
    """What is said of one cause: the rule, a sentence, the field of the config and a hint where it has its own."""

    rule: Rule
    message: str
    field: str | None = None
    hint: str | None = None


def wrong_shapes(case: Case) -> Iterator[Finding]:
    """Yield one finding for each cause."""
    wrong = {name: match for name, match in case.difference.matched.items() if match.info.shape != match.want.shape}
    for cause, names in _causes(wrong, case).items():
        first = wrong[names[0]]
        told = _TELL[cause](names, wrong, case)
        sure = cause not in ("transposed", "swapped") or _is_sure(names, wrong)
        details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensors": [wrong[name].name for name in names]}
        details |= {"expected": list(first.want.shape), "actual": list(first.info.shape)}
        fixable = None if sure else False
        if told.rule is RANK_MISMATCH:
            fixable = own_ranks(case) is not None
        yield told.rule.finding(told.message, field=told.field, hint=told.hint, fixable=fixable, **details)


def _is_sure(names: Sequence[str], wrong: _Wrong) -> bool:
    """Whether sizes tell a transposed tensor from one under the other half's name: all of them only one of the two."""
    kinds = {_cause(name, wrong[name], wrong) for name in names}
    return len(kinds - {"either"}) == 1 and all(len(wrong[name].info.shape) == 2 for name in names)


def _causes(wrong: _Wrong, case: Case) -> dict[str, list[str]]:
    """Sort the expected names of what has a wrong shape by the cause."""
    causes: dict[str, list[str]] = {}
    for name, match in wrong.items():
        causes.setdefault(_cause(name, match, wrong), []).append(name)
    if "rank" in causes and _other_experts(causes["rank"], wrong, case):
        causes = _as_one(causes, ("rank", "base"), "base", wrong)
    # A square layer's pair looks the same transposed and swapped, and sizes coincide: a file has one or the other.
    either = ("transposed", "swapped", "either")
    cause = "swapped" if len(causes.get("swapped", ())) > len(causes.get("transposed", ())) else "transposed"
    return _as_one(causes, either, cause, wrong) if causes.keys() & set(either) else causes


def _as_one(causes: dict[str, list[str]], several: Sequence[str], one: str, wrong: _Wrong) -> dict[str, list[str]]:
    """The same with several causes taken for one, its names in the file's order."""
    together = {name for cause in several for name in causes.get(cause, ())}
    return {
        **{cause: names for cause, names in causes.items() if cause not in several},
        one: [name for name in wrong if name in together],
    }


def _cause(name: str, match: Match, wrong: _Wrong) -> str:
    found, want = match.info.shape, match.want
    if 0 in found:
        return "empty"
    partner_part = PAIRED.get(want.part)
    partner = wrong.get(name.removesuffix(want.part) + partner_part) if partner_part else None
    if _has_third_axis(match) or (partner and _has_third_axis(partner)):
        return "old"
    swapped = partner is not None and found == partner.want.shape and partner.info.shape == want.shape
    transposed = len(found) == 2 and found == want.shape[::-1]
    if swapped or transposed:
        return "either" if swapped and transposed else "swapped" if swapped else "transposed"
    axis = RANK_AXIS.get(want.part)
    if axis is not None and len(found) == len(want.shape) and _without(found, axis) == _without(want.shape, axis):
        return "rank"
    if want.part == _SQUARE_IN_RANK and len(found) == 2 and found[0] == found[1]:
        return "rank"
    return "base"


def _other_experts(names: list[str], wrong: _Wrong, case: Case) -> bool:
    """Whether it is another number of experts that these ranks show: fused experts have theirs times that number.

    All of them are then off by the same factor, and the other modules have the rank that the config gives them.
    """
    matched = case.difference.matched
    fused = {path: count for path, (_, count) in case.expectation.experts.items() if count > 1}
    if not all(wrong[name].want.path in fused for name in names):
        return False
    every = {name for name, item in matched.items() if item.want.path in fused and item.want.part in PAIRED}
    if not every <= set(names) or len(every) == len(matched):
        return False
    factors = set()
    for name in names:
        axis = RANK_AXIS[wrong[name].want.part]
        factors.add(Fraction(wrong[name].info.shape[axis], wrong[name].want.shape[axis]))
    experts = fused[wrong[names[0]].want.path] * next(iter(factors))
    return len(factors) == 1 and experts.denominator == 1


def _has_third_axis(match: Match) -> bool:
    found, want = match.info.shape, match.want
    return want.part == "lora_B.weight" and len(want.shape) == 2 and len(found) == 3 and found[2] == 1


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _empty(names: list[str], _wrong: _Wrong, _case: Case) -> _Told:
    return _Told(EMPTY_TENSOR, f"{counted(len(names))} without elements: the weights were saved ungathered")


def _swapped(names: list[str], _wrong: _Wrong, _case: Case) -> _Told:
    return _Told(SWAPPED, f"lora_A and lora_B are swapped in {counted(len(names))}")


def _transposed(names: list[str], _wrong: _Wrong, _case: Case) -> _Told:
    return _Told(TRANSPOSED, f"{counted(len(names), 'is', 'are')} stored transposed")


def _old(names: list[str], wrong: _Wrong, _case: Case) -> _Told:
    third = wrong[next(name for name in names if len(wrong[name].info.shape) == 3)]
    axes = f"{len(third.info.shape)} axes where {len(third.want.shape)} are expected"
    message = f"{counted(len(names))} with a shape of {axes}: lora_B as PEFT before 0.3 wrote it (enable_lora)"
    hint = "No newer PEFT loads such a file: merge it with the old release, or train again."
    return _Told(WRONG_BASE, message, hint=hint)


def _rank(names: list[str], wrong: _Wrong, case: Case) -> _Told:
    matches = [wrong[name] for name in names]
    ranks = Counter(match.info.shape[_rank_axis(match.want)] for match in matches)
    wanted = Counter(match.want.shape[_rank_axis(match.want)] for match in matches)
    message = f"the config gives {counted(len(names))} rank {_listed(wanted)}, and the file has rank {_listed(ranks)}"
    field = "rank_pattern" if case.config.rank_pattern else "r"
    if _other_pattern_fits(matches, case):
        message += ", which another key of rank_pattern gives: PEFT sorts the keys when it saves, and the first wins"
        hint = "Write rank_pattern with one key for each module, so that their order does not matter."
        return _Told(RANK_MISMATCH, message, field, hint)
    return _Told(RANK_MISMATCH, message, field, _ranks_to_set(case))


def _ranks_to_set(case: Case) -> str | None:
    """The change after which the config has the ranks of the file, where one field says them all."""
    pairs = [item for item in case.difference.matched.values() if item.want.part in PAIRED]
    if any(item.want.path in case.expectation.experts or len(item.info.shape) < 2 for item in pairs):
        return None
    ranks = {item.want.path: item.info.shape[_rank_axis(item.want)] for item in pairs}
    if len(set(ranks.values())) == 1 and not case.config.rank_pattern:
        rank = next(iter(ranks.values()))
        scale = case.config.scale(rank, case.config.lora_alpha)
        return f"Set r to {rank}. Make sure of lora_alpha too: the update is scaled by {scale:.4g} then."
    by_leaf: dict[str, set[int]] = {}
    for path, rank in ranks.items():
        by_leaf.setdefault(path.rpartition(".")[2], set()).add(rank)
    pattern = {re.escape(path): rank for path, rank in ranks.items() if len(by_leaf[path.rpartition(".")[2]]) > 1}
    pattern |= {leaf: next(iter(own)) for leaf, own in by_leaf.items() if len(own) == 1 and own != {case.config.r}}
    if len(pattern) > _PATTERNS_TOLD:
        return None
    lookup = PatternLookup(pattern, case.config.r)
    if any(lookup(path) != rank for path, rank in ranks.items()):
        return None
    return f"Set rank_pattern to {json.dumps(pattern)}."


def _rank_axis(want: Want) -> int:
    return RANK_AXIS.get(want.part, 0)


def _other_pattern_fits(matches: Sequence[Match], case: Case) -> bool:
    """Whether each of these modules has the rank of a pattern that matches it and does not win."""
    if len(case.config.rank_pattern) < 2:
        return False
    lookup = PatternLookup(case.config.rank_pattern, case.config.r)
    return all(
        match.info.shape[_rank_axis(match.want)] in lookup.all_of(match.want.path) for match in matches[:_LOOKED_AT]
    )


def _listed(counts: Counter[int]) -> str:
    values = sorted(counts)
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")


def _base(names: list[str], wrong: _Wrong, case: Case) -> _Told:
    """Say which of the base's dimensions are off: (what, expected, found), the commonest first."""
    changes: Counter[tuple[str, int, int]] = Counter()
    for match in (wrong[name] for name in names):
        want = match.want
        if len(match.info.shape) == len(want.shape):
            for axis, (expected, found) in enumerate(zip(want.shape, match.info.shape, strict=True)):
                if expected != found and axis == RANK_AXIS.get(want.part):
                    changes[("experts x rank", expected, found)] += 1
                elif expected != found:
                    changes[(dimension(want, axis, case), expected, found)] += 1
    if not changes:
        first = wrong[names[0]]
        axes = f"{len(first.info.shape)} axes where {len(first.want.shape)} are expected"
        return _Told(WRONG_BASE, f"{counted(len(names))} with a shape of {axes}")
    parts = [f"{what} {found} instead of {expected}" for (what, expected, found), _ in changes.most_common(4)]
    does_not_fit = counted(len(names), "does not fit", "do not fit")
    return _Told(WRONG_BASE, f"{does_not_fit} {case.base_name}: " + ", ".join(parts))


_TELL: Mapping[str, Callable[[list[str], _Wrong, Case], _Told]] = {
    "empty": _empty,
    "swapped": _swapped,
    "transposed": _transposed,
    "old": _old,
    "rank": _rank,
    "base": _base,
}
