"""Base models that hear: dimensions of well-known models, their older names, fields that are filled in, odd configs."""

from __future__ import annotations

from typing import Any

import pytest

import lora_packer
from lora_packer import BaseModel

TEXT, EAR = "model.language_model.layers.0.", "model.audio_tower.layers.0."

# What the models' own config.json files say, as far as it decides shapes.
WHISPER_LARGE_V3 = {
    "model_type": "whisper", "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120, "encoder_attention_heads": 20, "decoder_attention_heads": 20, "num_mel_bins": 128,
    "vocab_size": 51866, "architectures": ["WhisperForConditionalGeneration"],
}  # fmt: skip
VOXTRAL_MINI = {
    "model_type": "voxtral",
    "audio_config": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32},
    "text_config": {"model_type": "llama", "hidden_size": 3072, "num_hidden_layers": 30, "head_dim": 128},
}
QWEN2_AUDIO_7B = {
    "model_type": "qwen2_audio",
    "audio_config": {"encoder_layers": 32, "d_model": 1280},
    "text_config": {"model_type": "qwen2", "intermediate_size": 11008, "vocab_size": 156032},
}
QWEN3_OMNI_TALKER = {"spatial_merge_size": 2, "text_config": {"shared_expert_intermediate_size": 768}}
SMALL_VOICE = {"dit_config": {"num_hidden_layers": 1}}


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (WHISPER_LARGE_V3, {
            "model.encoder.conv1": (1280, 128, 3), "model.encoder.embed_positions": (1500, 1280),
            "model.decoder.layers.31.encoder_attn.q_proj": (1280, 1280), "proj_out": (51866, 1280)}),
        (VOXTRAL_MINI, {
            TEXT + "self_attn.q_proj": (4096, 3072), TEXT + "self_attn.k_proj": (1024, 3072),
            "model.multi_modal_projector.linear_1": (3072, 5120), "lm_head": (131072, 3072)}),
        (QWEN2_AUDIO_7B, {
            EAR + "fc1": (5120, 1280), "model.multi_modal_projector.linear": (4096, 1280),
            TEXT + "mlp.up_proj": (11008, 4096), "lm_head": (156032, 4096)}),
        ({"model_type": "audioflamingo3"}, {"model.multi_modal_projector.linear_1": (4096, 1280)}),
        ({"model_type": "glmasr"}, {"model.multi_modal_projector.linear_1": (4096, 5120)}),
        ({"model_type": "qwen3_asr"}, {"model.audio_tower.conv_out": (1024, 7680)}),
        ({"model_type": "granite_speech"}, {
            "model.encoder.layers.0.attn.to_kv": (2048, 1024), "model.encoder.layers.0.conv.depth_conv.conv": (2048, 1, 15),
            "model.projector.qformer.encoder.layer.0.crossattention.attention.key": (768, 1408)}),
        ({"model_type": "vibevoice_asr"}, {
            "model.acoustic_tokenizer_encoder.conv_layers.5.conv.conv": (2048, 1024, 16),
            "model.multi_modal_projector.semantic_linear_1": (4096, 128)}),
        ({"model_type": "qwen2_5_omni", "token2wav_config": SMALL_VOICE}, {
            "thinker.model.visual.blocks.0.attn.q": (3584, 3584), "talker.codec_head": (8448, 3584),
            "token2wav.code2wav_dit_model.input_embed.proj": (1024, 912)}),
        ({"model_type": "qwen3_omni_moe", "talker_config": QWEN3_OMNI_TALKER}, {
            "thinker.model.language_model.layers.0.mlp.experts.gate_up_proj": (128, 1536, 2048),
            "talker.model.layers.0.mlp.shared_expert.up_proj": (768, 1024),
            "talker.code_predictor.lm_head.30": (2048, 1024), "code2wav.code_embedding": (32768, 1024)}),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) and "model_type" in value else "",
)  # fmt: skip
def test_modules_of_well_known_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    base = BaseModel.load(config)
    assert {path: base.modules[path].weight_shape for path in shapes} == shapes


def test_whispers_keys_have_no_bias_and_its_decoder_may_stand_alone() -> None:
    whole = BaseModel.load(WHISPER_LARGE_V3)
    assert whole.head == "seq2seq"
    assert not whole.modules["model.encoder.layers.0.self_attn.k_proj"].bias
    assert whole.modules["model.encoder.layers.0.self_attn.v_proj"].bias
    alone = whole.with_head("causal-lm")
    assert "model.decoder.layers.0.fc1" in alone.modules
    assert not [path for path in alone.modules if path.startswith("model.encoder.")]


def test_a_nested_config_is_filled_in_or_replaced() -> None:
    # Voxtral fills in what its text_config lacks; Qwen3-ASR does so only where it has none.
    voxtral = BaseModel.load({"model_type": "voxtral", "text_config": {"num_hidden_layers": 1}})
    assert voxtral.modules[TEXT + "mlp.up_proj"].weight_shape == (8192, 3072)
    asr = BaseModel.load({"model_type": "qwen3_asr", "text_config": {"model_type": "qwen3", "num_hidden_layers": 1}})
    assert asr.modules[TEXT + "mlp.up_proj"].weight_shape == (22016, 4096)
    assert BaseModel.load({"model_type": "qwen3_asr"}).modules[TEXT + "mlp.up_proj"].weight_shape == (6144, 2048)


