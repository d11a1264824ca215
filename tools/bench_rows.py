"""What ``make bench`` prints and keeps: one row for each figure, with the best peer of the same run and the limit."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NOISE = 1.05
"""How much more than the kept ratio is said to be slower."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        name: what was measured; the key of the file that is kept.
        ours: our figures, one for each round.
        theirs: those of the best peer of each round.
        peer: who that was most often, or what it is compared with.
        unit: of the figures.
        limit: what the ratio is not to exceed; None where none was set.
        more: what else is to be said.
    """

    name: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    peer: str
    unit: str = "s"
    limit: float | None = None
    more: str = ""

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: what slows the machine for a while slows both."""
        return statistics.median(own / other for own, other in zip(self.ours, self.theirs, strict=True))

    @property
    def verdict(self) -> str:
        """Whether it is within its limit."""
        return "" if self.limit is None else "ok" if self.ratio <= self.limit else "OVER"


def against_best(
    name: str,
    costs: Mapping[str, Sequence[float]],
    ours: str,
    *,
    unit: str = "s",
    limit: float | None = None,
    more: str = "",
) -> Row:
    """Return the row of one way beside the best of the others: of each round, the fastest peer of that round."""
    peers = {way: list(figures) for way, figures in costs.items() if way != ours}
    rounds = range(len(costs[ours]))
    best = [min(peers, key=lambda way: peers[way][number]) for number in rounds]
    theirs = tuple(peers[way][number] for number, way in zip(rounds, best, strict=True))
    return Row(name, tuple(costs[ours]), theirs, statistics.mode(best), unit, limit, more)


def header() -> str:
    """The table's first line; from here on Python keeps its bytecode, as that of an installed package is kept."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return f"{'':<50}{'ours':>9}{'peer':>9} {'':<3}{'ratio':>6}{'limit':>7}{'':>6}  {'the best peer'}"


def line(row: Row) -> str:
    """A row of the table."""
    ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
    limit = "" if row.limit is None else f"{row.limit:.2f}"
    more = f" ({row.more})" if row.more else ""
    figures = f"{ours:>9.3f}{theirs:>9.3f} {row.unit:<3}{row.ratio:>6.2f}{limit:>7}{row.verdict:>6}"
    return f"{row.name:<50}{figures}  {row.peer}{more}"


def keep(rows: Sequence[Row], path: Path) -> None:
    """Write the ratios, and nothing else: seconds are those of one machine. Those of rows that were not run stay."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept |= {row.name: {"ratio": round(row.ratio, 3), "limit": row.limit, "peer": row.peer} for row in rows}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def slower(rows: Sequence[Row], kept: Path) -> list[str]:
    """Return a sentence for each ratio that is more than the kept one, and than noise explains."""
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    return [
        f"{row.name}: {row.ratio:.2f}, and it was {before[row.name]['ratio']:.2f}"
        for row in rows
        if row.name in before and row.ratio > before[row.name]["ratio"] * NOISE
    ]
