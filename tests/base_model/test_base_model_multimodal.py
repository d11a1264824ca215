"""Base models with towers for images and sound, against dimensions that are public knowledge, and their older names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import ROOT

import lora_packer
from lora_packer import BaseModel

CONFIGS = ROOT / "fixtures" / "base-configs"
TEXT = "model.language_model.layers.0."

TINY_TEXT = {
    "vocab_size": 112,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}


def llava(**changes: Any) -> dict[str, Any]:
    """A small LLaVA."""
    return {"model_type": "llava", "text_config": TINY_TEXT, "vision_config": TINY_TOWER, **changes}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("Qwen--Qwen2.5-VL-7B-Instruct", {
            TEXT + "self_attn.k_proj": (512, 3584), TEXT + "mlp.up_proj": (18944, 3584), "lm_head": (152064, 3584),
            "model.visual.blocks.31.attn.qkv": (3840, 1280), "model.visual.merger.mlp.2": (3584, 5120)}),
        ("Qwen--Qwen3-VL-8B-Instruct", {
            TEXT + "self_attn.q_norm.weight": (128,), "model.visual.deepstack_merger_list.2.linear_fc2": (4096, 4608)}),
        ("Qwen--Qwen3-VL-30B-A3B-Instruct", {
            TEXT + "mlp.experts.gate_up_proj": (128, 1536, 2048), TEXT + "mlp.gate.weight": (128, 2048)}),
        ("Qwen--Qwen3.5-27B", {
            TEXT + "linear_attn.in_proj_qkv": (10240, 5120), TEXT + "linear_attn.A_log": (48,),
            "model.language_model.layers.3.self_attn.q_proj": (12288, 5120), "lm_head": (248320, 5120)}),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", {
            "language_model.model.layers.0.feed_forward.experts.gate_up_proj": (16, 5120, 16384),
            "language_model.model.layers.47.self_attn.k_proj": (1024, 5120), "language_model.lm_head": (202048, 5120),
            "language_model.model.layers.47.feed_forward.router": (16, 5120)}),
        ("google--gemma-4-26B-A4B", {
            TEXT + "self_attn.q_proj": (4096, 2816), "model.language_model.layers.5.self_attn.q_proj": (8192, 2816),
            TEXT + "router.proj": (128, 2816), "model.vision_tower.encoder.layers.26.self_attn.q_proj.linear": (1152, 1152)}),
    ],
)  # fmt: skip
def test_modules_of_real_models(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    base = BaseModel.load(CONFIGS / f"{name}.json")
    assert {path: base.modules[path].weight_shape for path in shapes} == shapes


def test_full_attention_layers_of_gemma_4_have_no_v_proj() -> None:
    modules = BaseModel.load(CONFIGS / "google--gemma-4-26B-A4B.json").modules
    with_values = [path for path in modules if path.startswith("model.language_model") and path.endswith("v_proj")]
    assert len(with_values) == 25
    assert "model.language_model.layers.5.self_attn.v_proj" not in modules


def test_fields_at_the_root_count_only_without_a_nested_config() -> None:
    path = TEXT + "mlp.up_proj"
    flat = {"model_type": "qwen2_vl", **TINY_TEXT}
    assert BaseModel.load(flat).modules[path].weight_shape == (80, 48)
    assert BaseModel.load({**flat, "text_config": {}}).modules[path].weight_shape == (29568, 8192)


@pytest.mark.parametrize("config", [{"model_type": "qwen2_vl", **TINY_TEXT}, llava()])
def test_the_vocabulary_changes_in_the_language_model(config: dict[str, Any]) -> None:
    base = BaseModel.load(config)
    assert base.vocab_size == 112
    resized = base.with_vocab(120)
    assert (resized.vocab_size, resized.modules["lm_head"].weight_shape) == (120, (120, 48))
    assert resized.modules[TEXT + "mlp.up_proj"].weight_shape == (80, 48)


VIDEO_LLAVA = {"model_type": "video_llava", "text_config": TINY_TEXT}


@pytest.mark.parametrize(
    ("config", "dialect", "present"),
    [
        (llava(), "transformers-5", "model.vision_tower.encoder.layers.0.self_attn.q_proj"),
        (llava(), "transformers-4", "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj"),
        (llava(), "transformers-4.51", "language_model.model.layers.0.self_attn.q_proj"),
        (llava(), "transformers-4.51", "language_model.lm_head"),
        ({"model_type": "qwen2_vl", **TINY_TEXT}, "transformers-4.51", "model.layers.0.self_attn.q_proj"),
        ({"model_type": "qwen2_vl", **TINY_TEXT}, "transformers-4.51", "visual.blocks.0.attn.qkv"),
        (VIDEO_LLAVA, "transformers-4", "model.video_tower.vision_model.encoder.layers.0.self_attn.q_proj"),
        (VIDEO_LLAVA, "transformers-4.51", "image_tower.vision_model.encoder.layers.0.self_attn.q_proj"),
        (VIDEO_LLAVA, "transformers-4.51", "language_model.model.layers.0.self_attn.q_proj"),
        ({"model_type": "fuyu", "text_config": TINY_TEXT}, "transformers-4.51", "vision_embed_tokens"),
        ({"model_type": "fuyu", "text_config": TINY_TEXT}, "transformers-4.51", "language_model.lm_head"),
        ({"model_type": "aria"}, "transformers-4.51", "language_model.model.layers.0.mlp.experts.fc1.weight"),
        ({"model_type": "mvp", "use_prompt": True}, "transformers-4", "model.encoder.self_attn_prompt.prompt_trans.2"),
        ({"model_type": "gemma3", "text_config": TINY_TEXT}, "text-only", "model.layers.0.self_attn.q_proj"),
        ({"model_type": "gemma3", "text_config": TINY_TEXT}, "text-only", "lm_head"),
    ],
)
def test_names_of_other_versions_and_classes(config: dict[str, Any], dialect: str, present: str) -> None:
    dialects = BaseModel.load(config).dialects
    assert present in dialects[dialect]
    assert [name for name, modules in dialects.items() if set(modules) == set(dialects[dialect])] == [dialect]


def test_the_text_class_has_no_tower() -> None:
    modules = BaseModel.load({"model_type": "gemma3", "text_config": TINY_TEXT}).dialects["text-only"]
    assert not [
        path for path in modules if not path.startswith(("model.layers.", "model.embed", "model.norm", "lm_head"))
    ]


def test_any_proven_language_model_can_stand_below_a_tower() -> None:
    base = BaseModel.load(llava(text_config={**TINY_TEXT, "model_type": "qwen2"}))
    assert base.modules[TEXT + "self_attn.q_proj"].bias
    assert not BaseModel.load(llava()).modules[TEXT + "self_attn.q_proj"].bias


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text_config": {"model_type": "new\x1b[31m"}}, r"text_config of model type 'new\\x1b"),
        ({"vision_config": {"model_type": "newer"}}, "vision_config of model type 'newer'"),
        ({"text_config": {"model_type": ["llama"]}}, "text_config"),
        # A model with towers of its own is no language model.
        ({"text_config": {"model_type": "llava"}}, "text_config"),
    ],
)
def test_an_unknown_part_is_not_guessed(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match=says):
        BaseModel.load(llava(**changes))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (llava(vision_config={**TINY_TOWER, "patch_size": 0}), "patch_size"),
        ({"model_type": "llama4", "text_config": {"moe_layers": [[1]]}}, "moe_layers"),
        ({"model_type": "mllama", "text_config": {"cross_attention_layers": 3}}, "cross_attention_layers"),
        ({"model_type": "qwen3_5", "text_config": {"layer_types": "full"}}, "layer_types"),
        ({"model_type": "internvl", "downsample_ratio": 0}, "downsample_ratio"),
    ],
)
def test_a_part_that_makes_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(json.loads(json.dumps(config)))


def test_qwen3_5_reads_no_other_name_of_its_number_of_experts() -> None:
    # transformers/models/qwen3_5_moe/configuration_qwen3_5_moe.py: the text config has no attribute_map.
    text = {**TINY_TEXT, "num_local_experts": 3, "moe_intermediate_size": 16}
    base = BaseModel.load({"model_type": "qwen3_5_moe", "text_config": text})
    assert base.modules[TEXT + "mlp.experts.down_proj"].weight_shape == (256, 48, 16)