def test_fields_of_the_encoder_have_two_names() -> None:
    for field in ("encoder_ffn_dim", "intermediate_size"):
        base = BaseModel.load({**VOXTRAL_MINI, "audio_config": {field: 640}})
        assert base.modules[EAR + "fc1"].weight_shape == (640, 1280)


@pytest.mark.parametrize(
    ("config", "path", "older"),
    [
        (VOXTRAL_MINI, TEXT + "mlp.up_proj", "language_model.model.layers.0.mlp.up_proj"),
        (VOXTRAL_MINI, "lm_head", "language_model.lm_head"),
        (VOXTRAL_MINI, EAR + "fc1", "audio_tower.layers.0.fc1"),
        (
            {"model_type": "granite_speech"},
            "model.projector.qformer.encoder.layer.0.attention.attention.query",
            "projector.qformer.encoder.layer.0.attention.attention.query",
        ),
        ({"model_type": "qwen2_5_omni_thinker"}, TEXT + "mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ({"model_type": "qwen2_5_omni_thinker"}, "model.visual.merger.mlp.0", "visual.merger.mlp.0"),
        (
            {"model_type": "qwen2_5_omni", "enable_audio_output": False},
            "thinker." + TEXT + "mlp.up_proj",
            "thinker.model.layers.0.mlp.up_proj",
        ),
    ],
)
def test_names_of_older_versions(config: dict[str, Any], path: str, older: str) -> None:
    base = BaseModel.load(config)
    assert base.dialects["transformers-4"][older] == base.modules[path]
    assert older not in base.modules


def test_experts_were_linears_before_transformers_5() -> None:
    base = BaseModel.load({"model_type": "qwen3_omni_moe_thinker", "text_config": {"num_hidden_layers": 1}})
    older = base.dialects["transformers-4"]
    assert older["model.layers.0.mlp.experts.127.down_proj"].weight_shape == (2048, 768)
    assert "model.language_model.layers.0.mlp.experts.127.down_proj" not in base.modules


def test_a_voice_may_be_left_out() -> None:
    modules = BaseModel.load({"model_type": "qwen2_5_omni", "enable_audio_output": False}).modules
    assert {path.partition(".")[0] for path in modules} == {"thinker"}


def test_the_thinkers_embedding_is_the_input_embedding() -> None:
    base = BaseModel.load({"model_type": "qwen2_5_omni", "token2wav_config": SMALL_VOICE})
    assert (base.input_embedding, base.vocab_size) == ("thinker.model.language_model.embed_tokens", 152064)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**WHISPER_LARGE_V3, "num_mel_bins": 0}, "num_mel_bins"),
        ({"model_type": "granite_speech", "downsample_rate": None}, "downsample_rate"),
        ({"model_type": "vibevoice_asr", "acoustic_tokenizer_encoder_config": {"depths": [3]}}, "depths"),
        ({"model_type": "qwen2_5_omni", "token2wav_config": {"dit_config": {"enc_channels": [8]}}}, "enc_channels"),
        (
            {
                "model_type": "qwen3_omni_moe",
                "talker_config": QWEN3_OMNI_TALKER,
                "code2wav_config": {"upsample_rates": 8},
            },
            "upsample_rates",
        ),
        # The class default cannot be built either: transformers has no size for the talker's shared expert.
        ({"model_type": "qwen3_omni_moe"}, "shared_expert_intermediate_size"),
    ],
)
def test_a_config_that_makes_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(config)


def test_an_unknown_language_model_is_not_guessed() -> None:
    with pytest.raises(lora_packer.UnknownArchitecture, match="text_config of model type 'newer'"):
        BaseModel.load({"model_type": "voxtral", "text_config": {"model_type": "newer"}})


def test_gemma_3n_has_the_tower_of_another_library() -> None:
    """timm's MobileNetV5, without timm: 4 stages, the last two with attention, and what joins them."""
    modules = BaseModel.load({"model_type": "gemma3n"}).modules
    tower = "model.vision_tower.timm_model."
    shapes = {
        "blocks.2.9.attn.query.proj": (768, 640, 1, 1),
        "blocks.2.9.attn.key.down_conv": (640, 1, 3, 3),
        "blocks.3.37.attn.value.proj": (96, 1280, 1, 1),
        "msfa.ffn.pw_proj.conv": (2048, 3840, 1, 1),
    }
    assert {path: modules[tower + path].weight_shape for path in shapes} == shapes
    assert modules["model.embed_vision.embedding_projection"].in_features == 2048


def test_another_model_of_that_library_is_unknown() -> None:
    config = {"model_type": "gemma3n", "vision_config": {"architecture": "resnet50"}}
    with pytest.raises(lora_packer.UnknownArchitecture, match="resnet50"):
        BaseModel.load(config)


@pytest.mark.parametrize(
    ("config", "embedding"),
    [
        ({"model_type": "speech_to_text"}, "model.decoder.embed_tokens"),
        ({"model_type": "moonshine"}, "model.decoder.embed_tokens"),
        ({"model_type": "cohere_asr"}, "model.decoder.embed_tokens"),
        ({"model_type": "prophetnet", "architectures": ["ProphetNetForCausalLM"]},
         "prophetnet.decoder.word_embeddings"),
        ({"model_type": "prophetnet"}, "prophetnet.word_embeddings"),
    ],
)  # fmt: skip
def test_the_input_embedding_is_that_of_the_class(config: dict[str, Any], embedding: str) -> None:
    assert BaseModel.load(config).input_embedding == embedding
