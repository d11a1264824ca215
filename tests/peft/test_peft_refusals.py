"""What PEFT refuses, row by row: the smallest config that it refuses, beside the nearest that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from lora_packer.adapter.config import parse_config
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import expect
from lora_packer.peft.refusals import Refusal, refused_config, refused_modules


def refusals(**fields: Any) -> list[Refusal]:
    raw = {"peft_type": "LORA", "target_modules": ["q_proj"], **fields}
    config, _ = parse_config(raw)
    return list(refused_config(config, raw))


@pytest.mark.parametrize(
    ("refused", "taken", "field"),
    [
        ({"lora_bias": True, "use_dora": True}, {"lora_bias": True}, "lora_bias"),
        ({"target_modules": "a", "layers_to_transform": []}, {"target_modules": "a"}, "layers_to_transform"),
        ({"target_modules": "a", "layers_pattern": ""}, {"target_modules": "a"}, "layers_pattern"),
        ({"layers_pattern": "h"}, {"layers_pattern": "h", "layers_to_transform": []}, "layers_pattern"),
        ({"init_lora_weights": "corda_x"}, {"init_lora_weights": "olora"}, "init_lora_weights"),
    ],
)
def test_a_config_that_peft_refuses(refused: dict[str, Any], taken: dict[str, Any], field: str) -> None:
    assert [item.field for item in refusals(**refused)] == [field]
    assert refusals(**taken) == []


MAMBA = {"model_type": "mamba", "hidden_size": 8, "state_size": 4, "num_hidden_layers": 1, "vocab_size": 16}


@pytest.mark.parametrize(("target", "refused"), [("out_proj", True), ("conv1d", True), ("in_proj", False)])
def test_mamba_takes_no_lora_past_its_kernels(target: str, refused: bool) -> None:
    base = BaseModel.load(MAMBA)
    config, _ = parse_config({"peft_type": "LORA", "target_modules": [target]})
    targeted = expect(config, base.modules, ()).targeted
    found = list(refused_modules(config, base.model_type, base.modules, targeted))
    assert [(item.field, item.kind) for item in found] == ([("target_modules", "target")] if refused else [])
