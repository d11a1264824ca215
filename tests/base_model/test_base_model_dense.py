"""Dense decoders: dimensions of well-known models, names of older transformers, aliases and legacy fields."""

from __future__ import annotations

from typing import Any

import pytest

import lora_packer
from lora_packer import BaseModel

LAYER, H = "model.layers.0.", "transformer.h.0."

# What the models' own config.json files say, as far as it decides shapes.
GPT2_XL = {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024, "vocab_size": 50257}
OPT_350M = {
    "model_type": "opt", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096,
    "max_position_embeddings": 2048, "vocab_size": 50272, "word_embed_proj_dim": 512, "do_layer_norm_before": False,
}  # fmt: skip
BLOOM_560M = {
    "model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "vocab_size": 250880,
}  # fmt: skip
FALCON_40B = {
    "model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8,
    "new_decoder_architecture": True, "multi_query": True, "parallel_attn": True, "bias": False, "vocab_size": 65024,
}  # fmt: skip
PYTHIA_1B = {
    "model_type": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 8, "vocab_size": 50304,
}  # fmt: skip
STARCODER = {
    "model_type": "gpt_bigcode", "n_embd": 6144, "n_inner": 24576, "n_layer": 40, "n_head": 48, "n_positions": 8192,
    "multi_query": True, "vocab_size": 49152,
}  # fmt: skip
OLMO_3_32B = {
    "model_type": "olmo3", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
    "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 100278,
}  # fmt: skip
GEMMA_3_1B = {
    "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
}  # fmt: skip
PHI_3_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "modules", "shapes"),
    [
        (PHI_3_MINI, 195, {
            LAYER + "self_attn.qkv_proj": (9216, 3072), LAYER + "mlp.gate_up_proj": (16384, 3072),
            LAYER + "mlp.down_proj": (3072, 8192)}),
        (GEMMA_3_1B, 341, {
            LAYER + "self_attn.q_proj": (1024, 1152), LAYER + "self_attn.k_proj": (256, 1152),
            LAYER + "self_attn.k_norm.weight": (256,), LAYER + "post_feedforward_layernorm.weight": (1152,)}),
        (OLMO_3_32B, 707, {
            LAYER + "self_attn.k_proj": (1024, 5120), LAYER + "self_attn.k_norm.weight": (1024,),
            LAYER + "mlp.down_proj": (5120, 27648)}),
        (GPT2_XL, 389, {
            "transformer.wpe": (1024, 1600), H + "attn.c_attn": (1600, 4800), H + "mlp.c_proj": (6400, 1600),
            "lm_head": (50257, 1600)}),
        (STARCODER, 325, {H + "attn.c_attn": (6400, 6144), H + "mlp.c_fc": (24576, 6144)}),
        (PYTHIA_1B, 132, {
            "gpt_neox.embed_in": (50304, 2048), "gpt_neox.layers.15.attention.query_key_value": (6144, 2048),
            "gpt_neox.layers.0.mlp.dense_4h_to_h": (2048, 8192)}),
        (BLOOM_560M, 198, {
            "transformer.word_embeddings": (250880, 1024), H + "self_attention.query_key_value": (3072, 1024),
            H + "mlp.dense_h_to_4h": (4096, 1024)}),
        (FALCON_40B, 484, {
            H + "self_attention.query_key_value": (9216, 8192), H + "ln_mlp.bias": (8192,),
            H + "mlp.dense_h_to_4h": (32768, 8192)}),
        (OPT_350M, 245, {
            "model.decoder.embed_tokens": (50272, 512), "model.decoder.embed_positions": (2050, 1024),
            "model.decoder.project_in": (1024, 512), "model.decoder.layers.0.fc1": (4096, 1024),
            "lm_head": (50272, 512)}),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) and "model_type" in value else "",
)  # fmt: skip
def test_modules_of_well_known_models(config: dict[str, Any], modules: int, shapes: dict[str, tuple[int, ...]]) -> None:
    base = BaseModel.load(config)
    assert len(base.modules) == modules
    assert {path: base.modules[path].weight_shape for path in shapes} == shapes


def test_gpt2_stores_its_projections_the_other_way_round() -> None:
    module = BaseModel.load(GPT2_XL).modules[H + "attn.c_attn"]
    assert (module.kind, module.in_features, module.out_features, module.bias) == ("conv1d", 1600, 4800, True)


