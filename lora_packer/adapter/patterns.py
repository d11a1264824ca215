r"""Regular expressions from an adapter's config, matched without ever hanging.

``target_modules``, ``exclude_modules`` and the keys of ``rank_pattern`` may be regular expressions, and they come
from a file that anybody may have written: ``([a-z_.0-9]+)+!`` keeps Python's ``re`` busy for years. So they are
matched by Brzozowski derivatives (https://doi.org/10.1145/321239.321249), memoised into an automaton as they are used.
Lookahead is intersection (and complement), which derivatives have for free. Only whether a text matches is answered,
which is all that PEFT asks. Constructs outside (backreferences, lookbehind, atomic groups) and patterns that would
cost too much raise PatternError, and the rule that needed them is reported as not evaluated.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

from lora_packer.adapter.pattern_automaton import Automaton, Node, PatternError
from lora_packer.adapter.pattern_parser import parse_pattern

__all__ = ["MAX_PATTERNS", "MAX_PATTERN_LENGTH", "PatternError", "full_matcher", "within_budget"]

MAX_PATTERN_LENGTH = 20_000
# Of those that are more than names; each has an automaton of its own.
MAX_PATTERNS = 500
_PLAIN = re.compile(r"[\w.\-]*\Z", re.ASCII)


# Patterns that were parsed, with as much of their automaton as was needed: the next adapter mostly has the same ones.
_kept: dict[str, tuple[Automaton, Node]] = {}
_MAX_KEPT = 4096


def within_budget(patterns: Sequence[str]) -> Sequence[str]:
    """Return the patterns, which are more than names. Raises PatternError where they are too many to be evaluated."""
    if len(patterns) > MAX_PATTERNS:
        raise PatternError("unsupported", f"there are {len(patterns)} of them; at most {MAX_PATTERNS} are evaluated")
    if (length := sum(map(len, patterns))) > MAX_PATTERN_LENGTH:
        raise PatternError("unsupported", f"together they are {length} characters long")
    return patterns


def full_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that says what ``re.fullmatch(pattern, text) is not None`` would.

    Raises PatternError, and so does the function, for a text on which the pattern would cost too much; every call of
    this function begins to count anew.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise PatternError("unsupported", f"the pattern is {len(pattern)} characters long")
    if _PLAIN.match(pattern):
        return _plain(pattern)
    automaton, start = _automaton(pattern)
    automaton.begin()

    def matches(text: str) -> bool:
        try:
            return automaton.matches(start, text)
        except RecursionError:
            raise PatternError("unsupported", "the pattern is nested too deeply") from None

    return matches


@lru_cache(maxsize=_MAX_KEPT)
def _plain(pattern: str) -> Callable[[str], bool]:
    """The matcher of a pattern without a quantifier and an alternative: re needs no backtracking for it."""
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _automaton(pattern: str) -> tuple[Automaton, Node]:
    """Return the automaton of a pattern, kept from before or new, and the node of the whole. Raises PatternError."""
    kept = _kept.get(pattern)
    if kept is not None and not kept[0].is_large:
        return kept
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a future re may read differently
            re.compile(pattern)
            automaton = Automaton()
            start = parse_pattern(pattern, automaton)
    except PatternError:
        raise
    except (re.error, OverflowError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise PatternError("invalid", f"it is not a regular expression: {error}") from None
    except RecursionError:
        raise PatternError("unsupported", "the pattern is nested too deeply") from None
    if len(_kept) >= _MAX_KEPT:
        _kept.clear()
    _kept[pattern] = automaton, start
    return automaton, start
