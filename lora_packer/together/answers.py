"""Reading a field of the service's answers: text scrubbed, escaped and clipped, the rest by its type.

What decides something is required: where it is missing or of another type, the error names the field. The rest is read
leniently. Readers of whole shapes are built of these (``v1/told.py``, ``v2/told_*.py``), and nobody else looks into an
answer: ``tests/house/test_readers.py`` holds it.
"""

from __future__ import annotations

import re
from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.redact import Secret, escape, scrub
from lora_packer.together import refusal
from lora_packer.together.refusal import Purpose

LONGEST_NAME = 256
"""Characters of a name; more is none that a command takes."""

_LARGEST = 2.0**53  # a larger one is no price, size or time
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


def text(value: Any, *secrets: Secret, limit: int = 200) -> str | None:
    """Return the service's text scrubbed, escaped and clipped; None where it is no text."""
    return escape(scrub(value, *secrets), limit) if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """Return a number that is not negative, nor absurd; None for anything else. Some answers carry numbers as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found <= _LARGEST else None


def count(value: Any) -> int | None:
    """Return a whole number that is not negative; None for anything else."""
    found = number(value)
    return None if found is None else int(found)


def fields(value: Any) -> dict[str, Any]:
    """Return an object of an answer; empty where it is none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list in an answer; empty where it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def listed(answer: Any, purpose: Purpose) -> list[dict[str, Any]]:
    """Return the objects that an answer lists, bare or under ``data``. Raises ServiceError where it lists none."""
    found = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise refusal.without(purpose, answer, "lists nothing")
    return objects(found)


def cursor_in(answer: Any) -> str | None:
    """Return where the next page of a list begins; None where it is the last."""
    after = fields(answer).get("next_cursor")
    return after if isinstance(after, str) and after else None


def required_id(item: Any, name: str, purpose: Purpose, what: str) -> str:
    """Return the id in a field: one word that is safe in an address and on a command line.

    ``what`` is what has the field, with its article. Raises ServiceError where it is missing or no id.
    """
    value = fields(item).get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _wrong(item, name, purpose, what, "no id")
    return value


def optional_id(value: Any) -> str | None:
    """Return an id; None for anything else."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def required_text(item: Any, name: str, purpose: Purpose, what: str, *, limit: int = 200) -> str:
    """Return the text in a field, as ``text`` does. Raises ServiceError where it is missing or no text."""
    value = text(fields(item).get(name), limit=limit)
    if value is None:
        raise _wrong(item, name, purpose, what, "no text")
    return value


def optional_list(item: dict[str, Any], name: str, purpose: Purpose, what: str) -> list[dict[str, Any]]:
    """Return the objects in a field; empty where it is missing. Raises ServiceError where it is no list of objects."""
    value = item.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(item, name, purpose, what, "no list of objects")
    return value


def _wrong(item: Any, name: str, purpose: Purpose, what: str, kind: str) -> ServiceError:
    state = "is missing" if fields(item).get(name) is None else f"is {kind}"
    return refusal.without(purpose, item, f"describes {what} whose '{name}' {state}")
