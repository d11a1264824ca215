"""Models that are composed of two: TrOCR, Donut, ViT with GPT-2, BERT with BERT, Wav2Vec2 with BART."""

from __future__ import annotations

from typing import Any

import pytest

from lora_packer import BaseModel
from lora_packer.errors import InputError, UnknownArchitecture

VIT = {"model_type": "vit", "image_size": 384, "architectures": ["ViTForImageClassification"]}
TROCR = {
    "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"], "encoder": VIT,
    "decoder": {
        "model_type": "trocr", "d_model": 1024, "decoder_layers": 12, "decoder_ffn_dim": 4096, "vocab_size": 50265,
        "cross_attention_hidden_size": 768, "tie_word_embeddings": False,
    },
}  # fmt: skip
DONUT = {
    "model_type": "vision-encoder-decoder",
    "encoder": {
        "model_type": "donut-swin", "embed_dim": 128, "depths": [2, 2, 14, 2], "num_heads": [4, 8, 16, 32],
        "window_size": 10, "image_size": [2560, 1920], "hidden_size": 1024,
    },
    "decoder": {"model_type": "mbart", "decoder_layers": 4, "vocab_size": 57525, "add_cross_attention": True},
}  # fmt: skip
VIT_GPT2 = {
    "model_type": "vision-encoder-decoder", "encoder": {"model_type": "vit"},
    "decoder": {"model_type": "gpt2", "n_embd": 1024, "n_head": 16, "add_cross_attention": True},
}  # fmt: skip
SPEECH = {
    "model_type": "speech-encoder-decoder", "encoder": {"model_type": "wav2vec2", "hidden_size": 1024},
    "decoder": {"model_type": "bart", "d_model": 768},
}  # fmt: skip
GPT2_LAYER = "decoder.transformer.h.11."


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        (TROCR, {
            "encoder.layers.11.attention.q_proj": (768, 768), "encoder.embeddings.position_embeddings": (1, 577, 768),
            "decoder.model.decoder.layers.11.encoder_attn.k_proj": (1024, 768),
            "decoder.output_projection": (50265, 1024)}, "enc_to_dec_proj"),
        (DONUT, {
            "encoder.encoder.layers.2.blocks.13.attention.self.query": (512, 512),
            "encoder.encoder.layers.3.blocks.1.attention.self.relative_position_bias_table": (361, 32),
            "decoder.model.decoder.layers.3.encoder_attn.v_proj": (1024, 1024), "decoder.lm_head": (57525, 1024)},
         "enc_to_dec_proj"),
        (VIT_GPT2, {
            GPT2_LAYER + "attn.c_attn": (1024, 3072), GPT2_LAYER + "crossattention.q_attn": (1024, 1024),
            "enc_to_dec_proj": (1024, 768)}, "decoder.transformer.h.12.attn.c_attn"),
        ({"model_type": "encoder-decoder"}, {
            "encoder.encoder.layer.11.attention.self.query": (768, 768),
            "decoder.bert.encoder.layer.11.crossattention.self.key": (768, 768),
            "decoder.cls.predictions.decoder": (30522, 768)}, "encoder.encoder.layer.0.crossattention.self.key"),
        (SPEECH, {"enc_to_dec_proj": (768, 1024), "decoder.lm_head": (50265, 768)}, "encoder.lm_head"),
    ],
)  # fmt: skip
def test_modules(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules


def test_a_wav2vec2_that_shortens_puts_out_another_width() -> None:
    encoder = {"model_type": "wav2vec2", "add_adapter": True, "output_hidden_size": 1024}
    config = {**SPEECH, "encoder": encoder, "decoder": {"model_type": "bart"}}
    assert "enc_to_dec_proj" not in BaseModel.load(config).modules


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (TROCR, "decoder.model.decoder.embed_tokens"),
        (VIT_GPT2, "decoder.transformer.wte"),
        ({"model_type": "vision-encoder-decoder"}, "decoder.bert.embeddings.word_embeddings"),
        ({"model_type": "encoder-decoder"}, "encoder.embeddings.word_embeddings"),
        ({"model_type": "encoder-decoder", "encoder": {"model_type": "t5"}}, "encoder.shared"),
    ],
)
def test_the_input_embedding_is_that_of_the_part_that_reads(config: dict[str, Any], path: str) -> None:
    base = BaseModel.load(config)
    assert base.input_embedding == path
    grown = base.with_vocab(70_000)
    assert grown.vocab_size == 70_000
    assert len(grown.modules) == len(base.modules)


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        (TROCR, False),
        (VIT_GPT2, True),
        ({"model_type": "vision-encoder-decoder", "tie_word_embeddings": False}, True),
        ({"model_type": "encoder-decoder"}, False),
    ],
)
def test_the_decoder_says_whether_its_head_is_the_input_embedding(config: dict[str, Any], tied: bool) -> None:
    assert BaseModel.load(config).tied is tied


def test_the_names_of_transformers_4_are_those_of_both_parts() -> None:
    dialects = BaseModel.load(TROCR).dialects
    path = "encoder.encoder.layer.0.attention.attention.query"
    assert path in dialects["transformers-4"]
    assert path not in dialects["transformers-5"]
    assert "decoder.model.decoder.layers.0.encoder_attn.k_proj" in dialects["transformers-4"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"encoder": {"model_type": "nope"}}, "the encoder .* 'nope': there is no proven definition"),
        ({"encoder": {"model_type": 3}}, "the encoder .* '3': there is no proven definition"),
        ({"encoder": {"model_type": "clip"}}, "the encoder .* 'clip': its config has no hidden size"),
        ({"encoder": {"model_type": "trocr"}}, "the encoder .* 'trocr': transformers has no bare model"),
        ({"encoder": {"model_type": "chatglm"}}, "the encoder .* 'chatglm': there is no proven definition"),
        ({"decoder": {"model_type": "t5"}}, "the decoder .* 't5': transformers has no causal language model"),
        ({"decoder": {"model_type": "vit"}}, "the decoder .* 'vit': transformers has no causal language model"),
    ],
)
def test_a_part_that_is_not_known_is_said_to_be(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownArchitecture, match=said):
        BaseModel.load({"model_type": "vision-encoder-decoder", **config})


def test_two_models_have_no_heads_that_are_those_of_both() -> None:
    with pytest.raises(InputError, match="composed of two"):
        _ = BaseModel.load(TROCR).attention_heads
