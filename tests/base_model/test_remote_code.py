"""Types whose code is in their own repositories: an adapter with the right shapes passes, one with a wrong one fails.

The configs have the fields of the published ones (THUDM/chatglm3-6b, Qwen/Qwen-7B and so on), with smaller sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ones, tiny_config, write_adapter
from remote_cases import CASES as MORE
from remote_cases import UNKNOWN

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

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28,
       "patch_size": 14}  # fmt: skip
INTERNVL = {
    "model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "downsample_ratio": 0.5, "llm_config": INTERNLM2,
    "vision_config": {**VIT, "norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True},
}  # fmt: skip
MOE = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "head_dim": 16,
}
MINICPM = {"model_type": "minicpm", "architectures": ["MiniCPMForCausalLM"], **SIZES, "num_key_value_heads": 2}
MINICPMV = {
    "model_type": "minicpmv", "architectures": ["MiniCPMV"], **SIZES, "num_key_value_heads": 2, "version": 2.6,
    "query_num": 4, "drop_vision_last_layer": True, "vision_config": VIT,
}  # fmt: skip
PHI3_V = {
    "model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"], **SIZES, "num_key_value_heads": 2,
    "embd_layer": {"projection_cls": "mlp", "use_hd_transform": True, "with_learnable_separator": True},
    "img_processor": {"image_dim_out": 1024, "name": "clip_vision_model"},
}  # fmt: skip
GPT = {"n_embd": 64, "n_head": 4, "n_layer": 1, "vocab_size": 40}
RW = {"hidden_size": 64, "n_head": 4, "n_layer": 1, "parallel_attn": True, "vocab_size": 40}
SEARCHED = {
    "model_type": "nemotron-nas", "architectures": ["DeciLMForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
    "num_hidden_layers": 2, "vocab_size": 40, "block_configs": [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"no_op": True}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.3125}}],
}  # fmt: skip
VL2 = {
    "model_type": "deepseek_vl_v2", "tile_tag": "2D", "projector_config": {"input_dim": 32, "n_embed": 64},
    "vision_config": {"width": 32, "layers": 1, "patch_size": 14, "image_size": 28, "mlp_ratio": 3.7362},
    "language_config": {**SIZES, "num_hidden_layers": 2, "num_key_value_heads": 2, "use_mla": False, "n_routed_experts": 2,
                        "n_shared_experts": 2, "moe_intermediate_size": 24, "first_k_dense_replace": 1},
}  # fmt: skip

MINIMIND = {
    "model_type": "minimind", "architectures": ["MiniMindLM"], "dim": 64, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2,
    "n_layers": 1, "vocab_size": 40,
}  # fmt: skip
KIMI_VL = {
    "model_type": "kimi_vl", "vision_config": VIT, "text_config": {
        **SIZES, "kv_lora_rank": 16, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "first_k_dense_replace": 1, "n_routed_experts": 2, "moe_layer_freq": 1},
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
    ("deci", {"model_type": "deci", "architectures": ["DeciLMForCausalLM"], **SIZES, "num_key_value_heads_per_layer": [1]},
     ["q_proj", "v_proj"], {L + "self_attn.q_proj": (64, 64), L + "self_attn.v_proj": (16, 64)}),
    ("nemotron-nas", SEARCHED, ["v_proj", "up_proj"], {
        L + "self_attn.v_proj": (32, 64), "model.layers.1.mlp.up_proj": (256, 64)}),
    ("mimo", {"model_type": "mimo", **SIZES, "num_key_value_heads": 4, "num_nextn_predict_layers": 1}, ["k_proj", "input_proj"], {
        L + "self_attn.k_proj": (64, 64), "model.mtp_layers.0.self_attn.k_proj": (64, 64),
        "model.mtp_layers.0.input_proj": (64, 128)}),
    ("minicpm", MINICPM, ["k_proj", "gate_proj"], {L + "self_attn.k_proj": (32, 64), L + "mlp.gate_proj": (96, 64)}),
    ("minicpm with experts", MINICPM | {"num_experts": 2}, ["w1", "gate"], {
        L + "mlp.experts.0.w1": (96, 64), L + "mlp.experts.1.w1": (96, 64), L + "mlp.gate": (2, 64)}),
    ("deepseek", {"model_type": "deepseek", **SIZES, "num_hidden_layers": 2, "first_k_dense_replace": 1,
                  "n_routed_experts": 2, "n_shared_experts": 2, "moe_intermediate_size": 24}, ["up_proj"], {
        L + "mlp.up_proj": (96, 64), "model.layers.1.mlp.experts.0.up_proj": (24, 64),
        "model.layers.1.mlp.experts.1.up_proj": (24, 64), "model.layers.1.mlp.shared_experts.up_proj": (48, 64)}),
    ("falcon-40b", {"model_type": "RefinedWeb", "architectures": ["RWForCausalLM"], **RW, "n_head_kv": 2}, None, {
        T + "self_attention.query_key_value": (128, 64)}),
    ("falcon-7b", {"model_type": "RefinedWebModel", "architectures": ["RWForCausalLM"], **RW, "multi_query": True}, None, {
        T + "self_attention.query_key_value": (96, 64)}),
    ("phi-2", {"model_type": "phi-msft", "architectures": ["PhiForCausalLM"], **GPT}, ["Wqkv", "fc1", "linear"], {
        T + "mixer.Wqkv": (192, 64), T + "mlp.fc1": (256, 64), "lm_head.linear": (64, 64)}),
    ("phi-1.5", {"model_type": "mixformer-sequential", **GPT}, ["Wqkv", "out_proj"], {
        "layers.1.mixer.Wqkv": (192, 64), "layers.1.mixer.out_proj": (64, 64)}),
    ("phi3small", {"model_type": "phi3small", **SIZES, "ff_intermediate_size": 96, "num_key_value_heads": 2},
     ["query_key_value", "up_proj", "dense"], {L + "self_attn.query_key_value": (128, 64), L + "self_attn.dense": (64, 64),
                                               L + "mlp.up_proj": (192, 64)}),
    ("phi4", {"model_type": "phi4", "architectures": ["Phi3ForCausalLM"], **SIZES, "num_key_value_heads": 2},
     ["qkv_proj"], {L + "self_attn.qkv_proj": (128, 64)}),
    ("phi3_v", PHI3_V, ["qkv_proj", "img_projection.0"], {
        L + "self_attn.qkv_proj": (128, 64), "model.vision_embed_tokens.img_projection.0": (64, 4096)}),
    ("internvl_chat", INTERNVL, ["wqkv", "qkv", "3"], {
        "language_model." + L + "attention.wqkv": (128, 64), "mlp1.3": (64, 64),
        "vision_model.encoder.layers.0.attn.qkv": (96, 32), "vision_model.encoder.layers.1.attn.qkv": (96, 32)}),
    ("h2ovl_chat", INTERNVL | {"model_type": "h2ovl_chat", "architectures": ["H2OVLChatModel"]}, ["wo", "mlp1.1"], {
        "language_model." + L + "attention.wo": (64, 64), "mlp1.1": (64, 128)}),
    ("nvlm", INTERNVL | {"model_type": "NVLM_D", "architectures": ["NVLM_D"]}, ["wo", "mlp1.1"], {
        "language_model." + L + "attention.wo": (64, 64), "mlp1.1": (96, 128)}),
    ("molmo", {"model_type": "molmo", **SIZES, "num_key_value_heads": 2, "embedding_size": 40, "qkv_bias": True},
     ["att_proj", "ff_out", "w3"], {
        "model.transformer.blocks.0.att_proj": (128, 64), "model.transformer.blocks.0.ff_out": (64, 48),
        "model.transformer.ff_out": (40, 64), "model.vision_backbone.image_projector.w3": (48, 1024)}),
    ("kimi_vl", KIMI_VL, ["wqkv", "q_proj", "linear_2", "gate_proj"], {
        "vision_tower.encoder.blocks.0.wqkv": (96, 32), "vision_tower.encoder.blocks.1.wqkv": (96, 32),
        "multi_modal_projector.linear_2": (64, 128), "language_model." + L + "self_attn.q_proj": (96, 64),
        "language_model." + L + "mlp.gate_proj": (96, 64)}),
    ("telechat", {"model_type": "telechat", "n_layer": 1, "n_head": 4, "hidden_size": 64, "ffn_hidden_size": 96,
                  "vocab_size": 40}, ["key_value", "gate_proj"], {
        T + "self_attention.key_value": (128, 64), T + "mlp.gate_proj": (96, 64)}),
    ("minimind, all linear layers", MINIMIND, "all-linear", {
        "layers.0.attention.wq": (64, 64), "layers.0.attention.wk": (32, 64), "layers.0.attention.wv": (32, 64),
        "layers.0.attention.wo": (64, 64), "layers.0.feed_forward.w1": (96, 64), "layers.0.feed_forward.w2": (64, 96),
        "layers.0.feed_forward.w3": (96, 64), "output": (40, 64)}),
    ("phi-2, all linear layers", {"model_type": "phi-msft", **GPT}, "all-linear", {
        T + "mixer.Wqkv": (192, 64), T + "mixer.out_proj": (64, 64), T + "mlp.fc1": (256, 64), T + "mlp.fc2": (64, 256)}),
    ("TeleFLM", {"model_type": "TeleFLM", **SIZES}, ["v_proj"], {L + "self_attn.v_proj": (64, 64)}),
    ("solar", {"model_type": "solar", **SIZES, "num_key_value_heads": 2}, ["v_proj"], {L + "self_attn.v_proj": (32, 64)}),
    ("minimind", MINIMIND, ["wk", "w1", "output"], {
        "layers.0.attention.wk": (32, 64), "layers.0.feed_forward.w1": (96, 64), "output": (40, 64)}),
    ("minicpmv 2.6", MINICPMV, ["q_proj", "kv_proj"], {
        "llm." + L + "self_attn.q_proj": (64, 64), "vpm.encoder.layers.0.self_attn.q_proj": (32, 32),
        "resampler.kv_proj": (64, 32)}),
    ("minicpmv 2.0", {"model_type": "minicpmv", "architectures": ["MiniCPMV"], **SIZES, "query_num": 4,
                      "vision_encoder": "vit_so400m_patch14_siglip_384.webli"}, ["q_proj", "kv_proj"], {
        "llm." + L + "self_attn.q_proj": (64, 64), "resampler.kv_proj": (64, 1152)}),
    ("deepseek_vl_v2", VL2, ["qkv", "o_proj", "gate_proj", "layers.2"], {
        "vision.blocks.0.attn.qkv": (96, 32), "projector.layers.2": (64, 64),
        "language." + L + "self_attn.o_proj": (64, 64), "language.model.layers.1.self_attn.o_proj": (64, 64),
        "language." + L + "mlp.gate_proj": (96, 64), "language.model.layers.1.mlp.experts.0.gate_proj": (24, 64),
        "language.model.layers.1.mlp.experts.1.gate_proj": (24, 64),
        "language.model.layers.1.mlp.shared_experts.gate_proj": (48, 64)}),
    *MORE,
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
    defaults = ARCHITECTURES[model_type].defaults
    assert isinstance(defaults, str)
    assert recorded(defaults) is not None


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


def test_internvl_holds_a_mixture_under_the_names_of_either_transformers() -> None:
    base = BaseModel.load(INTERNVL | {"llm_config": {"model_type": "qwen3_moe", **SIZES, **MOE}})
    assert "language_model.model.layers.0.mlp.experts.gate_up_proj" in base.modules
    assert "language_model.model.layers.0.mlp.experts.1.gate_proj" in base.dialects["transformers-4"]


@pytest.mark.parametrize(
    ("base", "says"),
    [
        (INTERNVL | {"use_llm_lora": 16}, "LoRA in itself"),
        (MINICPMV | {"version": 9.9}, "MiniCPM-V 9.9"),
        ({**MINICPMV, "version": None}, "vision_encoder"),
        (VL2 | {"tile_tag": "1D"}, "tile_tag"),
        (VL2 | {"projector_config": {"projector_type": "identity"}}, "projector_type"),
        (PHI3_V | {"img_processor": {"name": "other"}}, "img_processor"),
        (SEARCHED | {"block_configs": [{"attention": {"replace_with_linear": True}}] * 2}, "linear layer"),
        *UNKNOWN,
    ],
)
def test_what_nobody_has_read_is_unknown(base: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match=says):
        BaseModel.load(base)


def test_each_layer_of_a_searched_decoder_has_to_be_listed() -> None:
    with pytest.raises(lora_packer.InputError, match="block_configs"):
        BaseModel.load(SEARCHED | {"block_configs": []})


def test_the_first_llava_has_transformers_type_and_names_of_its_own(tmp_path: Path) -> None:
    config = next(case[1] for case in CASES if case[0] == "llava_llama") | {"model_type": "llava"}
    base = BaseModel.load(config)
    assert base.model_type == "llava_llama"
    assert base.modules["model.layers.0.self_attn.q_proj"].weight_shape == (64, 64)
    shapes = {L + "self_attn.q_proj": (64, 64)}
    report = _check(tmp_path / "a", config, shapes, ["q_proj"])
    assert [(item.code, item.severity) for item in report.findings] == [("LP324", "info")], report.findings


def test_an_adapter_that_was_trained_before_the_tower_was_loaded_fits(tmp_path: Path) -> None:
    config = next(case[1] for case in CASES if case[0] == "llava_qwen with its tower")
    report = _check(tmp_path / "a", config, {L + "self_attn.k_proj": (64, 64)}, ["k_proj"])
    assert report.status == "ok", report.findings
