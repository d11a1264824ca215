"""What a report is drawn on: how much to say, and which colours there are."""

from __future__ import annotations

from typing import Protocol


class Canvas(Protocol):
    """Where a report for a person will be shown."""

    @property
    def quiet(self) -> bool:
        """Whether to leave out all but the findings and the verdict."""

    @property
    def verbose(self) -> bool:
        """Whether to list every tensor that a finding is about."""

    def style(self, text: str, *names: str) -> str:
        """Return ``text`` in these colours (``red``, ``bold``), or as it is where there are none."""
