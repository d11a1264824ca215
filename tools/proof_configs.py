"""Random small configs of a model type, around its class default: what ``tools/proof.py`` compares definitions on.

The tables say which config fields decide shapes and which values are worth trying; a config that transformers refuses
is drawn again by the caller.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

# Fields that decide shapes and may be varied freely, and how.
SIZES: tuple[str, ...] = (
    "intermediate_size",
    "vocab_size",
    "ffn_dim",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
)
SIZES += ("n_positions", "max_position_embeddings", "dff", "ffn_hidden_size", "expansion_ratio")
FLAGS: tuple[str, ...] = (
    "attention_bias",
    "mlp_bias",
    "use_qkv_bias",
    "qkv_bias",
    "add_bias_linear",
    "tie_word_embeddings",
)
FLAGS += ("use_bias", "enable_bias", "bias", "attention_out_bias", "no_bias", "use_post_norm", "learned_pos_emb")
FLAGS += ("qk_layernorm", "use_qk_norm", "multi_query", "parallel_attn", "new_decoder_architecture")
FLAGS += ("add_cross_attention", "use_parallel_residual", "do_layer_norm_before", "_remove_final_layer_norm")
FLAGS += ("layer_norm_elementwise_affine", "multimodal_projector_bias", "vision_use_head", "use_mask_token")
FLAGS += ("use_absolute_position_embeddings", "use_mean_pooling", "projector_bias", "projector_use_layernorm")
FLAGS += ("standardize", "use_clipped_linears")
# What older types call the number of heads and the hidden size.
HEADS_AND_WIDTH = (
    ("num_attention_heads", "hidden_size"),
    ("n_head", "n_embd"),
    ("n_head", "hidden_size"),
    ("n_heads", "d_model"),
    ("attention_heads", "d_model"),
    ("num_heads", "hidden_size"),
)
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
# Fields of which few values are worth trying; a value that a type refuses is drawn again.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "first_k_dense_replace": (0, 1, 2),
    "num_dense_layers": (0, 1, 2),
    "decoder_sparse_step": (1, 2),
    "mlp_only_layers": ([], [0], [1, 3]),
    "n_shared_experts": (1, 2),
    "num_shared_experts": (1, 2),
    "moe_num_shared_experts": (0, 1, 2),
    "moe_num_experts": (4, 6),
    "moe_layer_interval": (1, 2),
    "shared_intermediate_size": (0, 40, 48),
    "q_lora_rank": (24, 48, None),
    "kv_lora_rank": (16, 32),
    "qk_nope_head_dim": (8, 16),
    "qk_rope_head_dim": (8, 16),
    "v_head_dim": (8, 24),
    "kv_channels": (8, 16),
    "lm_head_bias": (False, True),
    # State space models, linear attention and their relatives.
    "state_size": (8, 16),
    "ssm_state_size": (8, 16),
    "expand": (1, 2),
    "conv_kernel": (3, 4),
    "n_groups": (1, 2),
    "mamba_d_state": (8, 16),
    "mamba_d_conv": (3, 4),
    "mamba_expand": (1, 2),
    "mamba_n_groups": (1, 2),
    "mamba_ngroups": (1, 2),
    "mamba_n_heads": (2, 4),
    "mamba_num_heads": (2, 4),
    "mamba_head_dim": (8, 16),
    "mamba_d_ssm": (None, 32, 64),
    "mamba_dt_rank": ("auto", 8),
    "time_step_rank": ("auto", 8),
    "mamba_conv_bias": (False, True),
    "mamba_proj_bias": (False, True),
    "mamba_rms_norm": (False, True),
    "projectors_bias": (False, True),
    "use_conv_bias": (False, True),
    "attn_layer_indices": (None, [0], [1, 2]),
    "attn_layer_period": (1, 2, 3),
    "attn_layer_offset": (0, 1),
    "expert_layer_period": (1, 2),
    "expert_layer_offset": (0, 1),
    "moe_latent_size": (None, 24),
    "moe_shared_expert_intermediate_size": (24, 40),
    "num_mem_blocks": (1, 2),
    "use_shared_attention_adapter": (False, True),
    "adapter_rank": (8, 16),
    "short_conv_kernel_size": (3, 4),
    "layer_group_size": (2, 3),
    "conv_bias": (False, True),
    "conv_L_cache": (3, 4),
    "block_auto_adjust_ff_dim": (False, True),
    "block_ffn_dim_multiplier": (1.0, 1.3, None),
    "block_multiple_of": (16, 64),
    "full_attn_idxs": ([0], [1, 2]),
    "lru_width": (None, 64, 128),
    "conv1d_width": (3, 4),
    "index_n_heads": (2, 4),
    "index_head_dim": (8, 16),
    "o_groups": (1, 2),
    "o_lora_rank": (8, 16),
    "hc_mult": (2, 4),
    "zero_expert_num": (0, 2, 4),
    "expert_ffn_hidden_size": (24, 40),
    # Towers for images, and what joins them to the language model.
    "patch_size": (14, 16),
    "image_size": (112, 224),
    "vision_feature_layer": (-1, [-2, 1], [0, 1, 2]),
    "spatial_merge_size": (1, 2, 3),
    "temporal_patch_size": (1, 2),
    "deepstack_visual_indexes": ([], [0], [0, 1]),
    "out_hidden_size": (24, 40),
    "num_position_embeddings": (16, 64),
    "projection_dim": (24, 40),
    "downsample_ratio": (0.5, 0.25),
    "scale_factor": (2, 3),
    "moe_layers": ([0, 2], [], None),
    "interleave_moe_layer_step": (1, 2),
    "intermediate_size_mlp": (24, 40),
    "vision_output_dim": (24, 40),
    "cross_attention_layers": ([1], [0, 3], []),
    "num_global_layers": (1, 2),
    "linear_num_key_heads": (2, 4),
    "linear_num_value_heads": (4, 8),
    "linear_key_head_dim": (8, 16),
    "linear_value_head_dim": (8, 16),
    "linear_conv_kernel_dim": (3, 4),
    "global_head_dim": (16, 32),
    "num_global_key_value_heads": (None, 1, 2),
    "num_kv_shared_layers": (0, 1, 2),
    "hidden_size_per_layer_input": (0, 8, 16),
    "enable_moe_block": (False, True),
    "use_double_wide_mlp": (False, True),
    "attention_k_eq_v": (False, True),
    "downsample_factor": (2, 3),
    "projector_hidden_size": (24, 40),
    "alignment_intermediate_size": (24, 40),
    "merge_kernel_size": ([2, 2], [1, 2]),
    "projection_hidden_size": (24, 40),
    "pos_emb_height": (16, 24),
    "pos_emb_width": (16, 24),
    "output_channels": (8, 16),
    "window_size": (0, 4, 7),
    "global_attn_indexes": ([], [0], [1, 2]),
    "mlp_dim": (24, 40),
    "use_abs_pos": (False, True),
    "use_rel_pos": (False, True),
    "hidden_stride": (1, 2),
    "num_visual_indicator_tokens": (4, 5),
    "resampler_n_latents": (8, 16),
    "resampler_depth": (1, 2),
    "resampler_n_heads": (4, 8),
    "resampler_head_dim": (8, 12),
}
# What a class default lacks or has in a way that cannot be built.
SEEDS: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"mamba_d_head": "auto"},
    "falcon_h1": {"mamba_d_head": "auto"},
    "granitemoehybrid": {"mamba_d_head": "auto"},
    "gemma4_text": {
        "global_head_dim": 32,
        "num_global_key_value_heads": 2,
        "num_experts": 4,
        "moe_intermediate_size": 24,
        "vocab_size_per_layer_input": 40,
    },
    "gemma4": {"vision_config": {"hidden_size": 32, "head_dim": 8, "num_hidden_layers": 2}, "audio_config": {}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 500000.0}},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "conv"]},
}
# Model types without a class of their own: the one whose class their checkpoints name.
SAME_CLASS = {"kimi_k2": "deepseek_v3"}


def class_type(model_type: str) -> str:
    """Return the model type that transformers has a class for."""
    return SAME_CLASS.get(model_type, model_type)


def random_config(model_type: str, chance: random.Random) -> dict[str, Any]:
    """Return a small random config of a type: fewer layers and other sizes than the class default."""
    from transformers import AutoConfig

    config: dict[str, Any] = AutoConfig.for_model(class_type(model_type)).to_dict()
    config["model_type"] = model_type
    config.update(copy.deepcopy(dict(SEEDS.get(model_type, {}))))
    for part in [
        config,
        *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)),
    ]:
        if part is not config:
            part.update(copy.deepcopy(dict(SEEDS.get(part.get("model_type") or "", {}))))
        _vary(part, chance)
    if config.get("id2label"):
        labels = [f"LABEL_{index}" for index in range(chance.choice((1, 2, 3)))]
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    default = AutoConfig.for_model(class_type(model_type))
    for key, part in [("", config), *config.items()]:
        if not key or (key.endswith("_config") and isinstance(part, dict)):
            for alias, name in getattr(getattr(default, key, None) if key else default, "attribute_map", {}).items():
                if name in part and chance.random() < 0.3:
                    part[alias] = part.pop(name)
    return config


def _vary(config: dict[str, Any], chance: random.Random) -> None:
    layers = chance.randint(1, 4)
    config.pop("per_layer_config", None)  # holds numbers of layers
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"):
        if type(config.get(name)) is int:
            config[name] = layers
    for name in ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "layer_rope_theta"):
        if isinstance(config.get(name), list):
            config[name] = config[name][:layers] if len(config[name]) >= layers else None
    for heads_name, width in HEADS_AND_WIDTH:
        if heads_name not in config or type(config.get(width)) is not int:
            continue
        kv = chance.choice((1, 2, 4))
        heads = kv * chance.choice((1, 2, 4))
        head_dim = chance.choice((8, 16, 32))
        config[heads_name], config[width] = heads, heads * head_dim
        for name in ("num_key_value_heads", "num_kv_heads"):
            if name in config:
                config[name] = kv
        # Many types read a head size that their config class does not declare.
        if "head_dim" in config or chance.random() < 0.15:
            config["head_dim"] = chance.choice((head_dim, head_dim * 2))
        if "word_embed_proj_dim" in config:
            config["word_embed_proj_dim"] = chance.choice((config[width], 24))
        break
    if "n_inner" in config:
        config["n_inner"] = chance.choice((None, 48, 96))
    if "num_ln_in_parallel_attn" in config:
        config["num_ln_in_parallel_attn"] = chance.choice((None, 1, 2))
    if "attention_types" in config:
        config["attention_types"] = [[["global"], layers]]
        config.pop("attention_layers", None)
    for name in SIZES:
        if type(config.get(name)) is int:
            config[name] = 8 * chance.randint(3, 40)
    for name in EXPERTS:
        if type(config.get(name)) is int and config[name] > 1:
            config[name] = chance.choice((4, 6, 8))
    for name in FLAGS:
        if isinstance(config.get(name), bool):
            config[name] = chance.random() < 0.5
    for name, values in CHOICES.items():
        if name in config and chance.random() < 0.7:
            config[name] = chance.choice(values)
    for name in ("layer_types", "mlp_layer_types", "layers_block_type"):
        kinds = sorted(set(config.get(name) or ()))
        if len(kinds) > 1 and chance.random() < 0.5:
            config[name] = [chance.choice(kinds) for _ in config[name]]
    if type(config.get("pad_token_id")) is int:
        config["pad_token_id"] = None
