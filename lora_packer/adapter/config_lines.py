"""On which line of ``adapter_config.json`` a field stands, for who points at it."""

from __future__ import annotations

import re

# A string (of a damaged file: up to the end of its line), or what opens, closes or separates.
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[\[\]{}:\n]')


def field_lines(data: bytes) -> dict[str, int]:
    """Return the line, counted from 1, of each field of the object itself, by the name as the file writes it.

    Of a field that stands twice it is the second line: the one that counts. What is no JSON has the lines that can be
    made out; nothing is raised.
    """
    lines: dict[str, int] = {}
    line, at, depth, before = 1, 1, 0, ""
    for match in _TOKEN.finditer(data.decode("utf-8", "replace")):
        found = match[0]
        if found == "\n":
            line += 1
            continue
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        elif found == ":" and depth == 1 and before.startswith('"'):
            lines[before[1:-1]] = at
        if found.startswith('"'):
            at = line
        before = found
    return lines
