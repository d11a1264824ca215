"""More base models that see, against dimensions that are public knowledge, and what they do with odd configs."""

from __future__ import annotations

from typing import Any

import pytest

import lora_packer
from lora_packer import BaseModel
from lora_packer.base_model.models.inkling_scales import Scale, planned_scales

TEXT = "model.language_model.layers.0."
TINY = {"vocab_size": 112, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        ({"model_type": "blip-2", "text_config": {"model_type": "opt", "hidden_size": 2560, "num_hidden_layers": 32,
                                                  "ffn_dim": 10240, "num_attention_heads": 32, "word_embed_proj_dim": 2560}}, {
            "vision_model.encoder.layers.38.self_attn.qkv": (4224, 1408), "query_tokens": (1, 32, 768),
            "qformer.encoder.layer.10.crossattention.attention.key": (768, 1408),
            "language_projection": (2560, 768), "language_model.lm_head": (50272, 2560)}),
        ({"model_type": "llava_next_video"}, {
            TEXT + "self_attn.q_proj": (4096, 4096), "model.multi_modal_projector.linear_1": (4096, 1024)}),
        ({"model_type": "phi4_multimodal", "num_attention_heads": 24}, {
            "model.layers.31.self_attn.qkv_proj": (5120, 3072), "lm_head": (200064, 3072),
            "model.embed_tokens_extend.audio_embed.encoder.embed.out": (1024, 10240)}),
        ({"model_type": "aria", "text_config": {"hidden_size": 2560, "intermediate_size": 1664, "moe_num_experts": 64,
                                                "num_attention_heads": 20, "num_hidden_layers": 28, "vocab_size": 100352}}, {
            TEXT + "mlp.experts.gate_up_proj": (64, 2560, 3328), TEXT + "mlp.shared_experts.up_proj": (3328, 2560),
            "model.multi_modal_projector.query": (256, 1152)}),
        ({"model_type": "fuyu"}, {
            TEXT + "self_attn.query_key_value": (12288, 4096), "model.vision_embed_tokens": (4096, 2700)}),
        ({"model_type": "chameleon"}, {
            "model.layers.0.self_attn.q_norm.weight": (32, 128), "model.vqmodel.quantize.embedding": (8192, 256)}),
        ({"model_type": "janus"}, {
            "model.aligner.fc1": (2048, 1024), "model.generation_head.vision_head": (16384, 2048)}),
        ({"model_type": "emu3"}, {
            "model.text_model.layers.0.self_attn.k_proj": (1024, 4096), "lm_head": (184622, 4096)}),
        ({"model_type": "kosmos-2"}, {
            "text_model.model.layers.23.ffn.fc1": (8192, 2048), "image_to_text_projection.latent_query": (64, 2048)}),
        ({"model_type": "paddleocr_vl"}, {
            TEXT + "self_attn.k_proj": (256, 1024), "model.projector.linear_1": (4608, 4608)}),
        ({"model_type": "idefics", "vision_config": {"embed_dim": 1280}}, {
            "model.gated_cross_attn_layers.0.cross_attn.k_proj": (4096, 1280), "model.layers.0.mlp.up_proj": (11008, 4096)}),
        ({"model_type": "florence2"}, {
            "model.vision_tower.blocks.2.8.channel_block.channel_attn.qkv": (1536, 512),
            "model.language_model.decoder.layers.11.encoder_attn.q_proj": (1024, 1024), "lm_head": (50265, 1024)}),
        ({"model_type": "udop"}, {
            "decoder.block.23.layer.1.EncDecAttention.q": (1024, 1024), "patch_embed.proj": (1024, 3, 16, 16)}),
        ({"model_type": "mistral4"}, {"model.layers.0.self_attn.kv_a_proj_with_mqa": (320, 4096)}),
    ],
)  # fmt: skip
def test_modules_of_public_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes


def test_a_language_model_of_another_kind_below_the_q_former() -> None:
    modules = BaseModel.load({"model_type": "blip-2", "text_config": {"model_type": "t5", "d_model": 2048}}).modules
    assert modules["language_projection"].weight_shape == (2048, 768)
    assert "language_model.decoder.block.0.layer.1.EncDecAttention.q" in modules
    with pytest.raises(lora_packer.UnknownArchitecture, match="text_config"):
        BaseModel.load({"model_type": "blip-2", "text_config": {"model_type": "nobody-knows"}})


