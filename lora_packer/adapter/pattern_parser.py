"""Regular expressions in Python's notation, read into an automaton.

What a single character may be (a set, a class, an escape, the dot) is not read but asked of ``re`` itself, so that it
is what ``re`` makes of it, whatever the flags.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lora_packer.adapter.pattern_automaton import Automaton, Node, PatternError

_MAX_REPEAT = 500

_FLAGS = re.compile(r"\(\?([a-z]+)\)")
_FLAG_VALUES = {"i": re.IGNORECASE, "s": re.DOTALL, "u": re.UNICODE}
_NAMED_GROUP = re.compile(r"\?P<\w+>")
_BRACES = re.compile(r"\{(\d*)(,?)(\d*)\}")
_SIMPLE_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
# A set: a bracket right behind the opening one is a member of it.
_SET = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[dwsDWSntrfva]|0[0-7]{0,2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^0-9a-zA-Z])", re.DOTALL)

# What follows in the pattern is a function from "the rest" to a node, because a lookahead inside a group also looks
# at what stands behind the group.
_Build = Callable[[Node], Node]


def parse_pattern(pattern: str, automaton: Automaton) -> Node:
    """Return the language of a pattern that ``re`` has accepted. Raises PatternError for what is not read."""
    return _Parser(pattern, automaton).parse()


class _Parser:
    """Recursive descent over a pattern that Python's re has already accepted."""

    def __init__(self, pattern: str, automaton: Automaton) -> None:
        self._text = pattern
        self._at = 0
        self._automaton = automaton
        self._flags = re.NOFLAG
        self._looks = 0

    def parse(self) -> Node:
        flags = _FLAGS.match(self._text)
        if flags:
            if set(flags[1]) - set(_FLAG_VALUES):
                raise self._unsupported(f"the flag in {flags[0]}")
            for letter in flags[1]:
                self._flags |= _FLAG_VALUES[letter]
            self._at = flags.end()
        build = self._alternatives()
        if self._at < len(self._text):
            raise self._unsupported(f"{self._text[self._at]!r}")
        return build(self._automaton.empty)

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
        return lambda rest: self._automaton.alt(*(option(rest) for option in options))

    def _sequence(self) -> _Build:
        items: list[_Build] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            looks = self._looks
            items.append(self._repeated(self._item(), looks))

        def build(rest: Node) -> Node:
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
        automaton = self._automaton
        node = item(automaton.empty)
        if max(least, most or 0) > _MAX_REPEAT:
            raise self._unsupported("a large repetition")
        if most is None:
            repeated = automaton.star(node)
        else:
            repeated = automaton.empty
            for _ in range(most - least):
                repeated = automaton.alt(automaton.empty, automaton.cat(node, repeated))
        for _ in range(least):
            repeated = automaton.cat(node, repeated)
        return self._literal(repeated)

    def _literal(self, node: Node) -> _Build:
        return lambda rest: self._automaton.cat(node, rest)

    def _quantifier(self) -> tuple[int, int | None] | None:
        """Take the quantifier that stands here: (least, most), most None for any number; None where none stands."""
        character = self._text[self._at : self._at + 1]
        bounds = _SIMPLE_QUANTIFIERS.get(character)
        if bounds is not None:
            self._at += 1
        else:
            match = _BRACES.match(self._text, self._at)
            if match is None or match[0] == "{}":  # re takes these two braces for themselves
                return None
            self._at = match.end()
            least = int(match[1] or 0)
            bounds = (least, least if not match[2] else int(match[3]) if match[3] else None)
        if self._take("+"):
            raise self._unsupported("a possessive quantifier")
        self._take("?")  # lazy or greedy: the same language
        return bounds

    def _item(self) -> _Build:
        automaton = self._automaton
        if self._take("("):
            return self._group()
        if self._take("^") or self._take("\\A"):
            return self._literal(automaton.assertion("start"))
        if self._take("$"):
            return self._literal(automaton.assertion("end"))
        if self._take("\\Z"):
            return self._literal(automaton.assertion("very end"))
        if self._take("\\b"):
            return self._literal(automaton.assertion("boundary"))
        if self._take("\\B"):
            return self._literal(automaton.assertion("inside"))
        return self._literal(self._character())

    def _group(self) -> _Build:
        look = next((kind for kind in ("?=", "?!") if self._take(kind)), None)
        if look is None and not self._take("?:") and self._peek("?"):
            named = _NAMED_GROUP.match(self._text, self._at)
            if named is None:
                raise self._unsupported("this kind of group")
            self._at = named.end()
        inner = self._alternatives()
        self._take(")")
        if look is None:
            return inner
        self._looks += 1
        automaton, negative = self._automaton, look == "?!"
        body = inner(automaton.empty)
        return lambda rest: automaton.looking_at(body, rest, negative=negative)

    def _character(self) -> Node:
        """Take what stands for one character: a set, an escape, the dot, or the character itself."""
        character = self._text[self._at]
        if character == "[":
            found = _SET.match(self._text, self._at)
        elif character == "\\":
            found = _ESCAPE.match(self._text, self._at)
        else:
            self._at += 1
            return self._one(character if character == "." else re.escape(character))
        if found is None:
            raise self._unsupported(self._text[self._at : self._at + 2])
        self._at = found.end()
        return self._one(found[0])

    def _one(self, expression: str) -> Node:
        compiled = re.compile(expression, self._flags)
        return self._automaton.characters(expression, lambda character: compiled.fullmatch(character) is not None)
