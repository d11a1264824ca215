"""LoRA on a torch.nn.MultiheadAttention: what PEFT 0.21.2 wrote and raised on aria's projector."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from builders import PREFIX, ROOT

import lora_packer

sys.path.insert(0, str(ROOT / "tools"))

from sweep_cases import write_unread

ARIA = {
    "model_type": "aria",
    "text_config": {"model_type": "aria_text", "num_hidden_layers": 1, "hidden_size": 32, "vocab_size": 64},
    "vision_config": {"model_type": "idefics3_vision", "num_hidden_layers": 1, "hidden_size": 64},
}
ATTENTION = f"{PREFIX}model.multi_modal_projector.cross_attn.multihead_attn"
WHOLE = {
    f"{ATTENTION}.base_layer.out_proj.lora_A.weight": [4, 64],
    f"{ATTENTION}.base_layer.out_proj.lora_B.weight": [64, 4],
    f"{ATTENTION}.lora_A.weight": [4, 64],
    f"{ATTENTION}.lora_B.weight": [192, 4],
}
OUTPUT = {f"{ATTENTION}.out_proj.lora_A.weight": [4, 64], f"{ATTENTION}.out_proj.lora_B.weight": [64, 4]}
BIASES = {f"{ATTENTION}.base_layer.out_proj.lora_B.bias": [64], f"{ATTENTION}.lora_B.bias": [192]}


def told(folder: Path, tensors: dict[str, list[int]], **config: Any) -> list[tuple[str, str, str | None]]:
    raw = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["multihead_attn"], **config}
    write_unread(folder, raw, tensors)
    report = lora_packer.check(folder, base_config=ARIA, target="peft", weights=False)
    return [(item.code, item.severity, item.field) for item in report.findings if item.severity != "info"]


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        (WHOLE, {}),
        (WHOLE, {"target_modules": r".*multihead_attn"}),
        (WHOLE, {"exclude_modules": ["out_proj"]}),
        (WHOLE, {"lora_dropout": 0.1}),
        (WHOLE | BIASES, {"lora_bias": True}),
        (WHOLE | {f"{ATTENTION}.base_layer.out_proj.base_layer.bias": [64]}, {"bias": "all"}),
    ],
    ids=str,
)
def test_both_projections_get_a_pair(tmp_path: Path, tensors: dict[str, list[int]], config: dict[str, Any]) -> None:
    assert told(tmp_path, tensors, **config) == []


def test_a_half_of_it_was_not_trained(tmp_path: Path) -> None:
    ((code, severity, _),) = told(tmp_path, {name: shape for name, shape in WHOLE.items() if "base_layer" not in name})
    assert (code, severity) == ("LP309", "warning")


@pytest.mark.parametrize("field", [{"use_dora": True}, {"kasa_config": {}}, {"velora_config": {}}], ids=str)
def test_what_peft_refuses_on_it(tmp_path: Path, field: dict[str, Any]) -> None:
    assert ("LP202", "error", next(iter(field))) in told(tmp_path, WHOLE, **field)


def test_its_output_layer_alone_has_no_effect(tmp_path: Path) -> None:
    """PEFT's docstring: the forward method of that layer is not used, hence the LoRA adapter would be ignored."""
    only = told(tmp_path, OUTPUT, target_modules=["multihead_attn.out_proj"])
    assert only == [("LP204", "error", "target_modules")]
