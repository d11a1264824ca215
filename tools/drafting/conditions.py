"""When something is there: a condition over a config's fields and the number of a layer, found from many configs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

# How many of the conditions that come nearest are tried in threes.
_MOST_OF_THREE = 40


class Condition(NamedTuple):
    """A condition as source text, and whether it holds in each case.

    Attributes:
        text: Python source.
        negated: the source of its opposite.
        holds: one for each case.
    """

    text: str
    negated: str
    holds: tuple[bool, ...]


def condition(text: str, holds: Sequence[bool], negated: str | None = None) -> Condition:
    """Return a condition whose opposite is the same with ``not`` before it, unless it is given."""
    return Condition(text, negated or f"not {text}", tuple(holds))


def decide(wanted: Sequence[bool], conditions: Sequence[Condition]) -> str | None:
    """Return the simplest condition that holds where it is ``wanted`` and nowhere else, or None.

    One condition, two with "and" or "or", then three with "and"; the likeliest come first.
    """
    if all(wanted):
        return "True"
    if not any(wanted):
        return "False"
    every = (1 << len(wanted)) - 1
    held = [(_bits(item.holds), item) for item in conditions]
    literals = [pair for bits, item in held for pair in ((bits, item.text), (~bits & every, item.negated))]
    useful = list(_without_twins(literals, every))
    target = _bits(wanted)
    return _found(target, useful)


def _bits(holds: Sequence[bool]) -> int:
    return sum(1 << at for at, held in enumerate(holds) if held)


def _without_twins(literals: Sequence[tuple[int, str]], every: int) -> Iterator[tuple[int, str]]:
    """The literals that tell cases apart, each kind once."""
    seen: set[int] = set()
    for bits, text in literals:
        if bits not in seen and bits not in (0, every):
            seen.add(bits)
            yield bits, text


def _found(target: int, literals: Sequence[tuple[int, str]]) -> str | None:
    for bits, text in literals:
        if bits == target:
            return text
    # What holds wherever it is wanted can be narrowed down; what holds nowhere else can be widened.
    wider = [literal for literal in literals if literal[0] & target == target]
    narrower = [literal for literal in literals if literal[0] | target == target]
    for (one, text), (other, second) in combinations(wider, 2):
        if one & other == target:
            return f"{text} and {second}"
    for (one, text), (other, second) in combinations(narrower, 2):
        if one | other == target:
            return f"{text} or {second}"
    nearest = sorted(wider, key=lambda literal: literal[0].bit_count())[:_MOST_OF_THREE]
    for three in combinations(nearest, 3):
        if three[0][0] & three[1][0] & three[2][0] == target:
            return " and ".join(text for _, text in three)
    return None
