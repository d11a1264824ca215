"""What PEFT targets where ``target_modules`` is null (peft/utils/constants.py of 0.21.2)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.peft.targets import targeting

_CONFIG: Any = SimpleNamespace(
    modules_to_save=(),
    task_type="CAUSAL_LM",
    exclude_modules=None,
    target_modules=None,
    target_parameters=None,
    layers_to_transform=None,
    layers_pattern=(),
)


def test_gemma4_s_default_is_a_pattern_that_leaves_the_towers_alone():
    base = BaseModel.load({"model_type": "gemma4", "audio_config": {}, "vision_config": {}})
    targets = targeting(_CONFIG, base.modules, base.default_targets)
    found = {path for path in base.modules if targets(path)}
    assert "model.language_model.layers.0.self_attn.q_proj" in found
    assert any("audio_tower" in path and ".q_proj" in path for path in base.modules)
    assert not [path for path in found if "language_model" not in path]


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_other_defaults_are_names(model_type: str):
    assert ARCHITECTURES[model_type].default_targets == ("q_proj", "v_proj")
    base = BaseModel.load({"model_type": model_type})
    targets = targeting(_CONFIG, base.modules, base.default_targets)
    assert targets("model.layers.3.self_attn.v_proj")
    assert not targets("model.layers.3.self_attn.k_proj")
