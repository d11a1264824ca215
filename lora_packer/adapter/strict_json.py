"""JSON read strictly: what Python's reader lets through silently is reported here.

``json.loads`` takes the last of two equal keys, accepts NaN and Infinity, guesses encodings and fails on deep nesting
with a RecursionError (https://docs.python.org/3/library/json.html#standard-compliance-and-interoperability).
"""

from __future__ import annotations

import json
import math
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.redact import escape

# A count, a size or an id has twenty; what is longer is no number that anybody uses, and fills the line it is shown in.
MAX_DIGITS = 40


class StrictJsonError(ValueError):
    """The text is not JSON at all; the message says why."""


@frozen
class JsonProblem:
    """Something that JSON readers disagree about: a duplicate key, or a number that JSON does not have."""

    key: str
    message: str


def parse(data: bytes) -> tuple[Any, tuple[JsonProblem, ...]]:
    """Return the value in ``data`` (UTF-8) and what is doubtful about it. Raises StrictJsonError."""
    problems: list[JsonProblem] = []

    def check_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    problems.append(JsonProblem(key, f"the key '{escape(key, 80)}' stands twice"))
                seen.add(key)
        for key, value in pairs:
            if isinstance(value, float) and not math.isfinite(value):
                problems.append(JsonProblem(key, f"'{escape(key, 80)}' is {value!r}, which JSON does not have"))
        return result

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"it is not UTF-8 (byte {error.start})") from None
    if text.startswith("\ufeff"):
        raise StrictJsonError("it starts with a byte order mark")
    try:
        value = json.loads(text, object_pairs_hook=check_object, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise StrictJsonError("it is nested too deeply") from None
    return value, tuple(problems)


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise StrictJsonError(f"it has a number of {len(text)} digits; at most {MAX_DIGITS} are read")
    return int(text)
