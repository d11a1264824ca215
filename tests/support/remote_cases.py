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

CASES: list[tuple[str, dict[str, Any], Any, Shapes]] = [
    ("phi4mm", _PHI4MM, ["qkv_proj", "gate_up_proj", "linear_q", "img_projection.0", "speech.0"], {
        _L + "self_attn.qkv_proj": (128, 64), _L + "mlp.gate_up_proj": (192, 64),
        _PHI4MM_AUDIO + "encoder.encoders.0.self_attn.linear_q": (32, 32),
        _PHI4MM_AUDIO + "audio_projection.speech.0": (64, 32),
        "model.embed_tokens_extend.image_embed.img_projection.0": (64, 1152)}),
]  # fmt: skip
# A config that nobody has read the code for: (config, what the refusal names).
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    (_PHI4MM | {"audio_processor": {"name": "other"}}, "audio_processor"),
    (_PHI4MM | {"embd_layer": {"image_embd_layer": {"projection_cls": "linear"}}}, "image_embd_layer"),
    (_PHI4MM | {"audio_processor": {"name": "cascades", "config": {"input_layer": "conv2d"}}}, "audio_processor"),
]
