"""What PEFT renames and merges, by itself: the recorded lists, and the shapes that come out."""

from __future__ import annotations

import json

import pytest
from builders import PREFIX

from lora_packer.base_model import ARCHITECTURES
from lora_packer.peft.conversions import TYPES, conversion, experts_pattern, recorded
from lora_packer.peft.loading import Loaded, convert_tensors
from lora_packer.peft.merging import MergeError

Shapes = dict[str, tuple[int, ...]]


def converted(model_type: str, shapes: Shapes, **nested: str) -> dict[str, Loaded]:
    found = conversion(model_type, "causal-lm", nested)
    assert found is not None
    return convert_tensors(found, {PREFIX + name: shape for name, shape in shapes.items()})


def test_the_short_list_has_the_types_of_the_long_one() -> None:
    assert json.loads(TYPES.read_text(encoding="utf-8")) == list(recorded()["classes"])
    assert set(recorded()["classes"]) <= set(ARCHITECTURES)


def test_most_types_have_no_list() -> None:
    assert conversion("llama", "causal-lm", {}) is None
    assert experts_pattern("llama") is None
    assert experts_pattern("kimi_k2") == "qwen2_moe"
    assert experts_pattern("nemotron_h") is None


@pytest.mark.parametrize(
    ("model_type", "name", "becomes"),
    [
        (
            "kimi_k25",
            "language_model.model.layers.0.self_attn.o_proj",
            "model.language_model.layers.0.self_attn.o_proj",
        ),
        # A name that only lost its beginning is put back: "Key should probably not have been renamed".
        ("kimi_k25", "language_model.lm_head", "language_model.lm_head"),
        ("nemotron_h", "backbone.layers.0.mixer.in_proj", "model.layers.0.mixer.in_proj"),
        ("dory", "backbone.layers.3.mixer.up_proj", "model.layers.1.mlp.up_proj"),
        ("dory", "backbone.layers.2.mixer.q_proj", "model.layers.1.self_attn.q_proj"),
        ("gemma3", "language_model.model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"),
        ("gemma3", "model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("llava", "vision_tower.vision_model.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"),
        (
            "minimax_m3_vl",
            "language_model.model.layers.0.self_attn.q_proj",
            "model.language_model.layers.0.self_attn.q_proj",
        ),
        ("llama4", "language_model.model.layers.0.self_attn.q_proj", ""),
        ("qwen3_moe", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"),
    ],
)
def test_names_that_peft_renames(model_type: str, name: str, becomes: str) -> None:
    if not becomes:
        assert conversion(model_type, "causal-lm", {}) is None
        return
    found = converted(model_type, {f"{name}.lora_A.weight": (4, 48)})
    assert found == {f"{PREFIX}{becomes}.lora_A.weight": Loaded((4, 48), (f"{PREFIX}{name}.lora_A.weight",))}


def test_experts_are_merged_with_their_shapes() -> None:
    shapes: Shapes = {}
    for expert in range(3):
        for name, inputs, outputs in (("w1", 48, 20), ("w3", 48, 20), ("w2", 20, 48)):
            module = f"model.layers.0.block_sparse_moe.experts.{expert}.{name}"
            shapes |= {f"{module}.lora_A.weight": (4, inputs), f"{module}.lora_B.weight": (outputs, 4)}
    found = {name.removeprefix(PREFIX): item for name, item in converted("mixtral", shapes).items()}
    experts = "model.layers.0.mlp.experts"
    assert {name: item.shape for name, item in found.items()} == {
        f"{experts}.base_layer.lora_A.weight": (24, 48),
        f"{experts}.base_layer.lora_B.weight": (40, 24),
        f"{experts}.lora_A.weight": (12, 20),
        f"{experts}.lora_B.weight": (48, 12),
    }
    assert sum(len(item.sources) for item in found.values()) == len(shapes)


@pytest.mark.parametrize("lost", ["experts.1.w3", "experts.1.w3.lora_A"])
def test_what_cannot_be_merged_is_an_error_or_another_shape(lost: str) -> None:
    shapes: Shapes = {}
    for expert in range(2):
        for name in ("w1", "w3"):
            module = f"model.layers.0.block_sparse_moe.experts.{expert}.{name}"
            shapes |= {f"{module}.lora_A.weight": (4, 48), f"{module}.lora_B.weight": (20, 4)}
    with pytest.raises(MergeError, match="different shapes"):
        converted("mixtral", {name: shape for name, shape in shapes.items() if lost not in name})


def test_tensors_that_are_not_loras_keep_their_names() -> None:
    name = "language_model.lm_head.weight"
    assert converted("gemma3", {name: (112, 48)}) == {PREFIX + name: Loaded((112, 48), (PREFIX + name,))}
