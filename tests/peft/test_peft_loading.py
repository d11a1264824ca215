"""What PEFT did with adapters of every model type, recorded by ``make oracle``: the check says the same, without torch."""

from __future__ import annotations

import json
import lzma
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from oracle import REASONS, disagreements

RECORDED = json.loads(lzma.decompress((ROOT / "fixtures" / "peft-loading.json.xz").read_bytes()))
BY_TYPE: dict[str, list[Any]] = defaultdict(list)
for row in RECORDED["cases"]:
    BY_TYPE[row[0].partition(":")[0]].append(row)


@pytest.mark.parametrize("model_type", BY_TYPE)
def test_the_check_says_what_peft_loads(model_type: str, tmp_path: Path) -> None:
    wrong = []
    for name, base, config, tensors, answers in BY_TYPE[model_type]:
        case = {"id": name, "base": RECORDED["bases"][base], "config": config, "tensors": tensors}
        told = "; ".join(filter(None, disagreements(case, answers, tmp_path)))
        if bool(told) != (name in REASONS):
            wrong.append(f"{name}: {told} {config}")
    assert wrong == []


def test_the_record_is_wide() -> None:
    answers = [row[4][0] for row in RECORDED["cases"]]
    assert {"all", "part", "none", "raises"} <= set(answers)
    assert len(BY_TYPE) >= 200
    assert any("0.21" in pair for pair in RECORDED["pairs"])