@pytest.mark.parametrize(
    ("config", "embedding"),
    [
        ({"model_type": "hunyuan_vl", **TINY}, "model.language_model.embed_tokens"),
        ({"model_type": "paddleocr_vl", **TINY}, "model.language_model.embed_tokens"),
        ({"model_type": "fuyu", **TINY}, "model.language_model.embed_tokens"),
        ({"model_type": "unlimited_ocr", "language_config": TINY}, "model.language_model.embed_tokens"),
        ({"model_type": "blip", "text_config": TINY}, "text_decoder.bert.embeddings.word_embeddings"),
        (
            {
                "model_type": "nemotron_h_omni",
                "llm_config": {"model_type": "nemotron_h", "hidden_size": 48, "vocab_size": 112},
            },
            "language_model.model.embeddings",
        ),
    ],
)
def test_the_vocabulary_grows_in_flat_and_in_older_configs(config: dict[str, Any], embedding: str) -> None:
    base = BaseModel.load(config)
    assert (base.input_embedding, base.vocab_size) == (embedding, 112)
    grown = base.with_vocab(120)
    assert (grown.vocab_size, grown.modules[embedding].weight_shape) == (120, (120, 48))


def test_the_classifier_of_shieldgemma_has_the_whole_model_below_it() -> None:
    base = BaseModel.load({"model_type": "shieldgemma2", "text_config": TINY})
    whole = base.dialects["image-classification"]
    assert whole["model.lm_head"] == base.modules["lm_head"]
    assert {f"model.{path}" for path in base.modules} == set(whole)


def test_granite_vision_has_a_downsampler_for_each_layer_it_reads() -> None:
    config = {"model_type": "granite4_vision", "downsample_rate": "4/8", "deepstack_layer_map": [[-1, 3], [-2, 6]]}
    modules = BaseModel.load(config).modules
    assert modules["model.layerwise_projectors.1.image_positions"].weight_shape == (1, 64, 768)
    assert "model.layerwise_projectors.2.query" not in modules
    assert "model.spatial_projectors.3.query" in modules


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "granite4_vision"}, "downsample_rate"),
        ({"model_type": "deepseek_ocr2"}, "mlp_layer_types"),
        ({"model_type": "diffusion_gemma"}, "moe_intermediate_size|num_experts"),
        ({"model_type": "janus", "vq_config": {"channel_multiplier": []}}, "channel_multiplier"),
        ({"model_type": "emu3", "vq_config": {"channel_multiplier": [1, 0]}}, "channel_multiplier"),
        ({"model_type": "molmo2", "adapter_config": {"vision_feature_layer": ["last"]}}, "vision_feature_layer"),
        ({"model_type": "unlimited_ocr", "vision_config": {"sam_config": {"downsample_channels": [8]}}}, "two numbers"),
        ({"model_type": "florence2", "vision_config": {"depths": [1, 1]}}, "stages"),
    ],
)
def test_configs_that_say_nothing_of_a_shape(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(config)


def test_the_scales_of_a_folding_tower() -> None:
    scales = planned_scales(2, 40, 24, 3)
    assert (len(scales), scales[0], scales[-1]) == (25, Scale(1, 1, 3), Scale(2, 40, 614400))
    assert [scale.side for scale in scales] == sorted(scale.side for scale in scales)


@pytest.mark.parametrize(("layers", "side"), [(2, 40), (6, 8)])
def test_scales_that_only_transformers_can_plan_are_not_guessed(layers: int, side: int) -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match="vision tower"):
        planned_scales(1, side, layers, 1)


@pytest.mark.parametrize("model_type", ["aria", "qwen4_exp", "gemma4_unified", "emu3", "minimax_m3_vl", "dots3_note"])
def test_the_class_without_towers_has_the_language_model_alone(model_type: str) -> None:
    text = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 64, "num_hidden_layers": 2}
    alone = BaseModel.load({"model_type": model_type, "text_config": text}).dialects["text-only"]
    assert "model.embed_tokens" in alone
    assert not any("tower" in path or "visual" in path or "vqmodel" in path for path in alone)
