"""What a repair says of itself: what it did and how that is known to lose nothing, or why it did nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.redact import escape, scrub

_LONGEST = 360


@frozen
class Repaired:
    """Something that was mended.

    Attributes:
        name: the repair's.
        code: that of the rule whose finding it mends, or None where no rule finds it.
        count: how many tensors, fields or files were changed.
        message: what was done, one sentence.
        proof: why nothing was lost by it, one sentence.
    """

    name: str
    code: str | None
    count: int
    message: str
    proof: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


@frozen
class Skipped:
    """Something that was not mended: why, and what to do instead."""

    name: str
    code: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        return asdict(self)


Told = Repaired | Skipped


def repaired(name: str, code: str | None, count: int, message: str, proof: str) -> Repaired:
    """Return what was mended, fit for a line."""
    return Repaired(name, code, count, _line(message), _line(proof))


def skipped(name: str, code: str | None, reason: str) -> Skipped:
    """Return what was not mended, fit for a line."""
    return Skipped(name, code, _line(reason))


def _line(text: str) -> str:
    return escape(scrub(text), _LONGEST)


Note = Callable[[str, str], None]
