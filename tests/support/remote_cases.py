"""More types whose code is in their own repositories, as rows of ``test_remote_code.py``: name, config, targets, shapes."""

from __future__ import annotations

from typing import Any

# Path of a targeted module -> its weight's shape (out, in).
Shapes = dict[str, tuple[int, int]]

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "vocab_size": 40,
}
_L = "model.layers.0."

_PHI4MM = {
    "model_type": "phi4mm", "architectures": ["Phi4MMForCausalLM"], **_SIZES, "num_key_value_heads": 2,
    "embd_layer": {
        "embedding_cls": "image_audio",
        "audio_embd_layer": {"projection_cls": "mlp", "downsample_rate": 1},
        "image_embd_layer": {
            "projection_cls": "mlp", "use_hd_transform": True, "with_learnable_separator": True,
            "image_token_compression_cls": "avg_pool_2d",
        },
    },
    "audio_processor": {"name": "cascades", "config": {
        "attention_dim": 32, "attention_heads": 4, "linear_units": 48, "num_blocks": 1, "input_size": 80, "kernel_size": 3,
        "ext_pw_out_channel": 32, "depthwise_seperable_out_channel": 32, "time_reduction": 8,
        "nemo_conv_settings": {"conv_channels": 16}, "encoder_embedding_config": {"input_size": 80},
        "relative_attention_bias_args": {"type": "t5", "t5_bias_max_distance": 500},
    }},
}  # fmt: skip
_PHI4MM_AUDIO = "model.embed_tokens_extend.audio_embed."

