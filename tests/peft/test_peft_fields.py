"""Every field of a LoraConfig with hostile and odd values: the check says what PEFT did when it loaded the adapter.

``tools/sweep_fields.py`` recorded PEFT's answers, and lists what is allowed to differ, each with its reason.
"""

from __future__ import annotations

import json
import lzma
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

import lora_packer

sys.path.insert(0, str(ROOT / "tools"))

from sweep_cases import ALLOWED, PLAIN, write_unread

RECORDED = json.loads(lzma.decompress((ROOT / "fixtures" / "peft-fields.json.xz").read_bytes()))
BY_FIELD: dict[tuple[str, str], list[Any]] = defaultdict(list)
for row in RECORDED["cases"]:
    BY_FIELD[row[0], row[1]].append(row)


@pytest.mark.parametrize(("base", "field"), BY_FIELD, ids=["-".join(key) for key in BY_FIELD])
def test_the_check_says_what_peft_does(tmp_path: Path, base: str, field: str) -> None:
    config = RECORDED["bases"][base]
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **PLAIN[base]}
    wrong = []
    for _, _, changes, verdict, why, shapes in BY_FIELD[base, field]:
        write_unread(tmp_path, plain | changes, RECORDED["shapes"][shapes])
        report = lora_packer.check(tmp_path, base_config=config, target="peft", weights=False)
        name = f"{base} {json.dumps(changes)}"
        if (report.status == ("ok" if verdict == "loads" else "failed")) == (name in ALLOWED):
            wrong.append(f"{name}: PEFT {verdict} {why}, the check {report.status} {report.findings}")
    assert wrong == []


def test_the_sweep_is_wide() -> None:
    values = [len(rows) for (base, _), rows in BY_FIELD.items() if base == "llama"]
    assert sum(count >= 25 for count in values) >= 40
    assert {row[0] for row in RECORDED["cases"]} >= {
        "llama",
        "mamba",
        "nemotron_h",
        "lfm2",
        "qwen3_moe",
        "gpt2",
        "bert",
    }
    assert RECORDED["versions"]["peft"] == "0.21.2"
