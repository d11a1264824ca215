"""Random small configs of a model type, around its class default: what ``tools/proof.py`` compares definitions on.

The tables say which config fields decide shapes and which values are worth trying; a config that transformers refuses
is drawn again by the caller.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

from proof_values import CHOICES, CHOICES_OF_TYPE, EXPERTS, FLAGS, HEADS_AND_WIDTH, PAIRS, SIZES

from lora_packer.base_model import ARCHITECTURES

# What a class default lacks or has in a way that cannot be built.
SEEDS: Mapping[str, Mapping[str, Any]] = {
    "nemotron_h_omni": {
        "audio_config": {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "conv_kernel_size": 3,
            "subsampling_factor": 8,
            "subsampling_conv_channels": 8,
            "num_mel_bins": 32,
            "convolution_bias": True,
            "attention_bias": False,
            "projection_hidden_size": 24,
            "projection_bias": False,
        }
    },
    "diffusion_gemma_text": {
        "global_head_dim": 32,
        "num_global_key_value_heads": 2,
        "num_experts": 4,
        "moe_intermediate_size": 24,
        "top_k_experts": 2,
    },
    "mistral_large4_text": {"kv_source_layers": None, "indexer_types": None, "index_topk_freq": 2},
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense", "sparse", "sparse", "dense"],
        "num_experts_per_tok": 2,
        "topk_group": 1,
        "n_group": 1,
    },
    "chameleon": {"vocabulary_map": {"<image>": 1}},
    "emu3": {"vocabulary_map": {"<image>": 1}},
    "gemma4_unified": {
        "vision_config": {"mm_embed_dim": 24, "mm_posemb_size": 16, "output_proj_dims": 40, "pooling_kernel_size": 3},
        "audio_config": {"audio_embed_dim": 40},
    },
    "glm5_next_text": {"index_topk_freq": 2, "indexer_types": None},
    "granite4_vision": {"deepstack_layer_map": [[0, 1]], "downsample_rate": "4/8"},
    # Not a default but what its layers are checked against.
    "molmo2_adapter": {"vision_feature_layer": [-1, 0]},
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
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 1000,
        "ple_embed_dim": 64,
        "eos_token_id": 1,
        "num_experts_per_tok": 2,
    },
    "cohere_compass_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
    },
    "dots3_note_text": {
        "use_dsa": True,
        "n_group": 2,
        "topk_group": 1,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 24,
        "swa_kv_lora_rank": 16,
        "swa_qk_nope_head_dim": 4,
        "swa_head_dim": 16,
        "swa_v_head_dim": 8,
    },
    "gemma4_unified_text": {"global_head_dim": 32, "num_global_key_value_heads": 2},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 48},
    "esm": {"vocab_size": 33},
    "moonshine_streaming": {"num_key_value_heads": 2},
    "deberta": {"talking_head": False, "embedding_size": 40},
    "deberta-v2": {
        "share_att_key": False,
        "position_buckets": -1,
        "norm_rel_ebd": "none",
        "conv_kernel_size": 0,
        "conv_groups": 1,
        "embedding_size": 40,
    },
}
# Nested configs that have nested configs, or whose names do not say what they are.
TWICE_NESTED = (
    "encoder",
    "decoder",
    "thinker_config",
    "talker_config",
    "token2wav_config",
    "vision_config",
    "vlm_config",
)
# Types that have to have a token for padding.
PADDED = ("modernbert", "modernbert-decoder", "qwen3_asr", "nomic_bert", "evolla", "step3p5", "emu3_text_model", "fsmt")
# The only number of labels that a head of these types accepts.
LABELS = {"distilbert": (2,)}
# What stays as it is, below the nested configs ("" for none): values that others which are not varied depend on.
FIXED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "dots3_note": {"text_config": {"q_lora_rank": 24, "rope_parameters": None}},
    "evolla": {"protein_encoder_config": {"pad_token_id": 0}},
    "dory": {"": {"layer_types": None, "n_input_layers": 1, "n_recurrent_layers": None, "n_output_layers": 0}},
    "apertus1p5": {
        "": {"image_token_offset": 0, "audio_token_offset": 8},
        "vision_config": {
            "codebook_size": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 2, 2],
            "resolution": 64,
            "attn_resolutions": [16],
        },
        "audio_config": {"codebook_size": 8, "decoder_hidden_size": 64},
    },
    # Which stages a backbone gives out: they are as many as its layers.
    **{
        name: {"": {"out_features": None, "out_indices": None, "stage_names": None}}
        for name in ("beit", "dinov2", "dinov2_with_registers", "dinov3_vit")
    },
    "canary": {"": {"vocab_size": 56}, "decoder_config": {"vocab_size": 56}},
    "cosmos3_edge": {"text_config": {"head_dim": 128}},
    "cosmos3_edge_text": {"": {"head_dim": 128}},
    "blt": {"": {"tie_word_embeddings": False}},
    "inkling_mm_model": {"vision_config": {"n_layers": 7}},
    "glm5_next": {"text_config": {"qk_rope_head_dim": 0, "q_lora_rank": 24}},
    "ernie4_5_vl_moe": {"text_config": {"head_dim": 128}},
    "muse_spark": {"audio_config": {"num_hidden_layers": 4}},
    "granite_speech": {"": {"downsample_rate": 4, "window_size": 14}, "projector_config": {"encoder_hidden_size": 40}},
    "qwen3_omni_moe": {"talker_config": {"spatial_merge_size": 2}},
    "reformer": {"": {"axial_pos_embds": False, "is_decoder": True}},
    "granite_speech_plus": {"": {"downsample_rate": 3, "window_size": 20}},
}
# Fields that have to equal another: (nested config, field) -> (nested config, field).
EQUAL: Mapping[str, Mapping[tuple[str, str], tuple[str, str]]] = {
    "dots3_note": {
        ("text_config", "num_key_value_heads"): ("text_config", "num_attention_heads"),
        ("vision_config", "adapter_out_dim"): ("text_config", "hidden_size"),
        ("audio_config", "adapter_out_dim"): ("text_config", "hidden_size"),
        ("vision_config", "adapter_in_dim"): ("vision_config", "hidden_size"),
        ("audio_config", "adapter_input_size"): ("audio_config", "hidden_size"),
        ("vision_config", "adapter_merge_size"): ("vision_config", "spatial_merge_size"),
    },
    "inkling2": {("vision_config", "text_hidden_size"): ("text_config", "hidden_size")},
    "inkling2_loop": {("vision_config", "text_hidden_size"): ("text_config", "hidden_size")},
    "apertus1p5": {("audio_config", "codebook_dim"): ("audio_config", "hidden_size")},
    "granite_docling": {("vision_config", "out_hidden_size"): ("text_config", "hidden_size")},
    "glm5_next": {("text_config", "num_key_value_heads"): ("text_config", "num_attention_heads")},
    "muse_spark": {("audio_config", "out_hidden_size"): ("text_config", "hidden_size")},
}
# Model types without a class of their own: the one whose class their checkpoints name.
SAME_CLASS = {"kimi_k2": "deepseek_v3"}


def of_transformers() -> list[str]:
    """Return the defined model types that transformers has: the others are ``tools/proof_remote.py``'s."""
    return sorted(name for name in ARCHITECTURES if ARCHITECTURES[name].proof is None)


