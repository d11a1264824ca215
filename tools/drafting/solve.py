"""A size as an expression over the fields of a config, found from what it was in many configs.

The search goes from the simple to the compound and takes the first that is right in every config: a field, a constant,
a product, quotient, sum or difference of two, a square, then three and four fields. Nothing is fitted: an expression
that misses one config is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Row = tuple[int, ...]
# Compound expressions of three fields and more are chance where few different configs were seen.
_FEWEST = 6
_FACTORS = range(2, 17)
_OFFSETS = (1, -1, 2, -2)
_ATOM, _PRODUCT, _SUM = range(3)


class Term(NamedTuple):
    """An expression as source text, and its value in each config.

    Attributes:
        text: Python source.
        values: one for each config.
        binding: how tightly its outermost operation binds: atom, product, sum.
    """

    text: str
    values: Row
    binding: int = _ATOM

    def inside(self, binding: int) -> str:
        """The text as an operand of such an operation."""
        return self.text if self.binding <= binding else f"({self.text})"


def solve(values: Sequence[int], terms: Sequence[Term]) -> str | None:
    """Return the simplest expression that has these values, one a config, or None.

    ``terms`` are the fields, the likeliest first.
    """
    wanted = tuple(values)
    usable = [term for term in terms if None not in term.values]
    distinct = len({(value, *(term.values[at] for term in usable)) for at, value in enumerate(wanted)})
    searches = [_of_one, _of_two, _square]
    if distinct >= _FEWEST:
        searches += [_of_three, _of_four]
    for search in searches:
        found = search(wanted, usable)
        if found is not None:
            return found.text
    return None


def _of_one(wanted: Row, terms: Sequence[Term]) -> Term | None:
    varying = next((term for term in terms if term.values == wanted and len(set(wanted)) > 1), None)
    if varying is not None:
        return varying
    if len(set(wanted)) == 1:
        # A field that has the same value everywhere is likelier than a number that small ones are by chance.
        same = next((term for term in terms if term.values == wanted and wanted[0] > 2), None)
        return same or Term(str(wanted[0]), wanted)
    return None


def _of_two(wanted: Row, terms: Sequence[Term]) -> Term | None:
    return next((term for term in pairs(_varying(terms)) if term.values == wanted), None)


def _varying(terms: Sequence[Term]) -> list[Term]:
    """The terms that can explain something, without a second of the same values."""
    seen: dict[Row, Term] = {}
    for term in terms:
        if len(set(term.values)) > 1:
            seen.setdefault(term.values, term)
    return list(seen.values())


def pairs(terms: Sequence[Term]) -> Iterator[Term]:
    """Yield every expression of one operation: with small numbers first, then of two terms."""
    for term in terms:
        for factor in _FACTORS:
            yield Term(f"{factor} * {term.inside(_PRODUCT)}", _row(lambda a, f=factor: f * a, term), _PRODUCT)  # type: ignore[misc]
        yield Term(f"{term.inside(_ATOM)} ** 2", _row(lambda a: a * a, term), _PRODUCT)
        for offset in _OFFSETS:
            sign = "+" if offset > 0 else "-"
            yield Term(f"{term.text} {sign} {abs(offset)}", _row(lambda a, o=offset: a + o, term), _SUM)  # type: ignore[misc]
    for number, one in enumerate(terms):
        for other in terms[number + 1 :]:
            yield _product(one, other)
            yield Term(f"{one.text} + {other.text}", _row2(lambda a, b: a + b, one, other), _SUM)
    for one in terms:
        for other in terms:
            if one is not other and 0 not in other.values:
                yield _quotient(one, other)
                yield Term(f"{one.text} - {other.inside(_PRODUCT)}", _row2(lambda a, b: a - b, one, other), _SUM)


def _row(function: Callable[[int], int], term: Term) -> Row:
    return tuple(map(function, term.values))


def _row2(function: Callable[[int, int], int], one: Term, other: Term) -> Row:
    return tuple(map(function, one.values, other.values))


def _product(one: Term, other: Term) -> Term:
    text = f"{one.inside(_PRODUCT)} * {other.inside(_PRODUCT if '//' not in other.text else _ATOM)}"
    return Term(text, _row2(lambda a, b: a * b, one, other), _PRODUCT)


def _quotient(one: Term, other: Term) -> Term:
    return Term(f"{one.inside(_PRODUCT)} // {other.inside(_ATOM)}", _row2(lambda a, b: a // b, one, other), _PRODUCT)


def _square(wanted: Row, terms: Sequence[Term]) -> Term | None:
    """A square of an expression of two terms, such as the patches of an image, with one more or without."""
    for more in (0, *_OFFSETS):
        roots = tuple(math.isqrt(value - more) if value >= more else -1 for value in wanted)
        if any(root < 0 or root * root + more != value for root, value in zip(roots, wanted, strict=True)):
            continue
        root = _of_two(roots, terms) if len(set(roots)) > 1 else None
        if root is not None:
            text = f"{root.inside(_ATOM)} ** 2"
            return Term(f"{text} {'+' if more > 0 else '-'} {abs(more)}" if more else text, wanted, _SUM)
    return None


def _of_three(wanted: Row, terms: Sequence[Term]) -> Term | None:
    varying = _varying(terms)
    compound: dict[Row, Term] = {}
    for pair in pairs(varying):
        compound.setdefault(pair.values, pair)
    return _with_compound(wanted, varying, compound)


def _with_compound(wanted: Row, terms: Sequence[Term], compound: dict[Row, Term]) -> Term | None:
    """One term, and one of the compound ones: the shortest, so that a square is written as one."""
    found = list(_all_with_compound(wanted, terms, compound))
    if found:
        return min(found, key=lambda term: len(term.text))
    for pair in compound.values():
        for term in terms:
            first = term.values[0]
            if first and pair.values[0] // first == wanted[0] and 0 not in term.values:
                quotient = _quotient(pair, term)
                if quotient.values == wanted:
                    return quotient
    return None


def _all_with_compound(wanted: Row, terms: Sequence[Term], compound: dict[Row, Term]) -> Iterator[Term]:
    for term in terms:
        if 0 not in term.values and all(value % part == 0 for value, part in zip(wanted, term.values, strict=True)):
            rest = compound.get(tuple(value // part for value, part in zip(wanted, term.values, strict=True)))
            if rest is not None:
                yield _product(rest, term) if "**" not in rest.text else _product(term, rest)
        rest = compound.get(tuple(value - part for value, part in zip(wanted, term.values, strict=True)))
        if rest is not None:
            yield Term(f"{rest.text} + {term.text}", wanted, _SUM)
        rest = compound.get(tuple(value + part for value, part in zip(wanted, term.values, strict=True)))
        if rest is not None:
            yield Term(f"{rest.text} - {term.text}", wanted, _SUM)


def _of_four(wanted: Row, terms: Sequence[Term]) -> Term | None:
    """The sum or the product of two that are compound themselves, or a square and its factor."""
    compound: dict[Row, Term] = {}
    for pair in pairs(_varying(terms)):
        compound.setdefault(pair.values, pair)
    for pair in compound.values():
        rest = compound.get(tuple(value - part for value, part in zip(wanted, pair.values, strict=True)))
        if rest is not None:
            return Term(f"{pair.text} + {rest.text}", wanted, _SUM)
        if 0 not in pair.values and all(value % part == 0 for value, part in zip(wanted, pair.values, strict=True)):
            rest = compound.get(tuple(value // part for value, part in zip(wanted, pair.values, strict=True)))
            if rest is not None:
                return _product(pair, rest)
    return None