def test_the_head_is_that_of_the_class() -> None:
    assert BaseModel.load({**GPT2_XL, "architectures": ["GPT2LMHeadModel"]}).head == "causal-lm"
    bare = BaseModel.load({**GPT2_XL, "architectures": ["GPT2Model"]})
    assert (bare.head, bare.input_embedding) == ("none", "wte")
    labels = BaseModel.load({**GPT2_XL, "num_labels": 5}).with_head("token-classification")
    assert labels.modules["classifier"].weight_shape == (5, 1600)


def test_older_transformers_named_the_head_of_gpt_neox_otherwise() -> None:
    base = BaseModel.load(PYTHIA_1B)
    assert "lm_head" in base.modules
    assert "embed_out" not in base.modules
    assert base.dialects["transformers-4"]["embed_out"].weight_shape == (50304, 2048)


@pytest.mark.parametrize(
    ("config", "path", "shape"),
    [
        # An alias means the same, and wins over the name.
        ({"model_type": "gpt2", "hidden_size": 32}, H + "attn.c_proj", (32, 32)),
        ({"model_type": "gpt2", "hidden_size": 32, "n_embd": 64}, H + "attn.c_proj", (32, 32)),
        ({"model_type": "mpt", "hidden_size": 64}, "transformer.blocks.23.attn.Wqkv", (192, 64)),
        ({"model_type": "xglm", "num_hidden_layers": 30}, "model.layers.29.fc1", (4096, 1024)),
        # Fields that are null, or that the config class does not declare.
        ({"model_type": "bloom", "n_embed": None, "hidden_size": 128}, H + "mlp.dense_h_to_4h", (512, 128)),
        ({"model_type": "falcon", "ffn_hidden_size": None}, H + "mlp.dense_h_to_4h", (18176, 4544)),
        ({"model_type": "granite", "num_key_value_heads": None}, LAYER + "self_attn.k_proj", (4096, 4096)),
        ({"model_type": "olmo2", "head_dim": 64}, LAYER + "self_attn.q_norm.weight", (2048,)),
        ({"model_type": "persimmon", "head_dim": 128}, LAYER + "self_attn.dense", (4096, 4096)),
        ({"model_type": "seed_oss"}, LAYER + "self_attn.o_proj", (4096, 10240)),
    ],
)
def test_names_aliases_and_absent_fields(config: dict[str, Any], path: str, shape: tuple[int, ...]) -> None:
    assert BaseModel.load(config).modules[path].weight_shape == shape


@pytest.mark.parametrize(
    ("config", "present", "absent"),
    [
        ({"model_type": "stablelm", "qk_layernorm": True}, "self_attn.k_layernorm.norms.31.weight", "mlp.c_fc"),
        ({"model_type": "stablelm", "use_parallel_residual": True}, "input_layernorm.bias", "post_attention_layernorm.bias"),
        ({"model_type": "cohere", "use_qk_norm": True}, "self_attn.q_norm.weight", "post_attention_layernorm.weight"),
        ({"model_type": "cohere"}, "input_layernorm.weight", "self_attn.q_norm.weight"),
        ({"model_type": "arcee"}, "mlp.up_proj", "mlp.gate_proj"),
        ({"model_type": "apertus"}, "mlp.act_fn.alpha_p", "mlp.gate_proj"),
        ({"model_type": "apertus", "hidden_act": "silu"}, "mlp.up_proj", "mlp.act_fn.alpha_p"),
        ({"model_type": "olmo"}, "mlp.gate_proj", "input_layernorm.weight"),
    ],
)  # fmt: skip
def test_switches_add_and_remove_modules(config: dict[str, Any], present: str, absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert LAYER + present in modules
    assert LAYER + absent not in modules


def test_another_vocabulary_of_an_aliased_config() -> None:
    base = BaseModel.load(GPT2_XL)
    assert base.with_vocab(50304).modules["transformer.wte"].weight_shape == (50304, 1600)


def test_a_size_that_is_no_size_is_refused() -> None:
    with pytest.raises(lora_packer.InputError, match="hidden_size is 'wide'"):
        BaseModel.load({"model_type": "gpt2", "n_embd": "wide"})
