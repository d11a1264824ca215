"""Types whose code is in their own repositories: an adapter with the right shapes passes, one with a wrong one fails.

The configs have the fields of the published ones (THUDM/chatglm3-6b, Qwen/Qwen-7B and so on), with smaller sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ones, tiny_config, write_adapter

import lora_packer
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.defaults import recorded
from lora_packer.base_model.tasks import has_class

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 40}
GLM = {
    "model_type": "chatglm", "architectures": ["ChatGLMModel"], "num_layers": 1, "hidden_size": 64, "ffn_hidden_size": 96,
    "kv_channels": 16, "num_attention_heads": 4, "multi_query_attention": True, "multi_query_group_num": 2,
    "padded_vocab_size": 40, "add_bias_linear": False, "add_qkv_bias": True, "rmsnorm": True, "post_layer_norm": True,
}  # fmt: skip
GLM_1 = {
    "model_type": "chatglm", "architectures": ["ChatGLMModel"], "num_layers": 1, "hidden_size": 64, "inner_hidden_size": 256,
    "num_attention_heads": 4, "vocab_size": 40, "position_encoding_2d": True,
}  # fmt: skip
GLM_4V = {
    **GLM,
    "vision_config": {
        "hidden_size": 32, "in_channels": 3, "intermediate_size": 48, "num_heads": 4, "num_hidden_layers": 1,
        "num_positions": 17, "patch_size": 14,
    },
}  # fmt: skip
QWEN = {"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "kv_channels": 16, "no_bias": True, **SIZES}
QWEN_EARLY = {
    "model_type": "qwen", "architectures": ["QWenLMHeadModel"], "n_embd": 64, "n_layer": 1, "n_head": 4, "kv_channels": 16,
    "ffn_hidden_size": 96, "padded_vocab_size": 48, "vocab_size": 48, "no_bias": True,
}  # fmt: skip
BAICHUAN = {"model_type": "baichuan", "architectures": ["BaichuanForCausalLM"], **SIZES}
INTERNLM2 = {
    "model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "bias": False, **SIZES, "num_key_value_heads": 2,
}  # fmt: skip

T, L, M = "transformer.h.0.", "model.layers.0.", "transformer.encoder.layers.0."
Shapes = dict[str, tuple[int, int]]
# What it is, its config, target_modules, and the weight of each module that they mean (out, in).
CASES: list[tuple[str, dict[str, Any], Any, Shapes]] = [
    ("chatglm3, PEFT's default", GLM, None, {M + "self_attention.query_key_value": (128, 64)}),
    ("chatglm3, all linear layers", GLM, "all-linear", {
        M + "self_attention.query_key_value": (128, 64), M + "self_attention.dense": (64, 64),
        M + "mlp.dense_h_to_4h": (192, 64), M + "mlp.dense_4h_to_h": (64, 96), "transformer.output_layer": (40, 64)}),
    ("glm-4v", GLM_4V, ["query_key_value", "gate_proj"], {
        M + "self_attention.query_key_value": (128, 64), "transformer.vision.linear_proj.gate_proj": (96, 64),
        "transformer.vision.transformer.layers.0.attention.query_key_value": (96, 32)}),
    ("chatglm-6b, PEFT's default", GLM_1, None, {"transformer.layers.0.attention.query_key_value": (192, 64)}),
    ("chatglm-6b", GLM_1, ["dense_h_to_4h", "lm_head"], {
        "transformer.layers.0.mlp.dense_h_to_4h": (256, 64), "lm_head": (40, 64)}),
    ("qwen", QWEN, ["c_attn", "c_proj", "w1", "w2"], {
        T + "attn.c_attn": (192, 64), T + "attn.c_proj": (64, 64), T + "mlp.w1": (48, 64), T + "mlp.w2": (48, 64),
        T + "mlp.c_proj": (64, 48)}),
    ("qwen with the first config's names", QWEN_EARLY, ["c_attn", "w1"], {
        T + "attn.c_attn": (192, 64), T + "mlp.w1": (48, 64)}),
    ("baichuan", BAICHUAN, ["W_pack", "o_proj", "gate_proj", "lm_head"], {
        L + "self_attn.W_pack": (192, 64), L + "self_attn.o_proj": (64, 64), L + "mlp.gate_proj": (96, 64), "lm_head": (40, 64)}),
    ("baichuan 2, whose head is not linear", BAICHUAN | {"vocab_size": 125696}, "all-linear", {
        L + "self_attn.W_pack": (192, 64), L + "self_attn.o_proj": (64, 64), L + "mlp.gate_proj": (96, 64),
        L + "mlp.up_proj": (96, 64), L + "mlp.down_proj": (64, 96)}),
    ("internlm", {"model_type": "internlm", "architectures": ["InternLMForCausalLM"], "bias": True, **SIZES},
     ["q_proj", "down_proj"], {L + "self_attn.q_proj": (64, 64), L + "mlp.down_proj": (64, 96)}),
    ("internlm2", INTERNLM2, ["wqkv", "wo", "w1", "w2", "output"], {
        L + "attention.wqkv": (128, 64), L + "attention.wo": (64, 64), L + "feed_forward.w1": (96, 64),
        L + "feed_forward.w2": (64, 96), "output": (40, 64)}),
    ("internlm2, all linear layers", INTERNLM2, "all-linear", {
        L + "attention.wqkv": (128, 64), L + "attention.wo": (64, 64), L + "feed_forward.w1": (96, 64),
        L + "feed_forward.w2": (64, 96), L + "feed_forward.w3": (96, 64)}),
    ("internlm2 with a reward", INTERNLM2 | {"architectures": ["InternLM2ForRewardModel"]}, ["wo", "v_head"], {
        L + "attention.wo": (64, 64), "v_head": (1, 64)}),
    ("orion", {"model_type": "orion", "architectures": ["OrionForCausalLM"], **SIZES, "num_key_value_heads": 2},
     ["k_proj", "up_proj"], {L + "self_attn.k_proj": (32, 64), L + "mlp.up_proj": (96, 64)}),
    ("xverse", {"model_type": "xverse", "architectures": ["XverseForCausalLM"], **SIZES},
     ["k_proj", "up_proj"], {L + "self_attn.k_proj": (64, 64), L + "mlp.up_proj": (96, 64)}),
    ("yuan", {"model_type": "yuan", "architectures": ["YuanForCausalLM"], **SIZES}, ["q_proj", "v_proj"], {
        L + "self_attn.q_proj": (64, 64), L + "self_attn.v_proj": (64, 64)}),
    ("yuan with one projection for queries and keys", {"model_type": "yuan", "use_shareqk": True, **SIZES},
     ["qk_proj"], {L + "self_attn.qk_proj": (64, 64)}),
]  # fmt: skip
NAMES = [case[0] for case in CASES]


def _tensors(shapes: Shapes) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for path, (outputs, inputs) in shapes.items():
        found[f"base_model.model.{path}.lora_A.weight"] = ones(2, inputs)
        found[f"base_model.model.{path}.lora_B.weight"] = ones(outputs, 2)
    return found


def _check(folder: Path, base: dict[str, Any], shapes: Shapes, targets: Any) -> lora_packer.Report:
    settings = tiny_config(r=2, target_modules=targets, base_model_name_or_path="org/base")
    written = write_adapter(folder, _tensors(shapes), settings)
    return lora_packer.check(written, base_config=base, target="peft", weights=False)


@pytest.mark.parametrize(("base", "targets", "shapes"), [case[1:] for case in CASES], ids=NAMES)
def test_right_shapes_pass_and_the_report_says_how_the_base_is_known(
    tmp_path: Path, base: dict[str, Any], targets: Any, shapes: Shapes
) -> None:
    report = _check(tmp_path / "a", base, shapes, targets)
    assert [(item.code, item.severity) for item in report.findings] == [("LP324", "info")], report.findings
    proof = ARCHITECTURES[base["model_type"]].proof
    assert proof is not None
    assert proof.source in report.findings[0].message
    assert report.status == "ok"


@pytest.mark.parametrize(("base", "targets", "shapes"), [case[1:] for case in CASES], ids=NAMES)
def test_each_wrong_shape_fails(tmp_path: Path, base: dict[str, Any], targets: Any, shapes: Shapes) -> None:
    for number, (path, (outputs, inputs)) in enumerate(shapes.items()):
        wrong = {**shapes, path: (outputs + 8, inputs)}
        report = _check(tmp_path / str(number), base, wrong, targets)
        assert report.status == "failed"
        assert {item.code for item in report.findings if item.severity == "error"} <= {"LP301", "LP318"}, (
            report.findings
        )


@pytest.mark.parametrize("model_type", [name for name, item in ARCHITECTURES.items() if item.proof is not None])
def test_each_type_is_in_the_table_above(model_type: str) -> None:
    assert model_type in {case[1]["model_type"] for case in CASES}
    assert recorded(model_type)


@pytest.mark.parametrize("tower", ["visual", "audio"])
def test_a_first_qwen_with_a_tower_is_unknown(tower: str) -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match=tower):
        BaseModel.load({**QWEN, tower: {"width": 8}})


def test_a_task_without_a_class_in_the_repository_is_one_that_was_trained_otherwise() -> None:
    assert has_class("chatglm", "sequence-classification")
    assert not has_class("baichuan", "sequence-classification")
    assert has_class("baichuan", "causal-lm")


def test_a_classifier_of_chatglm_has_its_own_head() -> None:
    base = BaseModel.load(GLM).with_labels(3).with_head("sequence-classification")
    assert base.modules["classifier_head"].weight_shape == (3, 64)


def test_a_resized_vocabulary_of_chatglm_is_the_padded_one() -> None:
    base = BaseModel.load(GLM)
    assert base.with_vocab(48).vocab_size == 48
    assert base.vocab_size == 40


def test_the_bare_model_of_chatglm_has_its_output_layer_inside() -> None:
    modules = BaseModel.load(GLM).with_head("none").modules
    assert modules["output_layer"].weight_shape == (40, 64)
    assert "encoder.layers.0.self_attention.dense" in modules
