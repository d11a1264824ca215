"""The bench's own arithmetic: what a ratio is, what is kept of it, and what counts as slower."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from bench_rows import Row, against_best, keep, line, slower


def row(*ours: float, limit: float | None = None) -> Row:
    return Row("publish 13 MB", ours, (1.0,) * len(ours), "a peer", limit=limit)


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    # The second round was slow for all of them.
    found = against_best("what", {"ours": [2.0, 20.0, 3.0], "one": [1.0, 12.0, 4.0], "two": [2.0, 10.0, 1.0]}, "ours")
    assert (found.theirs, found.peer, found.ratio) == ((1.0, 10.0, 1.0), "two", 2.0)


def test_a_limit_is_beside_its_figure() -> None:
    assert (row(1.2, limit=1.15).verdict, row(1.1, limit=1.15).verdict, row(9.0).verdict) == ("OVER", "ok", "")
    assert "1.20   1.15  OVER" in line(row(1.2, limit=1.15))


def test_ratios_are_kept_and_no_seconds(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"another part": {"ratio": 3.0}}), encoding="utf-8")
    assert slower([row(1.0)], kept) == []  # it was not measured before
    keep([row(1.0, limit=1.15)], kept)
    said = json.loads(kept.read_text(encoding="utf-8"))
    assert said == {
        "another part": {"ratio": 3.0},
        "publish 13 MB": {"ratio": 1.0, "limit": 1.15, "peer": "a peer"},
    }
    assert slower([row(1.04)], kept) == []
    assert slower([row(1.06)], kept) == ["publish 13 MB: 1.06, and it was 1.00"]
