"""RoBERTa, XLM and the encoders that follow them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.encoders import (
    ENCODER_TARGETS,
    bert_body,
    embeddings,
    encoder,
    layers,
    roberta_predictions,
    summary_classifier,
    unpooled_encoder,
)
from lora_packer.base_model.blocks.frames import aliased
from lora_packer.base_model.blocks.layers import biased_linear, embedding, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _prelayernorm(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"))
    yield from layers(s, attention_norm="LayerNorm", output_norm="intermediate.LayerNorm", last_norm="LayerNorm")


def _xlm_roberta_xl(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), norm=None)
    yield from layers(s, attention_norm="self_attn_layer_norm", output_norm="LayerNorm", last_norm="encoder.LayerNorm")


def _xmod(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    narrow = int(hidden // s.ratio("adapter_reduction_factor"))
    yield from bert_body(s)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}.output"
        if s.flag("adapter_layer_norm"):
            yield from layer_norm(f"{path}.adapter_layer_norm", hidden)
        for language in s.names("languages") or ():
            yield linear(f"{path}.adapter_modules.{language}.dense1", narrow, hidden, bias=True)
            yield linear(f"{path}.adapter_modules.{language}.dense2", hidden, narrow, bias=True)
    if s.flag("pre_norm"):
        yield from layer_norm("encoder.LayerNorm", hidden)


def _xlm(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield embedding("position_embeddings", s.size("max_position_embeddings"), hidden)
    languages = s.size("n_langs")
    if languages > 1 and s.flag("use_lang_emb"):
        yield embedding("lang_embeddings", languages, hidden)
    yield embedding("embeddings", s.size("vocab_size"), hidden)
    yield from layer_norm("layer_norm_emb", hidden)
    for index in range(s.size("num_hidden_layers")):
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield biased_linear(f"attentions.{index}.{name}", hidden, hidden)
        yield from layer_norm(f"layer_norm1.{index}", hidden)
        yield biased_linear(f"ffns.{index}.lin1", 4 * hidden, hidden)
        yield biased_linear(f"ffns.{index}.lin2", hidden, 4 * hidden)
        yield from layer_norm(f"layer_norm2.{index}", hidden)


def _xlm_predictions(s: Settings) -> Named:
    yield biased_linear("pred_layer.proj", s.size("vocab_size"), s.size("hidden_size"))


def _longformer(s: Settings) -> Named:
    """RoBERTa with projections of their own for the tokens that see everything."""
    hidden = s.size("hidden_size")
    yield from embeddings(s, hidden)
    yield from layers(s)
    for index in range(s.size("num_hidden_layers")):
        for name in ("query_global", "key_global", "value_global"):
            yield linear(f"encoder.layer.{index}.attention.self.{name}", hidden, hidden, bias=True)


_roberta_like = partial(encoder, predictions=roberta_predictions)
_ROBERTA = _roberta_like(bert_body, "roberta.")
_XLM_NAMES = {
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "n_words": "vocab_size",
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "roberta": declared(_ROBERTA, targets=ENCODER_TARGETS, input_embedding="word_embeddings"),
    "xlm-roberta": declared(_ROBERTA, targets=ENCODER_TARGETS, input_embedding="word_embeddings"),
    "camembert": declared(_ROBERTA, input_embedding="word_embeddings"),
    "data2vec-text": declared(_roberta_like(bert_body, "data2vec_text."), input_embedding="word_embeddings"),
    "roberta-prelayernorm": declared(
        _roberta_like(_prelayernorm, "roberta_prelayernorm."), input_embedding="word_embeddings"
    ),
    "xlm-roberta-xl": declared(_roberta_like(_xlm_roberta_xl, "roberta."), input_embedding="word_embeddings"),
    "xmod": declared(_roberta_like(_xmod, "roberta."), input_embedding="word_embeddings"),
    "xlm": declared(
        aliased(unpooled_encoder(_xlm, "transformer.", _xlm_predictions, summary_classifier), _XLM_NAMES),
        input_embedding="embeddings",
    ),
    "longformer": declared(encoder(_longformer, "longformer.", roberta_predictions), input_embedding="word_embeddings"),
}
