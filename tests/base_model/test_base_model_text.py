"""Text decoders that came with transformers 5, and older ones apart: modules from configs, against public dimensions."""

from __future__ import annotations

from typing import Any

import pytest

import lora_packer
from lora_packer import BaseModel
from lora_packer.base_model import ARCHITECTURES
from lora_packer.base_model.settings import Settings

MINICPM3_4B = {"model_type": "minicpm3", "hidden_size": 2560, "num_hidden_layers": 62, "num_attention_heads": 40}
GEMMA_3N_E4B = {"model_type": "gemma3n_text", "intermediate_size": [16384] * 35}
KIMI_LINEAR_48B = {
    "model_type": "kimi_linear", "hidden_size": 2304, "num_hidden_layers": 27, "num_experts": 256, "num_attention_heads": 32,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32, "short_conv_kernel_size": 4,
        "kda_layers": [number for number in range(1, 27) if number % 4],
    },
}  # fmt: skip
MINIMAX_M3 = {
    "model_type": "minimax_m3_vl_text", "moe_layer_freq": [0, 0, 0] + [1] * 57,
    "sparse_attention_config": {"sparse_attention_freq": [0, 0, 0] + [1] * 57, "sparse_index_dim": 128},
}  # fmt: skip
BLT_1B = {"model_type": "blt"}
RWKV_4_169M = {"model_type": "rwkv", "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 50277}
XLSTM_7B = {"model_type": "xlstm"}
ZAMBA_7B = {"model_type": "zamba"}
GPT_SW3_126M = {"model_type": "gpt-sw3", "n_embd": 768, "n_layer": 12, "vocab_size": 64000}
QWEN4 = {
    "model_type": "qwen4_exp_text", "num_hidden_layers": 4, "ple_layer_ids": [3, 1], "indexer_n_heads": 8,
    "indexer_kv_heads": 1, "indexer_head_dim": 128,
}  # fmt: skip
LAYER_0, LAYER_3 = "model.layers.0.", "model.layers.3."
KIMI_K2 = {"model_type": "kimi_k2", "num_hidden_layers": 2, "architectures": ["DeepseekV3ForCausalLM"]}


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        (MINICPM3_4B, {
            LAYER_0 + "self_attn.q_b_proj": (3840, 768), LAYER_0 + "self_attn.kv_b_proj": (5120, 256),
            LAYER_0 + "self_attn.o_proj": (2560, 2560)}, LAYER_0 + "self_attn.q_proj"),
        (GEMMA_3N_E4B, {
            "model.embed_tokens_per_layer": (262144, 8960), LAYER_0 + "altup.prediction_coefs": (16, 4),
            "model.layers.19.self_attn.k_proj": (512, 2048)}, "model.layers.20.self_attn.k_proj"),
        (KIMI_LINEAR_48B, {
            LAYER_0 + "self_attn.forget_gate.f_b_proj": (4096, 128), LAYER_3 + "self_attn.kv_b_proj": (8192, 512),
            "model.layers.26.self_attn.kv_a_proj_with_mqa": (576, 2304),
            LAYER_3 + "mlp.experts.down_proj": (256, 2304, 1024)}, LAYER_3 + "self_attn.conv1d"),
        (MINIMAX_M3, {
            LAYER_0 + "mlp.gate_up_proj": (24576, 6144), LAYER_3 + "self_attn.indexer.q_proj": (512, 6144),
            LAYER_3 + "mlp.shared_experts.down_proj": (6144, 3072)}, LAYER_0 + "self_attn.indexer.q_proj"),
        (BLT_1B, {
            "model.local_encoder.embed_tokens": (260, 1024), "model.encoder_hash_tok_embedding": (3000012, 1024),
            "model.global_transformer.layers.24.mlp.up_proj": (5632, 2048)},
         "model.global_transformer.token_embedding_projection"),
        (RWKV_4_169M, {
            "rwkv.blocks.11.attention.receptance": (768, 768), "rwkv.blocks.0.feed_forward.key": (3072, 768),
            "rwkv.blocks.0.pre_ln.weight": (768,), "head": (50277, 768)}, "rwkv.blocks.1.pre_ln.weight"),
        (XLSTM_7B, {
            "backbone.blocks.31.mlstm_layer.q": (2048, 4096), "backbone.blocks.0.ffn.proj_up": (10944, 4096)},
         "backbone.blocks.0.ffn.proj_up_gate_z"),
        (ZAMBA_7B, {
            "model.layers.2.shared_transf.self_attn.o_proj": (3712, 7424),
            LAYER_0 + "mamba.x_proj_weight": (2, 264, 3712)}, LAYER_0 + "linear"),
        (GPT_SW3_126M, {"transformer.h.11.attn.c_attn": (768, 2304), "transformer.wte": (64000, 768)}, "score"),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else None,
)  # fmt: skip
def test_modules_of_well_known_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules


def test_transformers_4_kept_the_keys_that_gemma_3n_shares() -> None:
    base = BaseModel.load(GEMMA_3N_E4B)
    path = "model.layers.34.self_attn.v_proj"
    assert path not in base.modules
    assert base.dialects["transformers-4"][path].weight_shape == (512, 2048)


def test_aria_stores_its_experts_transposed_under_two_names() -> None:
    base = BaseModel.load({"model_type": "aria_text", "num_hidden_layers": 1})
    assert base.modules[LAYER_0 + "mlp.experts.gate_up_proj"].transposed
    older = base.dialects["transformers-4"]
    assert older[LAYER_0 + "mlp.router"].kind == "linear"
    assert older[LAYER_0 + "mlp.experts.fc1.weight"].weight_shape == (8, 4096, 8192)


def test_embeddings_of_n_grams_have_prime_numbers_of_rows() -> None:
    """The first sixteen primes from twenty million on belong to the first layer that has such embeddings."""
    modules = BaseModel.load(QWEN4).modules
    first, second = (modules[f"model.layers.{layer}.ple.ple_embedding.ngram_embedding"] for layer in (0, 2))
    assert first.weight_shape == (-(-sum(_primes(20_000_000, 16)) // 128) * 128, 128)
    assert second.weight_shape == (-(-sum(_primes(20_000_000, 32)[16:]) // 128) * 128, 128)
    assert "model.layers.1.ple.key_proj" not in modules
    assert modules[LAYER_3 + "self_attn.indexer.index_qk_proj"].weight_shape == (1152, 2048)


def _primes(start: int, count: int) -> list[int]:
    """The first primes from a number on, by trial division."""
    found: list[int] = []
    while len(found) < count:
        if all(start % divisor for divisor in range(2, int(start**0.5) + 1)):
            found.append(start)
        start += 1
    return found


def test_heads_may_differ_between_layers() -> None:
    config = {"model_type": "laguna", "num_hidden_layers": 2, "num_attention_heads_per_layer": [48, 64]}
    modules = BaseModel.load({**config, "gating": "per-element"}).modules
    assert [modules[f"model.layers.{layer}.self_attn.g_proj"].weight_shape[0] for layer in (0, 1)] == [6144, 8192]
    modules = BaseModel.load(config).modules
    assert modules["model.layers.1.self_attn.g_proj"].weight_shape == (64, 2048)


@pytest.mark.parametrize("head", ["DeepseekV3ForCausalLM", "DeepseekV3ForSequenceClassification", None])
def test_kimi_k2_is_read_as_the_class_it_names(head: str | None) -> None:
    config = {**KIMI_K2, "architectures": head and [head]}
    assert BaseModel.load(config).modules == BaseModel.load({**config, "model_type": "deepseek_v3"}).modules


@pytest.mark.parametrize(
    "config",
    [
        {**KIMI_K2, "architectures": ["KimiK2ForCausalLM"]},
        {"model_type": "moshi", "architectures": ["MoshiForConditionalGeneration"]},
    ],
)
def test_a_class_that_the_definition_does_not_describe_is_unknown(config: dict[str, Any]) -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match=config["architectures"][0]):
        BaseModel.load(config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**QWEN4, "heads_per_ngram": 10**9}, "hashed n-gram heads"),
        ({**QWEN4, "ngram_vocab_size_base": "many"}, "ngram_vocab_size_base is 'many'"),
        ({"model_type": "qwen4_exp_text"}, "indexer_head_dim is None"),
        ({"model_type": "laguna", "num_attention_heads_per_layer": 48}, "num_attention_heads_per_layer is not a list"),
        ({"model_type": "laguna", "num_attention_heads_per_layer": [-1]}, "num_attention_heads_per_layer is -1"),
        ({"model_type": "axk1", "moe_layer_freq": 0}, "moe_layer_freq is 0"),
        ({"model_type": "xlstm", "weight_mode": "folded"}, "weight_mode is neither"),
        ({"model_type": "gemma3n_text", "intermediate_size": ["wide"]}, "intermediate_size is 'wide'"),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(config)


def test_no_definition_yields_a_path_twice() -> None:
    """The limit on the number of modules counts paths."""
    for model_type, architecture in ARCHITECTURES.items():
        settings = Settings({"model_type": model_type, "num_hidden_layers": 2}, architecture.defaults)
        for build in architecture.dialects.values():
            try:
                paths = [path for path, _ in build(settings, "causal-lm")]
            except lora_packer.LoraPackerError:
                continue  # some types need more than the class default
            assert len(paths) == len(set(paths)), model_type
