"""The Makefile: what a rule is made of is defined, so that nothing it needs is left out in silence."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
# What the caller gives, and what make itself has.
GIVEN = {"BENCH", "DIR", "MAKE", "PATH"}


def test_every_variable_is_defined() -> None:
    defined = set(re.findall(r"^(?:export )?([A-Z_]+) *[:?+]?=", TEXT, re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\(([A-Z_]+)[):]", TEXT))
    assert used - defined - GIVEN == set()
    assert {"PROOF_STAMP", "ENGINES_STAMP"} <= used & defined
