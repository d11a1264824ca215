"""Mixtures of experts, latent attention and hybrids: modules from configs, against dimensions that are public knowledge."""

from __future__ import annotations

from typing import Any

import pytest

import lora_packer
from lora_packer import BaseModel

QWEN3_30B_A3B = {
    "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "moe_intermediate_size": 768,
}  # fmt: skip
QWEN3_NEXT_80B_A3B = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 256, "num_experts": 512, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512, "full_attention_interval": 4,
}  # fmt: skip
GPT_OSS_20B = {
    "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
    "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
    "num_local_experts": 32,
}  # fmt: skip
DEEPSEEK_V3 = {"model_type": "deepseek_v3", "num_hidden_layers": 61, "first_k_dense_replace": 3}
KIMI_K2 = {
    "model_type": "kimi_k2", "architectures": ["DeepseekV3ForCausalLM"], "vocab_size": 163840,
    "num_attention_heads": 64, "n_routed_experts": 384, "first_k_dense_replace": 1,
}  # fmt: skip
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16,
    "q_lora_rank": None, "kv_lora_rank": 512, "first_k_dense_replace": 1, "moe_intermediate_size": 1408,
}  # fmt: skip
NEMOTRON_H = {
    "model_type": "nemotron_h", "hidden_size": 4480, "num_attention_heads": 40, "num_key_value_heads": 8,
    "head_dim": 128, "intermediate_size": 15680, "mamba_num_heads": 128, "mamba_head_dim": 80, "ssm_state_size": 128,
    "n_groups": 8, "num_hidden_layers": 4, "hybrid_override_pattern": "M-M*",
}  # fmt: skip
MAMBA_2_8B = {"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "time_step_rank": 160}
LFM2_1_2B = {
    "model_type": "lfm2", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "block_ff_dim": 12288, "full_attn_idxs": [2, 5, 8, 10, 12, 14],
}  # fmt: skip
LAYER_0, LAYER_3 = "model.layers.0.", "model.layers.3."


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        (QWEN3_30B_A3B, {
            LAYER_0 + "self_attn.q_proj": (4096, 2048), LAYER_0 + "self_attn.k_proj": (512, 2048),
            LAYER_0 + "mlp.experts.gate_up_proj": (128, 1536, 2048), LAYER_0 + "mlp.gate.weight": (128, 2048)},
         LAYER_0 + "mlp.gate_proj"),
        (QWEN3_NEXT_80B_A3B, {
            LAYER_0 + "linear_attn.in_proj_qkvz": (12288, 2048), LAYER_0 + "linear_attn.conv1d": (8192, 1, 4),
            LAYER_3 + "self_attn.q_proj": (8192, 2048), LAYER_3 + "mlp.shared_expert.up_proj": (512, 2048)},
         LAYER_3 + "linear_attn.out_proj"),
        (GPT_OSS_20B, {
            LAYER_0 + "self_attn.q_proj": (4096, 2880), LAYER_0 + "mlp.experts.gate_up_proj": (32, 2880, 5760),
            LAYER_0 + "mlp.router.weight": (32, 2880)}, LAYER_0 + "mlp.gate.weight"),
        (DEEPSEEK_V3, {
            LAYER_0 + "self_attn.q_b_proj": (24576, 1536), LAYER_0 + "self_attn.kv_a_proj_with_mqa": (576, 7168),
            LAYER_0 + "mlp.up_proj": (18432, 7168), LAYER_3 + "mlp.experts.down_proj": (256, 7168, 2048)},
         LAYER_3 + "mlp.up_proj"),
        (KIMI_K2, {
            LAYER_0 + "self_attn.q_b_proj": (12288, 1536), LAYER_3 + "mlp.experts.down_proj": (384, 7168, 2048),
            "lm_head": (163840, 7168)}, "model.layers.1.mlp.up_proj"),
        (DEEPSEEK_V2_LITE, {LAYER_0 + "self_attn.q_proj": (3072, 2048)}, LAYER_0 + "self_attn.q_a_proj"),
        (NEMOTRON_H, {
            LAYER_0 + "mixer.in_proj": (22656, 4480), LAYER_0 + "mixer.out_proj": (4480, 10240),
            "model.layers.1.mixer.up_proj": (15680, 4480), LAYER_3 + "mixer.q_proj": (5120, 4480)},
         "model.layers.4.norm.weight"),
        (MAMBA_2_8B, {
            "backbone.layers.63.mixer.in_proj": (10240, 2560), "backbone.layers.63.mixer.x_proj": (192, 5120),
            "backbone.embeddings": (50280, 2560)}, "model.embed_tokens"),
        (LFM2_1_2B, {
            LAYER_0 + "conv.in_proj": (6144, 2048), "model.layers.2.self_attn.k_proj": (512, 2048),
            LAYER_0 + "feed_forward.w1": (8192, 2048)}, "model.layers.2.conv.in_proj"),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else None,
)  # fmt: skip
def test_modules_of_well_known_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules


