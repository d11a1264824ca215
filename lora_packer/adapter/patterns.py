r"""Regular expressions from an adapter's config, matched without ever hanging.

``target_modules``, ``exclude_modules`` and the keys of ``rank_pattern`` may be regular expressions, and they come
from a file that anybody may have written: ``([a-z_.0-9]+)+!`` keeps Python's ``re`` busy for years. So they are
matched by Brzozowski derivatives (https://doi.org/10.1145/321239.321249), memoised into a DFA as they are used: time
linear in the text. Lookahead is intersection (and complement), which derivatives have for free. Only whether a text
matches is answered, which is all that PEFT asks. Constructs outside (backreferences, lookbehind, atomic groups) and
patterns that would need too many states raise PatternError, and the rule that needed them is reported as not evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

MAX_PATTERN_LENGTH = 20_000
_MAX_NODES = 100_000
_MAX_REPEAT = 500
_PLAIN = re.compile(r"[\w.\-]*\Z", re.ASCII)


class PatternError(ValueError):
    """The pattern is not evaluated.

    Attributes:
        kind: ``invalid`` where Python's re refuses it too, ``unsupported`` where only this matcher does.
    """

    def __init__(self, kind: Literal["invalid", "unsupported"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


@lru_cache(maxsize=4096)
def full_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that says what ``re.fullmatch(pattern, text) is not None`` would. Raises PatternError."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise PatternError("unsupported", f"the pattern is {len(pattern)} characters long")
    if _PLAIN.match(pattern):
        # No quantifier and no alternative: re needs no backtracking.
        compiled = re.compile(pattern)
        return lambda text: compiled.fullmatch(text) is not None
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError("invalid", f"it is not a regular expression: {error}") from None
    return _Machine(pattern).matches


# --- the algebra -----------------------------------------------------------------------------------------------------
# Nodes are tuples, interned by the machine: equal nodes are the same object, so that a node is a DFA state's name.

_Test = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Node:
    """A regular language: kind, parts, and for ``set`` and ``look`` nodes what they test."""

    kind: Literal["none", "empty", "set", "cat", "alt", "and", "not", "star", "assert"]
    parts: tuple[_Node, ...] = ()
    test: _Test | None = None
    name: str = ""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _Machine:
    """One pattern's nodes and its lazily built transitions."""

    def __init__(self, pattern: str) -> None:
        self._interned: dict[tuple[object, ...], _Node] = {}
        self._steps: dict[tuple[_Node, str, str], _Node] = {}
        self._none = self._make("none")
        self._empty = self._make("empty")
        self._any = self._star(self._make("set", test=lambda _: True, name="any"))
        self._start = _Parser(pattern, self).parse()

    def matches(self, text: str) -> bool:
        """Whether the whole of ``text`` matches."""
        state, before = self._start, ""
        for character in text:
            key = (state, before, character)
            after = self._steps.get(key)
            if after is None:
                after = self._steps[key] = self._derive(state, before, character, {})
            if after is self._none:
                return False
            state, before = after, _side(character)
        return self._nullable(state, before, "")

    def _make(self, kind: str, parts: tuple[_Node, ...] = (), test: _Test | None = None, name: str = "") -> _Node:
        key = (kind, parts, name)
        node = self._interned.get(key)
        if node is None:
            if len(self._interned) > _MAX_NODES:
                raise PatternError("unsupported", "the pattern needs too many states")
            node = self._interned[key] = _Node(kind, parts, test, name)  # type: ignore[arg-type]
        return node

    def none(self) -> _Node:
        return self._none

    def empty(self) -> _Node:
        return self._empty

    def characters(self, name: str, test: _Test) -> _Node:
        return self._make("set", test=test, name=name)

    def assertion(self, name: str) -> _Node:
        return self._make("assert", name=name)

    def cat(self, first: _Node, rest: _Node) -> _Node:
        if first is self._none or rest is self._none:
            return self._none
        if first is self._empty:
            return rest
        if rest is self._empty:
            return first
        if first.kind == "cat":  # keep sequences right-nested, so that equal ones are the same node
            return self.cat(first.parts[0], self.cat(first.parts[1], rest))
        return self._make("cat", (first, rest))

    def alt(self, *nodes: _Node) -> _Node:
        flat = self._flatten("alt", nodes, drop=self._none)
        if self._any in flat:
            return self._any
        return flat[0] if len(flat) == 1 else self._make("alt", flat) if flat else self._none

    def both(self, *nodes: _Node) -> _Node:
        flat = self._flatten("and", nodes, drop=self._any)
        if self._none in flat:
            return self._none
        return flat[0] if len(flat) == 1 else self._make("and", flat) if flat else self._any

    def negate(self, node: _Node) -> _Node:
        if node.kind == "not":
            return node.parts[0]
        return self._any if node is self._none else self._none if node is self._any else self._make("not", (node,))

    def star(self, node: _Node) -> _Node:
        return self._star(node)

    def looking_at(self, node: _Node, rest: _Node, *, negative: bool) -> _Node:
        """``(?=node)rest`` or ``(?!node)rest``: the rest, among the texts that (do not) begin with ``node``."""
        begins = self.cat(node, self._any)
        return self.both(rest, self.negate(begins) if negative else begins)

    def _star(self, node: _Node) -> _Node:
        if node.kind in ("none", "empty"):
            return self._empty
        return node if node.kind == "star" else self._make("star", (node,))

    def _flatten(self, kind: str, nodes: tuple[_Node, ...], drop: _Node) -> tuple[_Node, ...]:
        flat = {part for node in nodes for part in (node.parts if node.kind == kind else (node,)) if part is not drop}
        return tuple(sorted(flat, key=id))

    def _nullable(self, node: _Node, before: str, after: str) -> bool:
        """Whether the empty text between these two sides belongs to the language."""
        match node.kind:
            case "empty" | "star":
                return True
            case "cat" | "and":
                return all(self._nullable(part, before, after) for part in node.parts)
            case "alt":
                return any(self._nullable(part, before, after) for part in node.parts)
            case "not":
                return not self._nullable(node.parts[0], before, after)
            case "assert":
                return _holds(node.name, before, after)
            case _:
                return False

    def _derive(self, node: _Node, before: str, character: str, memo: dict[_Node, _Node]) -> _Node:
        """Return the language of what may follow ``character``."""
        done = memo.get(node)
        if done is not None:
            return done
        match node.kind:
            case "set":
                result = self._empty if node.test is not None and node.test(character) else self._none
            case "cat":
                first, rest = node.parts
                result = self.cat(self._derive(first, before, character, memo), rest)
                if self._nullable(first, before, _side(character)):
                    result = self.alt(result, self._derive(rest, before, character, memo))
            case "alt":
                result = self.alt(*(self._derive(part, before, character, memo) for part in node.parts))
            case "and":
                result = self.both(*(self._derive(part, before, character, memo) for part in node.parts))
            case "not":
                result = self.negate(self._derive(node.parts[0], before, character, memo))
            case "star":
                result = self.cat(self._derive(node.parts[0], before, character, memo), node)
            case _:
                result = self._none
        memo[node] = result
        return result


