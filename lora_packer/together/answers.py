"""Reading the service's answers leniently: the text in them scrubbed, escaped and clipped, the rest by its type."""

from __future__ import annotations

from typing import Any

from lora_packer.redact import Secret, escape, scrub
from lora_packer.together import refusal
from lora_packer.together.refusal import Purpose


def text(value: Any, *secrets: Secret, limit: int = 200) -> str | None:
    """Return the service's text scrubbed, escaped and clipped; None where it is no text."""
    return escape(scrub(value, *secrets), limit) if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """Return a finite number that is not negative; None for anything else. Some answers carry numbers as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < float("inf") else None


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
