"""Encoders, and encoders with decoders: dimensions of well-known models, which class has which head, and odd configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import ones, write_adapter

import lora_packer
from lora_packer import BaseModel
from lora_packer.base_model import Head

BERT, ROBERTA = "bert.encoder.layer.11.", "roberta.encoder.layer.23."
T5_LAYER = "encoder.block.0.layer."

# What the models' own config.json files say, as far as it decides shapes.
BERT_BASE = {"model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12}
ROBERTA_LARGE = {
    "model_type": "roberta", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 50265,
}  # fmt: skip
DEBERTA_V3_BASE = {
    "model_type": "deberta-v2", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False, "type_vocab_size": 0,
    "vocab_size": 128100,
}  # fmt: skip
ALBERT_BASE_V2 = {
    "model_type": "albert", "embedding_size": 128, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30000,
}  # fmt: skip
MODERNBERT_LARGE = {
    "model_type": "modernbert", "hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 28,
    "num_attention_heads": 16, "vocab_size": 50368,
}  # fmt: skip
ELECTRA_SMALL = {"model_type": "electra", "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024}
FLAN_T5_BASE = {
    "model_type": "t5", "d_model": 768, "d_ff": 2048, "d_kv": 64, "num_layers": 12, "num_decoder_layers": 12,
    "num_heads": 12, "feed_forward_proj": "gated-gelu", "vocab_size": 32128,
}  # fmt: skip
BART_LARGE_CNN = {"model_type": "bart", "d_model": 1024, "vocab_size": 50264, "max_position_embeddings": 1024}
NLLB_600M = {
    "model_type": "m2m_100", "d_model": 1024, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096, "vocab_size": 256206,
}  # fmt: skip
TINY_BART = {
    "model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "vocab_size": 40, "max_position_embeddings": 8,
    "architectures": ["BartForConditionalGeneration"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (BERT_BASE, {
            BERT + "attention.self.query": (768, 768), BERT + "intermediate.dense": (3072, 768),
            "bert.embeddings.position_embeddings": (512, 768), "cls.predictions.decoder": (30522, 768)}),
        (ROBERTA_LARGE, {
            ROBERTA + "attention.output.dense": (1024, 1024), ROBERTA + "output.dense": (1024, 4096),
            "roberta.embeddings.token_type_embeddings": (1, 1024), "lm_head.decoder": (50265, 1024)}),
        (DEBERTA_V3_BASE, {
            "deberta.encoder.layer.0.attention.self.query_proj": (768, 768),
            "deberta.encoder.rel_embeddings": (512, 768), "deberta.encoder.LayerNorm.weight": (768,)}),
        (ALBERT_BASE_V2, {
            "albert.encoder.embedding_hidden_mapping_in": (768, 128), "predictions.decoder": (30000, 128),
            "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn": (3072, 768)}),
        (MODERNBERT_LARGE, {
            "model.layers.27.attn.Wqkv": (3072, 1024), "model.layers.27.mlp.Wi": (5248, 1024),
            "decoder": (50368, 1024), "head.dense": (1024, 1024)}),
        (ELECTRA_SMALL, {
            "electra.embeddings_project": (256, 128), "generator_lm_head": (30522, 128)}),
        (FLAN_T5_BASE, {
            T5_LAYER + "1.DenseReluDense.wi_1": (2048, 768), "decoder.block.11.layer.1.EncDecAttention.k": (768, 768),
            T5_LAYER + "0.SelfAttention.relative_attention_bias": (32, 12), "lm_head": (32128, 768)}),
        (BART_LARGE_CNN, {
            "model.shared": (50264, 1024), "model.encoder.embed_positions": (1026, 1024),
            "model.decoder.layers.11.encoder_attn.v_proj": (1024, 1024), "model.decoder.layers.0.fc1": (4096, 1024)}),
        (NLLB_600M, {
            "model.encoder.layers.11.fc2": (1024, 4096), "lm_head": (256206, 1024),
            "model.decoder.layer_norm.weight": (1024,)}),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) and "model_type" in value else "",
)  # fmt: skip
def test_modules_of_well_known_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    base = BaseModel.load(config)
    assert {path: base.modules[path].weight_shape for path in shapes} == shapes


@pytest.mark.parametrize(
    ("config", "present", "absent"),
    [
        # DeBERTa's keys may be shared with the positions; then they have no projection of their own.
        (DEBERTA_V3_BASE, "deberta.embeddings.word_embeddings", "deberta.embeddings.position_embeddings"),
        ({**DEBERTA_V3_BASE, "share_att_key": False}, "deberta.encoder.layer.0.attention.self.pos_key_proj", "pooler.dense"),
        ({**DEBERTA_V3_BASE, "conv_kernel_size": 3}, "deberta.encoder.conv.conv", "deberta.encoder.layer.0.conv"),
        ({**BERT_BASE, "is_decoder": True, "add_cross_attention": True}, BERT + "crossattention.self.key", "bert.pooler.dense"),
        ({"model_type": "t5"}, T5_LAYER + "1.DenseReluDense.wi", T5_LAYER + "1.DenseReluDense.wi_0"),
        # The file's own word on the gate wins over the name of the activation.
        ({"model_type": "t5", "is_gated_act": True}, T5_LAYER + "1.DenseReluDense.wi_0", T5_LAYER + "1.DenseReluDense.wi"),
        ({"model_type": "t5"}, T5_LAYER + "0.SelfAttention.relative_attention_bias",
         "encoder.block.1.layer.0.SelfAttention.relative_attention_bias"),
        ({"model_type": "marian", "share_encoder_decoder_embeddings": False}, "model.decoder.embed_tokens", "model.shared"),
        ({"model_type": "modernbert", "norm_bias": True}, "model.layers.0.mlp_norm.bias", "model.layers.0.attn_norm.weight"),
        ({"model_type": "xmod", "languages": ["de_DE"]}, "roberta.encoder.layer.0.output.adapter_modules.de_DE.dense1",
         "roberta.encoder.layer.0.output.adapter_modules.en_XX.dense1"),
    ],
)  # fmt: skip
def test_what_a_config_switches_on(config: dict[str, Any], present: str, absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert present in modules
    assert absent not in modules


@pytest.mark.parametrize(
    ("model_type", "named", "head", "present", "absent"),
    [
        ("bert", "BertForMaskedLM", "causal-lm", "cls.predictions.transform.dense", "bert.pooler.dense"),
        ("bert", "BertForSequenceClassification", "sequence-classification", "bert.pooler.dense", "cls.predictions.decoder"),
        ("bert", "BertForTokenClassification", "token-classification", "classifier", "bert.pooler.dense"),
        ("bert", "BertModel", "none", "pooler.dense", "classifier"),
        ("roberta", "RobertaForSequenceClassification", "sequence-classification", "classifier.out_proj", "roberta.pooler.dense"),
        ("bart", "BartForConditionalGeneration", "seq2seq", "model.encoder.layers.0.fc1", "lm_head.bias"),
        ("bart", "BartForCausalLM", "causal-lm", "model.decoder.layers.0.fc1", "model.encoder.layers.0.fc1"),
        ("bart", "BartForSequenceClassification", "sequence-classification", "classification_head.out_proj", "lm_head"),
        ("bart", "BartModel", "none", "encoder.layers.0.fc1", "lm_head"),
        ("marian", "MarianMTModel", "seq2seq", "model.encoder.layers.0.fc1", "encoder.layers.0.fc1"),
        ("t5", "T5ForTokenClassification", "token-classification", "transformer.encoder.final_layer_norm.weight",
         "transformer.decoder.final_layer_norm.weight"),
        # Without a class the checkpoints' own is meant, and no other type has an encoder and a decoder.
        ("pegasus", None, "seq2seq", "model.encoder.layers.0.fc1", "model.encoder.layernorm_embedding.weight"),
        ("llava", "LlavaForConditionalGeneration", "causal-lm", "lm_head", "model.encoder.layers.0.fc1"),
    ],
)  # fmt: skip
def test_the_head_is_that_of_the_class(
    model_type: str, named: str | None, head: Head, present: str, absent: str
) -> None:
    base = BaseModel.load({"model_type": model_type, "architectures": [named] if named else None})
    assert base.head == head
    assert present in base.modules
    assert absent not in base.modules


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (BERT_BASE, "bert.embeddings.word_embeddings"),
        (FLAN_T5_BASE, "shared"),
        (BART_LARGE_CNN, "model.shared"),
        ({**BART_LARGE_CNN, "architectures": ["BartForCausalLM"]}, "model.decoder.embed_tokens"),
        (MODERNBERT_LARGE, "model.embeddings.tok_embeddings"),
        ({"model_type": "t5gemma2"}, "model.encoder.text_model.embed_tokens"),
    ],
)
def test_input_embedding(config: dict[str, Any], path: str) -> None:
    assert BaseModel.load(config).input_embedding == path


def test_labels_and_vocabulary_change() -> None:
    base = BaseModel.load({**BERT_BASE, "id2label": {"0": "a", "1": "b", "2": "c"}}).with_head("question-answering")
    assert base.modules["qa_outputs"].weight_shape == (3, 768)  # BERT's has one output for each label
    assert BaseModel.load(BART_LARGE_CNN).with_vocab(50272).modules["lm_head"].weight_shape == (50272, 1024)


@pytest.mark.parametrize("task", ["SEQ_2_SEQ_LM", None])
def test_an_adapter_of_an_encoder_and_a_decoder(tmp_path: Path, task: str | None) -> None:
    paths = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn"]
    names = [f"base_model.model.model.{path}.{name}" for path in paths for name in ("q_proj", "v_proj")]
    tensors = {f"{name}.lora_A.weight": ones(2, 16) for name in names}
    tensors |= {f"{name}.lora_B.weight": ones(16, 2) for name in names}
    config = {"peft_type": "LORA", "task_type": task, "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    lost = {name: tensor for name, tensor in tensors.items() if ".encoder." not in name}
    for folder, held in (("whole", tensors), ("lost", lost)):
        report = lora_packer.check(write_adapter(tmp_path / folder, held, config), base_config=TINY_BART, target="peft")
        assert any(finding.severity != "info" for finding in report.findings) == (folder == "lost")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**BERT_BASE, "hidden_size": None}, "hidden_size"),
        ({**BERT_BASE, "type_vocab_size": 0}, "type_vocab_size"),
        ({**DEBERTA_V3_BASE, "share_att_key": False, "pos_att_type": [1]}, "pos_att_type"),
        ({"model_type": "xmod", "languages": "en_XX"}, "languages"),
        ({"model_type": "bart", "decoder_layers": -1}, "decoder_layers"),
        ({"model_type": "t5", "d_kv": "64"}, "d_kv"),
        ({"model_type": "t5gemma", "decoder": {"num_hidden_layers": 0}}, "num_hidden_layers"),
    ],
)
def test_a_config_that_makes_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        BaseModel.load(config)
