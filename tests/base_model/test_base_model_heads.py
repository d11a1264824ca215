"""The class that a base config names, where it leaves a part of the model out."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import PREFIX, ones, write_adapter

import lora_packer
from lora_packer.base_model import BaseModel

T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 320}


@pytest.mark.parametrize(
    ("model_type", "name"), [("t5", "T5EncoderModel"), ("mt5", "MT5EncoderModel"), ("umt5", "UMT5EncoderModel")]
)
def test_an_encoders_class_has_no_decoder(model_type: str, name: str) -> None:
    base = BaseModel.load({**T5, "model_type": model_type, "architectures": [name]})
    assert base.head == "encoder"
    assert {path.partition(".")[0] for path in base.modules} == {"shared", "encoder"}
    assert "lm_head" in base.with_head("seq2seq").modules


@pytest.mark.parametrize("task", ["FEATURE_EXTRACTION", None])
@pytest.mark.parametrize("saved", [None, ["final_layer_norm"]])
def test_an_adapter_of_an_encoders_class_is_whole(tmp_path: Path, task: str | None, saved: list[str] | None) -> None:
    tensors = {}
    for layer in range(2):
        for name in "qv":
            path = f"{PREFIX}encoder.block.{layer}.layer.0.SelfAttention.{name}"
            tensors |= {f"{path}.lora_A.weight": ones(4, 64), f"{path}.lora_B.weight": ones(64, 4)}
    if saved:
        tensors[f"{PREFIX}encoder.final_layer_norm.weight"] = ones(64)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q", "v"], "task_type": task}
    folder = write_adapter(tmp_path / "a", tensors, {**config, "modules_to_save": saved})
    base = {**T5, "model_type": "t5", "architectures": ["T5EncoderModel"]}
    report = lora_packer.check(folder, base_config=base, target="peft", ignore=["LP4"])
    assert (report.ok, report.findings) == (True, ())