def _side(character: str) -> str:
    """What an assertion can see of a neighbouring character: a word character or another."""
    return "w" if character.isalnum() or character == "_" else "o"


def _holds(assertion: str, before: str, after: str) -> bool:
    match assertion:
        case "start":
            return before == ""
        case "end":
            return after == ""
        case "boundary":
            return (before == "w") != (after == "w")
        case _:
            return (before == "w") == (after == "w")


# --- the parser ------------------------------------------------------------------------------------------------------

_CLASSES: dict[str, _Test] = {
    "d": str.isdecimal,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
    "D": lambda c: not c.isdecimal(),
    "W": lambda c: not (c.isalnum() or c == "_"),
    "S": lambda c: not c.isspace(),
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}

# What follows in the pattern is a function from "the rest" to a node, because a lookahead inside a group also looks
# at what stands behind the group.
_Build = Callable[[_Node], _Node]


class _Parser:
    """Recursive descent over a pattern that Python's re has already accepted."""

    def __init__(self, pattern: str, machine: _Machine) -> None:
        self._text = pattern
        self._at = 0
        self._machine = machine
        self._ignore_case = False
        self._looks = 0

    def parse(self) -> _Node:
        flags = re.match(r"\(\?([a-z]+)\)", self._text)
        if flags:
            if set(flags[1]) - set("isu"):
                raise self._unsupported(f"the flag in {flags[0]}")
            self._ignore_case = "i" in flags[1]
            self._at = flags.end()
        build = self._alternatives()
        if self._at < len(self._text):
            raise self._unsupported(f"{self._text[self._at]!r}")
        return build(self._machine.empty())

    def _unsupported(self, what: str) -> PatternError:
        return PatternError("unsupported", f"{what} at position {self._at} is not evaluated")

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if self._peek(text):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> _Build:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        if len(options) == 1:
            return options[0]
        return lambda rest: self._machine.alt(*(option(rest) for option in options))

    def _sequence(self) -> _Build:
        items: list[_Build] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            looks = self._looks
            items.append(self._repeated(self._item(), looks))

        def build(rest: _Node) -> _Node:
            for item in reversed(items):
                rest = item(rest)
            return rest

        return build

    def _repeated(self, item: _Build, looks: int) -> _Build:
        bounds = self._quantifier()
        if bounds is None:
            return item
        if self._looks != looks:
            raise self._unsupported("a repeated lookahead")
        least, most = bounds
        machine = self._machine
        node = item(machine.empty())
        if max(least, most or 0) > _MAX_REPEAT:
            raise self._unsupported("a large repetition")
        if most is None:
            repeated = machine.star(node)
        else:
            repeated = machine.empty()
            for _ in range(most - least):
                repeated = machine.alt(machine.empty(), machine.cat(node, repeated))
        for _ in range(least):
            repeated = machine.cat(node, repeated)
        return self._literal(repeated)

    def _literal(self, node: _Node) -> _Build:
        return lambda rest: self._machine.cat(node, rest)

    def _quantifier(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        character = self._text[self._at : self._at + 1]
        if character in simple and character:
            self._at += 1
            bounds = simple[character]
        else:
            match = re.compile(r"\{(\d*)(,?)(\d*)\}").match(self._text, self._at)
            if match is None or not (match[1] or match[3]):
                return None
            self._at = match.end()
            least = int(match[1] or 0)
            bounds = (least, least if not match[2] else int(match[3]) if match[3] else None)
        if self._take("+"):
            raise self._unsupported("a possessive quantifier")
        self._take("?")  # lazy or greedy: the same language
        return bounds

    def _item(self) -> _Build:
        machine = self._machine
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._literal(self._set())
        if self._take("."):
            return self._literal(machine.characters("dot", lambda c: c != "\n"))
        if self._take("^") or self._take("\\A"):
            return self._literal(machine.assertion("start"))
        if self._take("$") or self._take("\\Z"):
            return self._literal(machine.assertion("end"))
        if self._take("\\b"):
            return self._literal(machine.assertion("boundary"))
        if self._take("\\B"):
            return self._literal(machine.assertion("inside"))
        name, test = self._character()
        return self._literal(machine.characters(name, test))

    def _group(self) -> _Build:
        look = next((kind for kind in ("?=", "?!") if self._take(kind)), None)
        if look is None and not self._take("?:") and self._peek("?"):
            named = re.compile(r"\?P<\w+>").match(self._text, self._at)
            if named is None:
                raise self._unsupported("this kind of group")
            self._at = named.end()
        inner = self._alternatives()
        self._take(")")
        if look is None:
            return inner
        self._looks += 1
        machine, negative = self._machine, look == "?!"
        body = inner(machine.empty())
        return lambda rest: machine.looking_at(body, rest, negative=negative)

    def _character(self) -> tuple[str, _Test]:
        """Take one literal character or class escape; return its name and its test."""
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return self._one(character)
        escaped = self._text[self._at : self._at + 1]
        self._at += 1
        if escaped in _CLASSES:
            return f"\\{escaped}", _CLASSES[escaped]
        if escaped in _ESCAPES:
            return self._one(_ESCAPES[escaped])
        if escaped.isalnum():
            raise self._unsupported(f"\\{escaped}")
        return self._one(escaped)

    def _one(self, character: str) -> tuple[str, _Test]:
        if self._ignore_case:
            folded = character.lower()
            return f"i{folded}", lambda c: c.lower() == folded
        return f"={character}", lambda c: c == character

    def _set(self) -> _Node:
        start = self._at
        negative = self._take("^")
        tests: list[_Test] = []
        first = True
        while first or not self._peek("]"):
            first = False
            begin_at = self._at
            _, test = self._character()
            begin = self._text[begin_at : self._at]
            if self._peek("-") and not self._peek("-]"):
                self._at += 1
                end_at = self._at
                self._character()
                tests.append(self._range(begin[-1], self._text[end_at : self._at][-1]))
            else:
                tests.append(test)
        self._at += 1
        name = f"[{self._text[start : self._at]}"
        return self._machine.characters(name, lambda c: any(test(c) for test in tests) != negative)

    def _range(self, low: str, high: str) -> _Test:
        if self._ignore_case:
            return lambda c: low <= c.lower() <= high or low <= c.upper() <= high
        return lambda c: low <= c <= high
