"""Random base models and configs: what the rules make is accepted, and any single change to it is told once."""

from __future__ import annotations

import sys

from builders import ROOT

from lora_packer.base_model import ARCHITECTURES

sys.path.insert(0, str(ROOT / "tools"))

import fuzz


def test_what_the_rules_make_is_accepted_and_any_single_change_is_noticed() -> None:
    tried = set()
    misses = []
    for what, miss in fuzz.run(250, first_seed=20_000, types=sorted(ARCHITECTURES)):
        tried.add(what)
        if miss is not None:
            misses.append(str(miss))
    assert misses == []
    assert tried >= set(fuzz.CHANGES)


def test_a_blind_inspector_is_caught() -> None:
    case = next(case for seed in range(1000) if (case := fuzz.make_case(seed, ["llama"])) is not None)
    assert fuzz.judge(case.config, case.base, case.tensors) == []
    name = sorted(case.expectation.required)[0]
    lost = {other: info for other, info in case.tensors.items() if other != name}
    assert [finding.severity for finding in fuzz.judge(case.config, case.base, lost)] == ["error"]
