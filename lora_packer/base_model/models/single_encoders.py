"""Encoders that are the only one of their name: XLNet, MPNet, Reformer, LayoutLM."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.encoders import (
    bert_predictions,
    embeddings,
    encoder,
    layers,
    one_layer,
    roberta_predictions,
    summary_classifier,
    unpooled_encoder,
)
from lora_packer.base_model.blocks.frames import aliased, layer_kinds, numbered
from lora_packer.base_model.blocks.layers import biased_linear, embedding, layer_norm, linear
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _mpnet(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")

    def layer(path: str, _index: int) -> Named:
        for name in ("q", "k", "v", "o"):
            yield biased_linear(f"{path}.attention.attn.{name}", hidden, hidden)
        yield from layer_norm(f"{path}.attention.LayerNorm", hidden)
        yield biased_linear(f"{path}.intermediate.dense", inner, hidden)
        yield biased_linear(f"{path}.output.dense", hidden, inner)
        yield from layer_norm(f"{path}.output.LayerNorm", hidden)

    yield from embeddings(s, hidden, tables=("word", "position"))
    yield from numbered(s, "encoder.layer", layer)
    buckets, heads = s.size("relative_attention_num_buckets"), s.size("num_attention_heads")
    yield embedding("encoder.relative_attention_bias", buckets, heads)


def _xlnet(s: Settings) -> Named:
    hidden, inner, heads = s.size("hidden_size"), s.size("d_inner"), s.size("num_attention_heads")
    head_dim = s.optional_size("d_head") or hidden // heads

    def layer(path: str, _index: int) -> Named:
        for name in ("q", "k", "v", "o", "r"):
            yield f"{path}.rel_attn.{name}", Module("parameter", (hidden, heads, head_dim))
        for name in ("r_r_bias", "r_s_bias", "r_w_bias"):
            yield f"{path}.rel_attn.{name}", Module("parameter", (heads, head_dim))
        yield f"{path}.rel_attn.seg_embed", Module("parameter", (2, heads, head_dim))
        yield from layer_norm(f"{path}.rel_attn.layer_norm", hidden)
        yield from layer_norm(f"{path}.ff.layer_norm", hidden)
        yield biased_linear(f"{path}.ff.layer_1", inner, hidden)
        yield biased_linear(f"{path}.ff.layer_2", hidden, inner)

    yield "mask_emb", Module("parameter", (1, 1, hidden))
    yield embedding("word_embedding", s.size("vocab_size"), hidden)
    yield from numbered(s, "layer", layer)


def _xlnet_predictions(s: Settings) -> Named:
    yield biased_linear("lm_loss", s.size("vocab_size"), s.size("hidden_size"))


def _xlnet_classifier(s: Settings) -> Named:
    yield from summary_classifier(s)
    yield biased_linear("logits_proj", s.labels(), s.size("hidden_size"))


_EVERYWHERE: tuple[Head, ...] = ("none", "causal-lm", "sequence-classification", "token-classification")


def _layoutlm(s: Settings) -> Named:
    """BERT that knows where on the page a word stands."""
    hidden, places = s.size("hidden_size"), s.size("max_2d_position_embeddings")
    yield from embeddings(s, hidden)
    for name in ("x", "y", "h", "w"):
        yield embedding(f"embeddings.{name}_position_embeddings", places, hidden)
    yield from layers(s)


def _reformer(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("feed_forward_size")
    projected = s.size("attention_head_size") * s.size("num_attention_heads")
    listed = s.names("attn_layers") or ("local",)
    kind_of = layer_kinds(listed, lambda _: listed[0])
    yield embedding("embeddings.word_embeddings", s.size("vocab_size"), hidden)
    yield from _reformer_positions(s, hidden)
    for index in range(s.optional_size("num_hidden_layers") or len(listed)):
        path = f"encoder.layers.{index}"
        yield from layer_norm(f"{path}.attention.layer_norm", hidden)
        for name in ("query_key", "value") if kind_of(index) == "lsh" else ("query", "key", "value"):
            yield linear(f"{path}.attention.self_attention.{name}", projected, hidden)
        yield linear(f"{path}.attention.output.dense", hidden, projected)
        yield from layer_norm(f"{path}.feed_forward.layer_norm", hidden)
        yield linear(f"{path}.feed_forward.dense.dense", inner, hidden, bias=True)
        yield linear(f"{path}.feed_forward.output.dense", hidden, inner, bias=True)
    yield from layer_norm("encoder.layer_norm", 2 * hidden)  # both streams of the reversible layers


def _reformer_positions(s: Settings, hidden: int) -> Named:
    if not s.flag("axial_pos_embds"):
        yield embedding("embeddings.position_embeddings.embedding", s.size("max_position_embeddings"), hidden)
        return
    shape, widths = s.numbers("axial_pos_shape") or (), s.numbers("axial_pos_embds_dim") or ()
    for axis, width in enumerate(widths):
        extent = tuple(size if index == axis else 1 for index, size in enumerate(shape))
        yield f"embeddings.position_embeddings.weights.{axis}", Module("parameter", (*extent, width))


def _reformer_predictions(s: Settings) -> Named:
    vocab = s.size("vocab_size")
    yield "lm_head.bias", Module("parameter", (vocab,))
    yield linear("lm_head.decoder", vocab, 2 * s.size("hidden_size"))


def _reformer_classifier(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield linear("classifier.dense", hidden, 2 * hidden, bias=True)
    yield linear("classifier.out_proj", s.labels(), hidden, bias=True)


def _reformer_answers(s: Settings) -> Named:
    yield linear("qa_outputs", s.labels(), 2 * s.size("hidden_size"), bias=True)


_XLNET_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "n_token": "vocab_size",
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "mpnet": declared(encoder(_mpnet, "mpnet.", roberta_predictions), input_embedding="word_embeddings"),
    "xlnet": declared(
        aliased(unpooled_encoder(_xlnet, "transformer.", _xlnet_predictions, _xlnet_classifier), _XLNET_NAMES),
        input_embedding="word_embedding",
    ),
    "layoutlm": declared(
        encoder(_layoutlm, "layoutlm.", bert_predictions, one_layer, pooled=_EVERYWHERE),
        targets=("query", "value"),
        input_embedding="word_embeddings",
    ),
    "reformer": declared(
        unpooled_encoder(
            _reformer, "reformer.", _reformer_predictions, _reformer_classifier, answering=_reformer_answers
        ),
        input_embedding="word_embeddings",
    ),
}