_JANUS = {
    "model_type": "multi_modality",
    "vision_config": {
        "cls": "CLIPVisionTower",
        "params": {"image_size": 384, "model_name": "siglip_large_patch16_384", "select_layer": -23},
    },
    "aligner_config": {
        "cls": "MlpProjector", "params": {"depth": 2, "input_dim": 1024, "n_embed": 64, "projector_type": "mlp_gelu"},
    },
    "gen_aligner_config": {
        "cls": "MlpProjector", "params": {"depth": 2, "input_dim": 8, "n_embed": 64, "projector_type": "mlp_gelu"},
    },
    "gen_head_config": {
        "cls": "vision_head", "params": {"image_token_embed": 64, "image_token_size": 96, "n_embed": 64},
    },
    "gen_vision_config": {"cls": "VQ-16", "params": {"image_token_size": 96, "n_embed": 8}},
    "language_config": {"model_type": "llama", **_SIZES, "num_key_value_heads": 4},
}  # fmt: skip
_DEEPSEEK_VL = {name: value for name, value in _JANUS.items() if not name.startswith("gen_")} | {
    "vision_config": {
        "cls": "HybridVisionTower",
        "params": {
            "high_res_cfg": {"image_size": 1024, "model_name": "sam_b_downsample", "select_layer": -1},
            "low_res_cfg": {"image_size": 384, "model_name": "siglip_large_patch16_384", "select_layer": -1},
        },
    },
    "aligner_config": {
        "cls": "MlpProjector",
        "params": {"depth": 2, "input_dim": 1024, "n_embed": 64, "projector_type": "low_high_hybrid_split_mlp_gelu"},
    },
}
_MAIRA = {
    "model_type": "maira2", "architectures": ["Maira2ForConditionalGeneration"], "projector_n_layers": 2,
    "text_config": {"model_type": "llama", **_SIZES},
    "vision_config": {
        "model_type": "dinov2", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "mlp_ratio": 2,
        "image_size": 28, "patch_size": 14,
    },
}  # fmt: skip
_MINERU = {
    "model_type": "mineru2_qwen", "architectures": ["Mineru2QwenForCausalLM"], **_SIZES, "num_key_value_heads": 2,
    "mm_hidden_size": 1152, "mm_projector_type": "mlp2x_gelu", "mm_vision_tower": "google/siglip-so400m-patch14-384",
}  # fmt: skip
_TIME = {
    "model_type": "time_moe", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 1,
    "num_key_value_heads": 4, "num_experts": 2, "num_experts_per_tok": 2, "horizon_lengths": [1, 8],
}  # fmt: skip
_LLAVA = {
    "model_type": "llava_llama", "architectures": ["LlavaLlamaForCausalLM"], **_SIZES, "num_key_value_heads": 4,
    "mm_hidden_size": 1024, "mm_projector_type": "mlp2x_gelu", "mm_vision_tower": "openai/clip-vit-large-patch14-336",
}  # fmt: skip
_LLAVA_QWEN = _LLAVA | {
    "model_type": "llava_qwen", "architectures": ["LlavaQwenForCausalLM"], "mm_hidden_size": 1152,
    "mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter",
    "mm_patch_merge_type": "spatial_unpad",
}  # fmt: skip
_TOWER_LAYER = "model.vision_tower.vision_tower.vision_model.encoder.layers.{}.self_attn.k_proj"
_LING = {
    "model_type": "bailing_moe", "architectures": ["BailingMoeForCausalLM"], **_SIZES, "num_key_value_heads": 2,
    "num_experts": 2, "num_shared_experts": 2, "moe_intermediate_size": 24, "use_bias": False,
}  # fmt: skip
_DOTS = {
    "model_type": "dots_ocr", "architectures": ["DotsOCRForCausalLM"], **_SIZES, "num_key_value_heads": 2,
    "vision_config": {"embed_dim": 32, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 1},
}  # fmt: skip
_VLA = {
    "model_type": "openvla", "architectures": ["OpenVLAForActionPrediction"], "image_sizes": [224, 224],
    "use_fused_vision_backbone": True, "text_config": {"model_type": "llama", **_SIZES},
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
}  # fmt: skip
_OMNI = {
    "model_type": "minicpmo", "architectures": ["MiniCPMO"], "version": "2.6", **_SIZES, "num_key_value_heads": 2,
    "drop_vision_last_layer": False, "query_num": 4,
    "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "image_size": 28},
    "audio_config": {"d_model": 32, "encoder_ffn_dim": 64, "encoder_layers": 1, "encoder_attention_heads": 4},
    "tts_config": {
        "llm_dim": 64, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1,
    },
}  # fmt: skip
_ELM = {
    "model_type": "openelm", "architectures": ["OpenELMForCausalLM"], "model_dim": 64, "head_dim": 16, "vocab_size": 40,
    "num_transformer_layers": 2, "num_query_heads": [4, 8], "num_kv_heads": [1, 2], "ffn_multipliers": [0.5, 1.75],
    "ffn_dim_divisor": 32, "ffn_with_glu": True, "normalize_qk_projections": True, "share_input_output_layers": True,
}  # fmt: skip
_LLADA = {
    "model_type": "llada", "architectures": ["LLaDAModelLM"], "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "n_layers": 1,
    "mlp_hidden_size": 96, "vocab_size": 40, "embedding_size": 48, "block_type": "llama", "activation_type": "silu",
    "layer_norm_type": "rms", "rope": True, "weight_tying": False, "include_bias": False, "block_group_size": 1,
}  # fmt: skip
_DREAM = {
    "model_type": "Dream", "architectures": ["DreamModel"], **_SIZES, "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
_KIMI_K3_TEXT = {
    **_SIZES,
    "model_type": "kimi_linear",
    "num_hidden_layers": 3,
    "attn_res_block_size": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "mla_use_nope": True,
    "mla_use_output_gate": True,
    "num_experts": 2,
    "num_shared_experts": 2,
    "moe_intermediate_size": 20,
    "routed_expert_hidden_size": 40,
    "latent_moe_use_norm": True,
    "linear_attn_config": {
        "kda_layers": [1, 2],
        "full_attn_layers": [3],
        "num_heads": 6,
        "head_dim": 8,
        "short_conv_kernel_size": 4,
        "use_full_rank_gate": True,
    },
}
_KIMI_K3 = {
    "model_type": "kimi_k3", "architectures": ["KimiK3ForConditionalGeneration"], "text_config": _KIMI_K3_TEXT,
    "vision_config": {
        "vt_hidden_size": 32, "vt_intermediate_size": 56, "vt_num_hidden_layers": 1, "vt_num_attention_heads": 4,
        "qkv_hidden_size": 48, "mm_hidden_size": 32, "text_hidden_size": 64, "patch_size": 14,
    },
}  # fmt: skip
_KIMI_K3_PLAIN = _KIMI_K3 | {
    "text_config": _KIMI_K3_TEXT | {
        "attn_res_block_size": None, "routed_expert_hidden_size": None, "q_lora_rank": None, "moe_layer_freq": 2,
        "num_shared_experts": None, "mla_use_output_gate": False,
        "linear_attn_config": _KIMI_K3_TEXT["linear_attn_config"] | {"use_full_rank_gate": False},
    },
    "vision_config": _KIMI_K3["vision_config"] | {"qkv_hidden_size": None, "mm_hidden_size": None, "norm_type": "layernorm"},
}  # fmt: skip
_K3_L = "language_model.model.layers."
_RWKV = {
    "model_type": "rwkv5", "architectures": ["RwkvForCausalLM"], "hidden_size": 64, "head_size": 16, "num_hidden_layers": 1,
    "vocab_size": 40, "model_version": "5_2", "intermediate_size": None,
}  # fmt: skip

CASES: list[tuple[str, dict[str, Any], Any, Shapes]] = [
    ("phi4mm", _PHI4MM, ["qkv_proj", "gate_up_proj", "linear_q", "img_projection.0", "speech.0"], {
        _L + "self_attn.qkv_proj": (128, 64), _L + "mlp.gate_up_proj": (192, 64),
        _PHI4MM_AUDIO + "encoder.encoders.0.self_attn.linear_q": (32, 32),
        _PHI4MM_AUDIO + "audio_projection.speech.0": (64, 32),
        "model.embed_tokens_extend.image_embed.img_projection.0": (64, 1152)}),
    ("janus", _JANUS, ["q_proj", "vision_head", "aligner.layers.2", "gen_aligner.layers.2", "qkv"], {
        "language_model." + _L + "self_attn.q_proj": (64, 64), "gen_head.vision_head": (96, 64),
        "aligner.layers.2": (64, 64), "gen_aligner.layers.2": (64, 64),
        "vision_model.vision_tower.blocks.0.attn.qkv": (3072, 1024),
        "vision_model.vision_tower.blocks.1.attn.qkv": (3072, 1024)}),
    ("deepseek_vl before its transfer", _DEEPSEEK_VL, ["v_proj", "lm_head", "high_up_proj", "blocks.11.attn.qkv"], {
        "language_model." + _L + "self_attn.v_proj": (64, 64), "language_model.lm_head": (40, 64),
        "aligner.high_up_proj": (32, 1024), "vision_model.vision_tower_high.vision_tower.blocks.11.attn.qkv": (2304, 768),
        "vision_model.vision_tower_low.vision_tower.blocks.11.attn.qkv": (3072, 1024)}),
    ("maira2", _MAIRA, ["q_proj", "query", "layers.2"], {
        "language_model." + _L + "self_attn.q_proj": (64, 64), "multi_modal_projector.layers.2": (64, 64),
        "vision_tower.encoder.layer.0.attention.attention.query": (32, 32)}),
    ("mineru2_qwen", _MINERU, ["k_proj", "mm_projector.0"], {
        _L + "self_attn.k_proj": (32, 64), "model.mm_projector.0": (64, 1152),
        **{f"model.vision_tower.vision_tower.vision_model.encoder.layers.{index}.self_attn.k_proj": (1152, 1152)
           for index in range(26)}}),
    ("time_moe", _TIME, ["q_proj", "gate", "up_proj", "out_layer", "emb_layer"], {
        _L + "self_attn.q_proj": (64, 64), _L + "ffn_layer.gate": (2, 64), _L + "ffn_layer.experts.0.up_proj": (48, 64),
        _L + "ffn_layer.experts.1.up_proj": (48, 64), _L + "ffn_layer.shared_expert.up_proj": (96, 64),
        "lm_heads.0.out_layer": (1, 64), "lm_heads.1.out_layer": (8, 64), "model.embed_layer.emb_layer": (64, 1)}),
    ("tiny_pellm", {"model_type": "tiny_pellm", "architectures": ["TinyPeLLMForCausalLM"], **_SIZES},
     ["q_proj", "k_proj", "intermediate"], {
        _L + "attn.q_proj": (64, 64), _L + "attn.k_proj": (16, 64), _L + "ff.intermediate": (96, 64)}),
    ("rugpt3xl", {"model_type": "rugpt3xl", "architectures": ["RuGPT3XLForCausalLM"], **_SIZES}, ["v_proj", "up_proj"], {
        _L + "self_attn.v_proj": (64, 64), _L + "mlp.up_proj": (96, 64)}),
    ("TraXLMistral", {"model_type": "TraXLMistral", "architectures": ["TraXLMistralForCausalLM"], "hidden_size": 64,
                      "rnn_units": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40, "memory_size": 16},
     ["linear1", "read_head", "logic_layer.logic_layer", "lm_head"], {
        "transformer_encoder.layers.0.linear1": (128, 32), "memory.read_head": (16, 32),
        "logic_layer.logic_layer": (32, 32), "lm_head": (40, 32)}),
    ("bailing_moe", _LING, ["query_key_value", "dense", "up_proj"], {
        _L + "attention.query_key_value": (128, 64), _L + "attention.dense": (64, 64),
        _L + "mlp.experts.0.up_proj": (24, 64), _L + "mlp.experts.1.up_proj": (24, 64),
        _L + "mlp.shared_experts.up_proj": (48, 64)}),
    ("bailing_moe_v2", _LING | {
        "model_type": "bailing_moe_v2", "architectures": ["BailingMoeV2ForCausalLM"], "first_k_dense_replace": 1,
        "head_dim": 32}, ["query_key_value", "up_proj"], {
        _L + "attention.query_key_value": (256, 64), _L + "mlp.up_proj": (96, 64)}),
    ("dots_ocr", _DOTS, ["k_proj", "qkv", "fc3", "mlp.0"], {
        _L + "self_attn.k_proj": (32, 64), "vision_tower.blocks.0.attn.qkv": (96, 32),
        "vision_tower.blocks.0.mlp.fc3": (48, 32), "vision_tower.merger.mlp.0": (128, 128)}),
    ("openvla", _VLA, ["q_proj", "fc3", "blocks.26.attn.qkv"], {
        "language_model." + _L + "self_attn.q_proj": (64, 64), "projector.fc3": (64, 64),
        "vision_backbone.fused_featurizer.blocks.26.attn.qkv": (3456, 1152)}),
    ("openvla with one tower", _VLA | {"use_fused_vision_backbone": False}, ["fc2"], {
        "projector.fc2": (64, 64), **{
            f"vision_backbone.featurizer.blocks.{index}.mlp.fc2": (1024, 4096) for index in range(24)}}),
    ("minicpmo", _OMNI, ["q_proj", "kv_proj", "linear1", "dvae.encoder.decoder_block.0.pwconv1"], {
        "llm." + _L + "self_attn.q_proj": (64, 64), "vpm.encoder.layers.0.self_attn.q_proj": (32, 32),
        "apm.layers.0.self_attn.q_proj": (32, 32), "audio_projection_layer.linear1": (64, 16),
        "resampler.kv_proj": (64, 32), "tts.projector.linear1": (16, 64),
        "tts.model.layers.0.self_attn.q_proj": (16, 16), "tts.dvae.encoder.decoder_block.0.pwconv1": (1024, 256)}),
    ("minicpmo without what speaks", _OMNI | {"init_tts": False}, ["v_proj"], {
        "llm." + _L + "self_attn.v_proj": (32, 64), "vpm.encoder.layers.0.self_attn.v_proj": (32, 32),
        "apm.layers.0.self_attn.v_proj": (32, 32)}),
    ("openelm", _ELM, ["qkv_proj", "proj_1"], {
        "transformer.layers.0.attn.qkv_proj": (96, 64), "transformer.layers.1.attn.qkv_proj": (192, 64),
        "transformer.layers.0.ffn.proj_1": (64, 64), "transformer.layers.1.ffn.proj_1": (256, 64)}),
    ("llada", _LLADA, ["q_proj", "k_proj", "ff_out", "up_proj"], {
        "model.transformer.blocks.0.q_proj": (64, 64), "model.transformer.blocks.0.k_proj": (32, 64),
        "model.transformer.blocks.0.ff_out": (64, 96), "model.transformer.blocks.0.up_proj": (96, 64),
        "model.transformer.ff_out": (48, 64)}),
    ("Dream", _DREAM, ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj", "lm_head"], {
        _L + "self_attn.q_proj": (64, 64), _L + "self_attn.k_proj": (32, 64), _L + "self_attn.o_proj": (64, 64),
        _L + "mlp.up_proj": (96, 64), _L + "mlp.down_proj": (64, 96), "lm_head": (40, 64)}),
    ("rwkv5", _RWKV, ["gate", "key"], {
        "rwkv.blocks.0.attention.gate": (64, 64), "rwkv.blocks.0.attention.key": (64, 64),
        "rwkv.blocks.0.feed_forward.key": (224, 64)}),
    ("kimi_k3", _KIMI_K3, [
        "q_proj", "q_b_proj", "kv_b_proj", "g_proj", "f_b_proj", "up_proj", "w1", "w2", "routed_expert_down_proj", "mlp_res_proj",
        "output_attn_res_proj", "wqkv", "wo", "proj.2"], {
        **{f"{_K3_L}{index}.self_attn.{name}": (48, size) for index in range(2)
           for name, size in (("q_proj", 64), ("g_proj", 64), ("f_b_proj", 8))},
        _K3_L + "2.self_attn.q_b_proj": (96, 24), _K3_L + "2.self_attn.kv_b_proj": (112, 16),
        _K3_L + "2.self_attn.g_proj": (48, 64), _K3_L + "0.mlp.up_proj": (96, 64),
        **{f"{_K3_L}{index}.mlp_res_proj": (1, 64) for index in range(3)},
        "language_model.model.output_attn_res_proj": (1, 64),
        **{f"{_K3_L}{index}.block_sparse_moe.shared_experts.up_proj": (40, 64) for index in (1, 2)},
        **{f"{_K3_L}{index}.block_sparse_moe.routed_expert_down_proj": (40, 64) for index in (1, 2)},
        **{f"{_K3_L}{index}.block_sparse_moe.experts.{expert}.{name}": shape for index in (1, 2) for expert in range(2)
           for name, shape in (("w1", (20, 40)), ("w2", (40, 20)))},
        "vision_tower.encoder.blocks.0.wqkv": (144, 32), "vision_tower.encoder.blocks.0.wo": (32, 48),
        "mm_projector.proj.2": (64, 128)}),
    ("kimi_k3 without what is new in it", _KIMI_K3_PLAIN, ["q_proj", "g_b_proj", "w3", "up_proj", "wqkv", "proj.0"], {
        _K3_L + "0.self_attn.q_proj": (48, 64), _K3_L + "1.self_attn.q_proj": (48, 64),
        _K3_L + "2.self_attn.q_proj": (96, 64), _K3_L + "0.self_attn.g_b_proj": (48, 8),
        _K3_L + "1.self_attn.g_b_proj": (48, 8), _K3_L + "0.mlp.up_proj": (96, 64), _K3_L + "1.mlp.up_proj": (96, 64),
        **{f"{_K3_L}2.block_sparse_moe.experts.{expert}.w3": (20, 64) for expert in range(2)},
        "vision_tower.encoder.blocks.0.wqkv": (96, 32), "mm_projector.proj.0": (128, 128)}),
    ("plamo3", {"model_type": "plamo3", "architectures": ["Plamo3ForCausalLM"], **_SIZES, "num_key_value_heads": 2,
                "head_dim": 32}, ["qkv_proj", "gate_up_proj", "lm_head"], {
        "model.layers.layers.0.mixer.qkv_proj": (256, 64), "model.layers.layers.0.mlp.gate_up_proj": (192, 64),
        "lm_head": (48, 64)}),
    ("PanguEmbedded", {"model_type": "PanguEmbedded", "architectures": ["PanguEmbeddedForCausalLM"], "bias": True, **_SIZES},
     ["k_proj", "up_proj"], {_L + "self_attn.k_proj": (64, 64), _L + "mlp.up_proj": (96, 64)}),
    ("telechat3", {"model_type": "telechat3", "architectures": ["TeleChat3ForCausalLM"], **_SIZES,
                   "num_key_value_heads": 2}, ["k_proj", "up_proj"], {
        _L + "self_attn.k_proj": (32, 64), _L + "mlp.up_proj": (96, 64)}),
    ("llava_llama", _LLAVA, ["q_proj", "up_proj", "mm_projector.0"], {
        _L + "self_attn.q_proj": (64, 64), _L + "mlp.up_proj": (96, 64), "model.mm_projector.0": (64, 1024)}),
    ("llava_mistral with its tower", _LLAVA | {
        "model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"], "unfreeze_mm_vision_tower": True},
     ["k_proj"], {
        _L + "self_attn.k_proj": (64, 64), **{_TOWER_LAYER.format(index): (1024, 1024) for index in range(24)}}),
    ("llava_qwen with its tower", _LLAVA_QWEN, ["k_proj"], {
        _L + "self_attn.k_proj": (64, 64), **{_TOWER_LAYER.format(index): (1152, 1152) for index in range(26)}}),
]  # fmt: skip
# A config that nobody has read the code for: (config, what the refusal names).
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    (_PHI4MM | {"audio_processor": {"name": "other"}}, "audio_processor"),
    (_PHI4MM | {"embd_layer": {"image_embd_layer": {"projection_cls": "linear"}}}, "image_embd_layer"),
    (_PHI4MM | {"audio_processor": {"name": "cascades", "config": {"input_layer": "conv2d"}}}, "audio_processor"),
    (_JANUS | {"vision_gen_enc_config": {}}, "vision_gen_enc_config"),
    (_JANUS | {"vision_config": {"cls": "Other"}}, "vision_config"),
    (_JANUS | {"vision_config": {"cls": "CLIPVisionTower", "params": {"model_name": "sam_vit_b"}}}, "vision_config"),
    (
        _JANUS
        | {
            "vision_config": {
                "cls": "CLIPVisionTower",
                "params": {"model_name": "siglip_large_patch16_384", "select_layer": "x"},
            }
        },
        "vision_config",
    ),
    (
        _JANUS | {"aligner_config": {"params": {"input_dim": 8, "n_embed": 64, "projector_type": "other"}}},
        "aligner_config",
    ),
    (_JANUS | {"gen_vision_config": {"cls": "VQ-8"}}, "gen_vision_config"),
    (_MAIRA | {"vision_config": {"model_type": "vit"}}, "vision_config"),
    (_MINERU | {"mm_vision_tower": "other"}, "mm_vision_tower"),
    (_MINERU | {"mm_projector_type": "other"}, "mm_projector_type"),
    (_TIME | {"horizon_lengths": "all"}, "horizon_lengths"),
    (_LING | {"architectures": ["BailingMoeLinearV2ForCausalLM"]}, "BailingMoeLinearV2ForCausalLM"),
    (_LING | {"num_nextn_predict_layers": 1}, "Bailing"),
    (_VLA | {"timm_model_ids": ["other", "other"]}, "timm_model_ids"),
    (_OMNI | {"version": "4.5"}, "MiniCPM-o 4.5"),
    (_ELM | {"ffn_multipliers": None}, "OpenELM"),
    (_LLADA | {"block_type": "sequential"}, "LLaDA"),
    ({name: value for name, value in _LLADA.items() if name != "weight_tying"}, "weight_tying"),
    (_LLADA | {"layer_norm_type": "default"}, "layer_norm_type"),
    (_DREAM | {"architectures": ["DreamForCausalLM"]}, "DreamForCausalLM"),
    (_RWKV | {"model_version": "5_1"}, "model_version"),
    (_KIMI_K3 | {"vision_config": None}, "vision_config"),
    (_KIMI_K3 | {"text_config": _KIMI_K3_TEXT | {"mla_use_nope": False}}, "mla_use_nope"),
    *(
        (_KIMI_K3 | {"vision_config": _KIMI_K3["vision_config"] | {field: other}}, field)
        for field, other in (
            ("norm_type", "other"),
            ("pos_emb_type", "other"),
            ("mlp_type", "mlp3"),
            ("mm_projector_type", "patchmerger"),
            ("text_hidden_size", 96),
        )
    ),
    (_LLAVA | {"llm_cfg": {}}, "llm_cfg"),
    (_LLAVA_QWEN | {"mm_vision_tower": "other"}, "mm_vision_tower"),
]