@pytest.mark.parametrize(
    ("config", "path", "kind", "shape"),
    [
        (QWEN3_30B_A3B, LAYER_0 + "mlp.experts.127.down_proj", "linear", (2048, 768)),
        (QWEN3_30B_A3B, LAYER_0 + "mlp.gate", "linear", (128, 2048)),
        (KIMI_K2, LAYER_3 + "mlp.experts.383.gate_proj", "linear", (2048, 7168)),
        (KIMI_K2, LAYER_3 + "mlp.gate.weight", "parameter", (384, 7168)),
        ({"model_type": "phimoe"}, LAYER_0 + "block_sparse_moe.experts.15.w2", "linear", (4096, 6400)),
        ({"model_type": "jamba"}, LAYER_3 + "feed_forward.experts.15.up_proj", "linear", (14336, 4096)),
        ({"model_type": "granitemoe"}, LAYER_0 + "block_sparse_moe.router.layer", "linear", (8, 4096)),
    ],
)
def test_experts_before_transformers_5(config: dict[str, Any], path: str, kind: str, shape: tuple[int, ...]) -> None:
    base = BaseModel.load(config)
    module = base.dialects["transformers-4"][path]
    assert (module.kind, module.weight_shape) == (kind, shape)
    assert base.dialects["transformers-5"].get(path) in (None, module)


def test_gpt_oss_stores_its_experts_transposed() -> None:
    modules = BaseModel.load(GPT_OSS_20B).modules
    assert modules[LAYER_0 + "mlp.experts.down_proj"].transposed
    assert not BaseModel.load(QWEN3_30B_A3B).modules[LAYER_0 + "mlp.experts.down_proj"].transposed
    assert {modules[LAYER_0 + f"self_attn.{name}_proj"].bias for name in "qkvo"} == {True}


def test_layers_of_glm_5_share_an_indexer() -> None:
    config = {"model_type": "glm_moe_dsa", "index_topk_freq": 4, "index_skip_topk_offset": 3}
    modules = BaseModel.load(config).modules
    indexed = [layer for layer in range(12) if f"model.layers.{layer}.self_attn.indexer.wk" in modules]
    assert indexed == [0, 1, 2, 6, 10]


@pytest.mark.parametrize(
    ("config", "experts"),
    [
        ({"model_type": "mixtral", "num_experts": 4}, 4),
        ({"model_type": "qwen3_moe", "num_local_experts": 6}, 6),
        ({"model_type": "qwen3_moe", "num_local_experts": 6, "num_experts": 4}, 6),
        ({"model_type": "deepseek_v3", "first_k_dense_replace": 0, "num_local_experts": 8}, 8),
        ({"model_type": "glm_moe_dsa", "first_k_dense_replace": 0, "num_experts": 8}, 8),
    ],
)
def test_the_number_of_experts_has_two_names(config: dict[str, Any], experts: int) -> None:
    assert BaseModel.load(config).modules[LAYER_0 + "mlp.gate.weight"].weight_shape[0] == experts


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"}, "letters M, E"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": 7}, "letters M, E"),
        ({"model_type": "qwen3_next", "layer_types": "full_attention"}, "layer_types is not a list"),
        ({"model_type": "deepseek_v32", "mlp_layer_types": [1]}, "mlp_layer_types is not a list"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": 3}, "mlp_only_layers is not a list"),
        ({"model_type": "qwen3_moe", "decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        ({"model_type": "dots1"}, "n_routed_experts is None"),
        ({"model_type": "jamba", "mamba_dt_rank": "many"}, "mamba_dt_rank is 'many'"),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(config)


def test_layers_beyond_a_listed_pattern_follow_the_default() -> None:
    config = {**QWEN3_NEXT_80B_A3B, "num_hidden_layers": 4, "layer_types": ["full_attention", "linear_attention"]}
    modules = BaseModel.load(config).modules
    assert LAYER_0 + "self_attn.q_proj" in modules
    assert LAYER_3 + "self_attn.q_proj" in modules
    assert "model.layers.2.linear_attn.out_proj" in modules
