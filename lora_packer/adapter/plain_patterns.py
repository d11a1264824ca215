r"""Patterns that are mere names, however many: found in tables instead of asked one by one.

PEFT takes the keys of ``rank_pattern`` and the names in ``modules_to_save`` for regular expressions, but nearly all of
them are names: word characters, ``-`` and ``.``, of which only ``.`` stands for more than itself. An adapter may have
thousands (one for each module), so they are kept by their length and by where their dots are: to ask about a path is
one look into a table for each of these forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lora_packer.adapter.pattern_automaton import PatternError

_PLAIN = re.compile(r"[\w.\-]+", re.ASCII)
_DOT = re.compile(r"\.")
# Far more than an adapter has of them (about a hundred where every module of a large model is named).
_MOST_FORMS = 1_000


def is_plain(pattern: str) -> bool:
    """Whether a regular expression is a name, in which only ``.`` stands for more than itself."""
    return _PLAIN.fullmatch(pattern) is not None


class PlainPatterns:
    """What ``(.*\\.)?(NAME)$`` matches, for many names at once."""

    def __init__(self, names: Iterable[tuple[int, str]]) -> None:
        """``names``: each with a number of its own. Raises PatternError where they have too many forms."""
        self._tables: dict[tuple[int, tuple[int, ...]], dict[str, list[int]]] = {}
        for number, name in names:
            dots = tuple(match.start() for match in _DOT.finditer(name)) if "." in name else ()
            table = self._tables.setdefault((len(name), dots), {})
            table.setdefault(name, []).append(number)
        if len(self._tables) > _MOST_FORMS:
            raise PatternError(
                "unsupported", f"its names have {len(self._tables)} forms; at most {_MOST_FORMS} are read"
            )

    def numbers(self, path: str) -> Iterator[int]:
        """The numbers of the names that are the path, or its end after a dot; in no order."""
        if "\n" in path:  # which no dot stands for
            return
        for (length, dots), table in self._tables.items():
            begin = len(path) - length
            if begin < 0 or (begin and path[begin - 1] != "."):
                continue
            end = path[begin:]
            for at in dots:
                end = f"{end[:at]}.{end[at + 1 :]}"
            yield from table.get(end, ())

    def matches(self, path: str) -> bool:
        """Whether one of the names is the path, or its end after a dot."""
        return any(True for _ in self.numbers(path))
