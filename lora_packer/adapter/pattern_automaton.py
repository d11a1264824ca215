"""A regular language as an automaton that is built as it is used: Brzozowski derivatives, memoised.

Nodes are tuples, interned by the automaton: equal nodes are the same object, so that a node is a state's name. What a
pattern may cost is bounded by ``MAX_NODES`` and ``MAX_WORK``, and PatternError says where it would cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MAX_NODES = 100_000
# Derivatives taken, and parts of alternatives sorted: about half a second's worth. The patterns that trainers write
# need some thousands, for all the names of a model together.
MAX_WORK = 300_000


class PatternError(ValueError):
    """The pattern is not evaluated.

    Attributes:
        kind: ``invalid`` where Python's re refuses it too, ``unsupported`` where only this matcher does.
    """

    def __init__(self, kind: Literal["invalid", "unsupported"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


Test = Callable[[str], bool]
# What an assertion sees of a neighbour: nothing, a word character, another one, or a line's end that is the text's.
Side = Literal["", "word", "other", "last newline"]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A regular language: kind, parts, and for ``set`` and ``assert`` nodes what they test."""

    kind: Literal["none", "empty", "set", "cat", "alt", "and", "not", "star", "assert"]
    parts: tuple[Node, ...] = ()
    test: Test | None = None
    name: str = ""


class Automaton:
    """The nodes of one pattern, and its transitions as far as they were needed."""

    def __init__(self) -> None:
        self._interned: dict[tuple[object, ...], Node] = {}
        self._steps: dict[tuple[Node, Side, str, Side], Node] = {}
        self._work = 0
        self.none = self._make("none")
        self.empty = self._make("empty")
        self._any = self.star(self._make("set", test=lambda _: True, name="any"))

    @property
    def is_large(self) -> bool:
        """Whether it has grown so far that a new one is the better start."""
        return len(self._interned) > MAX_NODES // 2

    def begin(self) -> None:
        """Count the work anew, so that what one adapter's names cost is not the next one's."""
        self._work = 0

    def matches(self, start: Node, text: str) -> bool:
        """Whether the whole of ``text`` belongs to the language. Raises PatternError where that costs too much."""
        state = start
        before: Side = ""
        last = len(text) - 1
        for at, character in enumerate(text):
            here: Side = "last newline" if at == last and character == "\n" else _side(character)
            key = (state, before, character, here)
            after = self._steps.get(key)
            if after is None:
                after = self._steps[key] = self._derive(state, before, character, here, {})
            if after is self.none:
                return False
            state, before = after, here
        return self._nullable(state, before, "")

    def _make(self, kind: str, parts: tuple[Node, ...] = (), test: Test | None = None, name: str = "") -> Node:
        key = (kind, parts, name)
        node = self._interned.get(key)
        if node is None:
            if len(self._interned) > MAX_NODES:
                raise PatternError("unsupported", "the pattern needs too many states")
            node = self._interned[key] = Node(kind, parts, test, name)  # type: ignore[arg-type]
        return node

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise PatternError("unsupported", "the pattern needs too many steps")

    def characters(self, name: str, test: Test) -> Node:
        """One character that passes the test; ``name`` stands for the test."""
        return self._make("set", test=test, name=name)

    def assertion(self, name: Literal["start", "end", "very end", "boundary", "inside"]) -> Node:
        """The empty text, where its neighbours are as the assertion wants them."""
        return self._make("assert", name=name)

    def cat(self, first: Node, rest: Node) -> Node:
        """A text of the one language, then one of the other."""
        if first is self.none or rest is self.none:
            return self.none
        if first is self.empty:
            return rest
        if rest is self.empty:
            return first
        if first.kind == "cat":  # keep sequences right-nested, so that equal ones are the same node
            return self.cat(first.parts[0], self.cat(first.parts[1], rest))
        return self._make("cat", (first, rest))

    def alt(self, *nodes: Node) -> Node:
        """A text of any of the languages."""
        flat = self._flatten("alt", nodes, drop=self.none)
        if self._any in flat:
            return self._any
        return flat[0] if len(flat) == 1 else self._make("alt", flat) if flat else self.none

    def both(self, *nodes: Node) -> Node:
        """A text that belongs to all of the languages."""
        flat = self._flatten("and", nodes, drop=self._any)
        if self.none in flat:
            return self.none
        return flat[0] if len(flat) == 1 else self._make("and", flat) if flat else self._any

    def negate(self, node: Node) -> Node:
        """A text that does not belong to the language."""
        if node.kind == "not":
            return node.parts[0]
        return self._any if node is self.none else self.none if node is self._any else self._make("not", (node,))

    def star(self, node: Node) -> Node:
        """Any number of texts of the language, one after another."""
        if node.kind in ("none", "empty"):
            return self.empty
        return node if node.kind == "star" else self._make("star", (node,))

    def looking_at(self, node: Node, rest: Node, *, negative: bool) -> Node:
        """``(?=node)rest`` or ``(?!node)rest``: the rest, among the texts that (do not) begin with ``node``."""
        begins = self.cat(node, self._any)
        return self.both(rest, self.negate(begins) if negative else begins)

    def _flatten(self, kind: str, nodes: tuple[Node, ...], drop: Node) -> tuple[Node, ...]:
        parts = [part for node in nodes for part in (node.parts if node.kind == kind else (node,)) if part is not drop]
        self._spend(len(parts))
        return tuple(sorted(set(parts), key=id))

    def _nullable(self, node: Node, before: Side, after: Side) -> bool:
        """Whether the empty text between these two sides belongs to the language."""
        self._spend(1)
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

    def _derive(self, node: Node, before: Side, character: str, here: Side, memo: dict[Node, Node]) -> Node:
        """Return the language of what may follow ``character``, which neighbours see as ``here``."""
        done = memo.get(node)
        if done is not None:
            return done
        self._spend(1)

        def derive(part: Node) -> Node:
            return self._derive(part, before, character, here, memo)

        match node.kind:
            case "set":
                result = self.empty if node.test is not None and node.test(character) else self.none
            case "cat":
                first, rest = node.parts
                result = self.cat(derive(first), rest)
                if self._nullable(first, before, here):
                    result = self.alt(result, derive(rest))
            case "alt":
                result = self.alt(*map(derive, node.parts))
            case "and":
                result = self.both(*map(derive, node.parts))
            case "not":
                result = self.negate(derive(node.parts[0]))
            case "star":
                result = self.cat(derive(node.parts[0]), node)
            case _:
                result = self.none
        memo[node] = result
        return result


def _side(character: str) -> Side:
    return "word" if character.isalnum() or character == "_" else "other"


def _holds(assertion: str, before: Side, after: Side) -> bool:
    match assertion:
        case "start":
            return before == ""
        case "end":
            return after in ("", "last newline")
        case "very end":
            return after == ""
        case "boundary":
            return (before == "word") != (after == "word")
        case _:
            return (before == "word") == (after == "word")