def class_type(model_type: str) -> str:
    """Return the model type that transformers has a class for."""
    return SAME_CLASS.get(model_type, model_type)


def _nested(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nested configs, and those inside them for the types that are nested twice."""
    for key, part in config.items():
        if isinstance(part, dict) and (key.endswith("_config") or key in TWICE_NESTED):
            yield part
            if key in TWICE_NESTED:
                yield from _nested(part)


def random_config(model_type: str, chance: random.Random, *, declared: bool = False) -> dict[str, Any]:
    """Return a small random config of a type: fewer layers and other sizes than the class default.

    ``declared`` is whether it has only the fields that the config class declares, under their own names.
    """
    from transformers import AutoConfig

    if model_type in PAIRS:
        parts = [random_config(chance.choice(types), chance, declared=declared) for types in PAIRS[model_type]]
        return pair(model_type, *parts)
    config: dict[str, Any] = AutoConfig.for_model(class_type(model_type)).to_dict()
    config["model_type"] = model_type
    config.update(copy.deepcopy(dict(SEEDS.get(model_type, {}))))
    for part in [config, *_nested(config)]:
        if part is not config:
            part.update(copy.deepcopy(dict(SEEDS.get(part.get("model_type") or "", {}))))
        vary(part, chance, declared=declared)
        for name, values in CHOICES_OF_TYPE.get(part.get("model_type") or "", {}).items():
            part[name] = chance.choice(values)
    if model_type == "t5gemma2":  # both sides have to be as wide, with one vocabulary
        config["decoder"] = {**config["encoder"]["text_config"], "model_type": config["decoder"]["model_type"]}
    if model_type == "fun_asr_nano":  # what joins both is as wide as the language model
        width = config["text_config"]["hidden_size"]
        config["adaptor_config"].update(hidden_size=width, intermediate_size=width // 4)
    for key, fields in FIXED.get(model_type, {}).items():
        (config[key] if key else config).update(copy.deepcopy(dict(fields)))
    for (key, name), (other, source) in EQUAL.get(model_type, {}).items():
        config[key][name] = config[other][source]
    if config.get("id2label"):
        labels = [f"LABEL_{index}" for index in range(chance.choice(LABELS.get(model_type, (1, 2, 3))))]
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    return config if declared else _aliased(config, model_type, chance)


def pair(model_type: str, encoder: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    """Return the config of two composed models, of which the second reads what the first puts out."""
    from transformers import AutoConfig

    if decoder.get("cross_attention_hidden_size") is not None:
        width = AutoConfig.for_model(**copy.deepcopy(encoder)).hidden_size
        decoder["cross_attention_hidden_size"] = width
    reads = {"is_decoder": True, "add_cross_attention": True}
    return {"model_type": model_type, "encoder": encoder, "decoder": {**decoder, **reads}}


def _aliased(config: dict[str, Any], model_type: str, chance: random.Random) -> dict[str, Any]:
    """Return the config with some fields under their other names."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(class_type(model_type))
    for key, part in [("", config), *config.items()]:
        if not key or (key.endswith("_config") and isinstance(part, dict)):
            for alias, name in getattr(getattr(default, key, None) if key else default, "attribute_map", {}).items():
                if name in part and chance.random() < 0.3:
                    part[alias] = part.pop(name)
    return config


def vary(config: dict[str, Any], chance: random.Random, *, declared: bool) -> None:
    """Give a config few layers, and other sizes; ``declared`` is as for :func:`random_config`."""
    layers = chance.randint(1, 4)
    config.pop("per_layer_config", None)  # holds numbers of layers
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"):
        if type(config.get(name)) is int:
            config[name] = layers
    listed = (
        "layer_types",
        "mlp_layer_types",
        "layers_block_type",
        "no_rope_layers",
        "layer_rope_theta",
        "indexer_types",
    )
    for name in listed:
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
        for name in ("decoder_attention_heads", "num_decoder_attention_heads"):
            if name in config:
                config[name] = heads
        if "num_attention_heads_per_layer" in config:
            several = [kv * chance.choice((1, 2, 4)) for _ in range(layers)]
            config["num_attention_heads_per_layer"] = chance.choice((None, several))
        # Many types read a head size that their config class does not declare.
        if "head_dim" in config or (chance.random() < 0.15 and not declared):
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
    if isinstance(config.get("intermediate_size"), list):  # one for each layer
        several = [8 * chance.randint(3, 40) for _ in range(layers)]
        config["intermediate_size"] = chance.choice((several, several[0]))
    for name in EXPERTS:
        if type(config.get(name)) is int and config[name] > 1:
            config[name] = chance.choice((4, 6, 8))
    for name in FLAGS:
        if isinstance(config.get(name), bool):
            config[name] = chance.random() < 0.5
    if config.get("add_cross_attention") and "is_decoder" in config:
        config["is_decoder"] = True
    if "decoder_vocab_size" in config:
        shared = config["share_encoder_decoder_embeddings"]
        config["decoder_vocab_size"] = config["vocab_size"] if shared else 8 * chance.randint(3, 40)
        config["tie_word_embeddings"] = True
    for name in ("is_gated_act", "dense_act_fn"):  # follow from feed_forward_proj
        config.pop(name, None)
    for name, values in CHOICES.items():
        if name == "num_groups" and isinstance(config.get(name), list):
            continue  # one for each stage
        if name in config and chance.random() < 0.7:
            config[name] = chance.choice(values)
    for name in ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types"):
        kinds = sorted(set(config.get(name) or ()))
        if len(kinds) > 1 and chance.random() < 0.5:
            config[name] = [chance.choice(kinds) for _ in config[name]]
    if type(config.get("pad_token_id")) is int:
        config["pad_token_id"] = 0 if config.get("model_type") in PADDED else None
