"""PEFT's rules, each in its smallest case: what PEFT wrote is what is expected here, tensor for tensor.

``tools/record_rules.py`` recorded them from PEFT itself; each row has the line of PEFT that makes the rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from builders import ROOT

from lora_packer.adapter.config import LoraConfig, parse_config
from lora_packer.base_model import BaseModel, Modules
from lora_packer.inspector.reading import heads
from lora_packer.peft.expected import Era, Expectation, expect
from lora_packer.peft.refusals import refused_config, refused_modules
from lora_packer.peft.replicate import replicated

RECORDED = json.loads((ROOT / "fixtures" / "peft-rules.json").read_text())
TODAY = "0.21.2"
OLDER = next(version for version in RECORDED["rules"] if version != TODAY)

Shapes = Mapping[str, tuple[int, ...]]


def trees(base: BaseModel, config: LoraConfig) -> list[Modules]:
    """The base model's modules under every head that the config may mean, in every release's names."""
    every = [tree for head in heads(config, base) for tree in base.with_head(head).dialects.values()]
    return [replicated(tree, config.layer_replication) if config.layer_replication else tree for tree in every]


def expectations(row: Mapping[str, Any], era: Era) -> list[Expectation]:
    config, _ = parse_config(row["config"])
    base = BaseModel.load(RECORDED["bases"][row["base"]])
    return [expect(config, tree, (), era) for tree in trees(base, config)]


def is_written(wanted: Expectation, written: Shapes) -> bool:
    required = {name: want.shape for name, want in wanted.required.items()}
    optional = {name: want.shape for name, want in wanted.optional.items()}
    return required.items() <= written.items() and written.items() <= (optional | required).items()


def ids(rows: list[Mapping[str, Any]]) -> list[str]:
    return [f"{row['rule']} ({row['source']})" for row in rows]


def shapes(row: Mapping[str, Any]) -> Shapes:
    return {name: tuple(shape) for name, shape in row["writes"].items()}


WRITTEN = [row for row in RECORDED["rules"][TODAY] if row["writes"] is not None]
REFUSED = [row for row in RECORDED["rules"][TODAY] if row["writes"] is None]


@pytest.mark.parametrize("row", WRITTEN, ids=ids(WRITTEN))
def test_what_peft_writes_is_expected(row: Mapping[str, Any]) -> None:
    found = expectations(row, Era())
    assert any(is_written(wanted, shapes(row)) for wanted in found)


@pytest.mark.parametrize("row", RECORDED["rules"][OLDER], ids=ids(RECORDED["rules"][OLDER]))
def test_what_an_older_peft_writes_is_expected_of_its_time(row: Mapping[str, Any]) -> None:
    older = expectations(row, Era(last_index=True, swapped_experts=True))
    assert any(is_written(wanted, shapes(row)) for wanted in older)
    assert not any(is_written(wanted, shapes(row)) for wanted in expectations(row, Era()))


@pytest.mark.parametrize("row", REFUSED, ids=ids(REFUSED))
def test_what_peft_refuses_is_refused(row: Mapping[str, Any]) -> None:
    config, _ = parse_config(row["config"])
    base = BaseModel.load(RECORDED["bases"][row["base"]])
    expectation = expect(config, base.modules, ())
    targeted = expectation.targeted
    told = [*refused_config(config, row["config"]), *refused_modules(config, base.model_type, base.modules, targeted)]
    assert targeted
    assert told
    assert {want.part for want in expectation.required.values()} <= {
        "lora_A.weight",
        "lora_B.weight",
        "lora_embedding_A",
        "lora_embedding_B",
    }


def test_every_rule_names_its_line() -> None:
    for row in RECORDED["rules"][TODAY]:
        file, _, line = row["source"].partition(":")
        assert file.endswith(".py")
        assert line.isdecimal()
