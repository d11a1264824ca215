"""RoBERTa, XLM and the encoders that follow them."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, declared, like
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
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _prelayernorm(s: Settings) -> Named:
    yield from embeddings(s, s.hidden)
    yield from layers(s, attention_norm="LayerNorm", output_norm="intermediate.LayerNorm", last_norm="LayerNorm")


def _xlm_roberta_xl(s: Settings) -> Named:
    yield from embeddings(s, s.hidden, norm=None)
    yield from layers(s, attention_norm="self_attn_layer_norm", output_norm="LayerNorm", last_norm="encoder.LayerNorm")


def _xmod(s: Settings) -> Named:
    narrow = int(s.hidden // s.ratio("adapter_reduction_factor"))
    yield from bert_body(s)
    for index in range(s.layers):
        path = f"encoder.layer.{index}.output"
        if s.flag("adapter_layer_norm"):
            yield from layer_norm(f"{path}.adapter_layer_norm", s.hidden)
        for language in s.names("languages") or ():
            yield from chain(
                f"{path}.adapter_modules.{language}", (s.hidden, narrow, s.hidden), "dense1", "dense2", bias=True
            )
    if s.flag("pre_norm"):
        yield from layer_norm("encoder.LayerNorm", s.hidden)


def _xlm(s: Settings) -> Named:
    yield from embedding("position_embeddings", s.size("max_position_embeddings"), s.hidden)
    languages = s.size("n_langs")
    if languages > 1 and s.flag("use_lang_emb"):
        yield from embedding("lang_embeddings", languages, s.hidden)
    yield from embedding("embeddings", s.vocab, s.hidden)
    yield from layer_norm("layer_norm_emb", s.hidden)
    for index in range(s.layers):
        yield from linear(f"attentions.{index}", s.hidden, s.hidden, "q_lin", "k_lin", "v_lin", "out_lin", bias=True)
        yield from layer_norm(f"layer_norm1.{index}", s.hidden)
        yield from chain(f"ffns.{index}", (s.hidden, 4 * s.hidden, s.hidden), "lin1", "lin2", bias=True)
        yield from layer_norm(f"layer_norm2.{index}", s.hidden)


def _xlm_predictions(s: Settings) -> Named:
    yield from linear("pred_layer.proj", s.vocab, s.hidden, bias=True)


def _longformer(s: Settings) -> Named:
    """RoBERTa with projections of their own for the tokens that see everything."""
    yield from embeddings(s, s.hidden)
    yield from layers(s)
    for index in range(s.layers):
        yield from linear(
            f"encoder.layer.{index}.attention.self",
            s.hidden,
            s.hidden,
            "query_global",
            "key_global",
            "value_global",
            bias=True,
        )


_roberta_like = partial(encoder, predictions=roberta_predictions)
_ROBERTA = _roberta_like(bert_body, "roberta.")
_XLM_NAMES = {
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "n_words": "vocab_size",
}

ARCHITECTURES: Architectures = {
    "roberta": declared(_ROBERTA, targets=ENCODER_TARGETS, input_embedding="word_embeddings"),
    "xlm-roberta": like("roberta"),
    "camembert": like("roberta", {"default_targets": ()}),
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
