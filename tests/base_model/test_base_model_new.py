"""Types that came with transformers 5.24, against the dimensions that their configs and published code have."""

from __future__ import annotations

from typing import Any

import pytest

from lora_packer import BaseModel

DORY = {"model_type": "dory", "num_hidden_layers": 8, "layer_types": ["sliding_attention", "mlp"] * 4}
LOOP = {"model_type": "inkling2_loop_text", "loop_config": {"core_start": 1, "core_end": 3, "gate_rank": 32}}
SARVAM_30B = {"model_type": "sarvam_moe", "num_experts": 128, "num_shared_experts": 1, "use_qkv_bias": True}
L, TEXT = "model.layers.", "model.language_model.layers."


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        (DORY, {
            L + "3.self_attn.gate_proj": (4096, 2560), L + "3.mlp.up_proj": (7168, 2560),
            "lm_head.logit_scale": (131072,)}, L + "4.mlp.up_proj"),
        ({"model_type": "t5gemma2"}, {
            "model.encoder.text_model.embed_tokens.eoi_embedding": (2304,),
            "model.decoder.embed_tokens.eoi_embedding": (2304,)}, "model.encoder.embed_tokens"),
        ({"model_type": "exaone", "num_layers": 2}, {L + "1.self_attn.k_proj": (1024, 4096)}, L + "2.mlp.up_proj"),
        (SARVAM_30B, {
            L + "0.mlp.gate_proj": (8192, 4096), L + "18.mlp.experts.gate_up_proj": (128, 2048, 4096),
            L + "18.self_attn.q_norm.weight": (64,)}, L + "0.mlp.experts.gate_up_proj"),
        ({"model_type": "sarvam_mla"}, {
            L + "0.self_attn.q_proj": (12288, 4096), L + "31.self_attn.kv_b_proj": (16384, 512)},
         L + "0.self_attn.q_a_proj"),
        ({"model_type": "lara_mini"}, {
            L + "0.linear_attn.in_proj_qkv": (4096, 1024), L + "1.self_attn.q_proj": (2048, 1024),
            L + "3.mlp.shared_expert.up_proj": (512, 1024)}, L + "2.self_attn.q_proj"),
        (LOOP, {
            L + "1.q_message_gate.down_proj": (32, 4608), L + "2.mlp_message_gate.forget_gate_proj": (2304, 32),
            "model.message_input.query": (2, 4, 2304)}, L + "3.q_message_gate.down_proj"),
        ({"model_type": "hy_v4_vl"}, {
            TEXT + "0.self_attn.gate_proj": (16384, 6144), "model.vision_tower.patch_merger.proj_out": (6144, 6144, 1, 1)},
         TEXT + "2.self_attn.indexer.wk"),
        ({"model_type": "embedding_gemma2", "vision_config": {}}, {
            "language_model.layers.0.self_attn.k_proj": (512, 512), "language_model.layers.5.self_attn.q_proj": (2048, 512),
            "language_model.layers.5.self_attn.k_proj": (512, 512),
            "language_model.ple.per_layer_model_projection": (12288, 512), "embed_vision.embedding_projection": (512, 768),
            "language_model.embedding_projection": (768, 512)}, "audio_tower.output_proj"),
        ({"model_type": "embedding_gemma2_text", "per_layer_config": {"00": {"head_dim": 64}}}, {
            "layers.0.self_attn.q_proj": (256, 512), "layers.5.self_attn.q_proj": (1024, 512)}, "score"),
        ({"model_type": "omniasr"}, {
            TEXT + "11.self_attn.q_proj": (4096, 4096), "model.audio_tower.layers.23.attention.q_proj": (1024, 1024),
            "model.multi_modal_projector": (4096, 1024)}, TEXT + "12.self_attn.q_proj"),
        ({"model_type": "apertus1p5", "text_config": {"output_vocab_size": 131072}}, {
            TEXT + "31.mlp.up_proj": (14336, 4096), "lm_head": (131072, 4096),
            "model.language_model.embed_tokens": (266752, 4096),
            "model.audio_tokenizer.encoder.layers.15.conv": (512, 512, 7)}, TEXT + "0.mlp.gate_proj"),
    ],
)  # fmt: skip
def test_modules(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules
