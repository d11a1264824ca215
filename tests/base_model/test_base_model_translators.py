"""Models that translate or write down what they hear, against the dimensions of their configs."""

from __future__ import annotations

from typing import Any

import pytest

from lora_packer import BaseModel
from lora_packer.peft.targets import output_head

SPEECH = "speech_encoder.encoder.layers.23."
M4T = {"model_type": "seamless_m4t", "architectures": ["SeamlessM4TModel"]}
W2V_BERT = {"model_type": "wav2vec2-bert", "architectures": ["Wav2Vec2BertForCTC"], "vocab_size": 33}
STREAMING = {"model_type": "moonshine_streaming", "encoder_config": {"hidden_size": 416}}
FSMT = {"model_type": "fsmt", "src_vocab_size": 31640, "tgt_vocab_size": 31232, "pad_token_id": 1}


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        (M4T, {
            SPEECH + "self_attn.linear_pos": (1024, 1024), SPEECH + "conv_module.batch_norm.weight": (1024,),
            "t2u_model.model.decoder.layers.5.cross_attention.k_proj": (1024, 1024), "t2u_model.lm_head": (10082, 1024)},
         SPEECH + "self_attn.distance_embedding"),
        ({"model_type": "seamless_m4t_v2", "architectures": ["SeamlessM4Tv2Model"]}, {
            SPEECH + "self_attn.distance_embedding": (73, 64),
            SPEECH + "conv_module.depthwise_layer_norm.weight": (1024,)}, SPEECH + "self_attn.linear_pos"),
        ({**M4T, "architectures": ["SeamlessM4TForTextToText"]}, {"lm_head": (256102, 1024)},
         SPEECH + "self_attn.linear_q"),
        ({**W2V_BERT, "add_adapter": True, "output_hidden_size": 768}, {
            "wav2vec2_bert.encoder.layers.23.self_attn.linear_out": (1024, 1024), "lm_head": (33, 768),
            "wav2vec2_bert.adapter.layers.0.self_attn_conv": (1536, 768, 3)},
         "wav2vec2_bert.intermediate_ffn.output_dense"),
        (STREAMING, {
            "model.encoder.embedder.linear": (416, 80), "model.decoder.proj": (320, 416),
            "model.decoder.pos_emb": (4096, 416), "model.decoder.layers.5.mlp.fc1": (2560, 320)},
         "model.decoder.layers.6.mlp.fc1"),
        (FSMT, {
            "model.encoder.embed_tokens": (31640, 1024), "model.decoder.embed_tokens": (31232, 1024),
            "model.encoder.embed_positions": (1026, 1024), "model.decoder.output_projection": (31232, 1024)}, "lm_head"),
        ({"model_type": "canary", "encoder_config": {"hidden_size": 512, "model_type": "parakeet_encoder"}}, {
            "model.encoder.layers.23.self_attn.relative_k_proj": (512, 512), "proj_out": (16384, 1024),
            "model.decoder.layers.7.encoder_attn.k_proj": (1024, 1024)}, "model.decoder.pos_emb"),
        ({"model_type": "fun_asr_nano"}, {
            "model.audio_tower.layers.0.self_attn.q_proj": (512, 560),
            "model.audio_tower.layers.1.self_attn.q_proj": (512, 512),
            "model.audio_tower.layers.49.final_layernorm.weight": (512,),
            "model.multi_modal_projector.layers.1.mlp.fc1": (256, 1024)},
         "model.multi_modal_projector.layers.0.self_attn.fsmn.conv"),
        ({"model_type": "moss_transcribe_diarize", "audio_config": {"d_model": 512}}, {
            "model.audio_tower.conv1": (512, 80, 3), "model.multi_modal_projector.linear_1": (1024, 2048)},
         "model.audio_tower.layers.24.fc1"),
        ({"model_type": "kyutai_speech_to_text"}, {
            "model.embed_tokens.embed_tokens": (69570, 2048), "lm_head": (4001, 2048),
            "model.layers.47.self_attn.q_proj.linear": (2048, 2048), "model.layers.0.mlp.fc1": (11264, 2048),
            "codec_model.encoder.encoder_seanet.layers.12.conv": (1024, 512, 16),
            "codec_model.decoder.upsample.conv.weight": (512, 1, 4)}, "codec_model.encoder.encoder_seanet.layers.13.conv"),
        ({**FSMT, "tie_word_embeddings": True}, {"model.encoder.embed_tokens": (31232, 1024)}, "lm_head"),
    ],
)  # fmt: skip
def test_modules(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules


def test_a_config_may_leave_its_letters_to_who_trains_it() -> None:
    base = BaseModel.load({**W2V_BERT, "vocab_size": None})
    assert base.modules["lm_head"].in_features == 1024
    assert base.with_vocab(40).modules["lm_head"].weight_shape == (40, 1024)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (FSMT, None),
        ({"model_type": "trocr"}, "output_projection"),
        ({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "trocr"}}, "decoder.output_projection"),
        ({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "rwkv"}}, "decoder.head"),
        ({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "git"}}, "decoder.output"),
    ],
)
def test_the_output_embedding_is_what_the_class_calls_it(config: dict[str, Any], head: str | None) -> None:
    """FSMT calls the input embedding of its decoder so, and PEFT adapts its head with all linear layers."""
    assert output_head(BaseModel.load(config).modules) == head
