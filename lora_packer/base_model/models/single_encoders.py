"""Encoders that are the only one of their name: XLNet, MPNet, Reformer, LayoutLM."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_5_23,
    Architectures,
    Build,
    Head,
    declared,
    named_class,
    only_for,
)
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.encoders import (
    Body,
    bert_body,
    bert_predictions,
    embeddings,
    encoder,
    layers,
    one_layer,
    roberta_predictions,
    summary_classifier,
    two_layers,
    unpooled_encoder,
)
from lora_packer.base_model.blocks.frames import aliased, layer_kinds, numbered
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _mpnet(s: Settings) -> Named:
    def layer(path: str, _index: int) -> Named:
        yield from linear(f"{path}.attention.attn", s.hidden, s.hidden, "q", "k", "v", "o", bias=True)
        yield from layer_norm(f"{path}.attention.LayerNorm", s.hidden)
        yield from linear(f"{path}.intermediate.dense", s.inner, s.hidden, bias=True)
        yield from linear(f"{path}.output.dense", s.hidden, s.inner, bias=True)
        yield from layer_norm(f"{path}.output.LayerNorm", s.hidden)

    yield from embeddings(s, s.hidden, tables=("word", "position"))
    yield from numbered(s, "encoder.layer", layer)
    buckets = s.size("relative_attention_num_buckets")
    yield from embedding("encoder.relative_attention_bias", buckets, s.heads)


def _xlnet(s: Settings) -> Named:
    inner = s.size("d_inner")
    head_dim = s.optional_size("d_head") or s.hidden // s.heads

    def layer(path: str, _index: int) -> Named:
        for name in ("q", "k", "v", "o", "r"):
            yield from parameter(f"{path}.rel_attn.{name}", s.hidden, s.heads, head_dim)
        for name in ("r_r_bias", "r_s_bias", "r_w_bias"):
            yield from parameter(f"{path}.rel_attn.{name}", s.heads, head_dim)
        yield from parameter(f"{path}.rel_attn.seg_embed", 2, s.heads, head_dim)
        yield from layer_norm(f"{path}.rel_attn.layer_norm", s.hidden)
        yield from layer_norm(f"{path}.ff.layer_norm", s.hidden)
        yield from chain(f"{path}.ff", (s.hidden, inner, s.hidden), "layer_1", "layer_2", bias=True)

    yield from parameter("mask_emb", 1, 1, s.hidden)
    yield from embedding("word_embedding", s.vocab, s.hidden)
    yield from numbered(s, "layer", layer)


def _xlnet_predictions(s: Settings) -> Named:
    yield from linear("lm_loss", s.vocab, s.hidden, bias=True)


def _xlnet_classifier(s: Settings) -> Named:
    yield from summary_classifier(s)
    yield from linear("logits_proj", s.labels(), s.hidden, bias=True)


_EVERYWHERE: tuple[Head, ...] = ("none", "causal-lm", "sequence-classification", "token-classification")


def _layoutlm(s: Settings) -> Named:
    """BERT that knows where on the page a word stands."""
    places = s.size("max_2d_position_embeddings")
    yield from embeddings(s, s.hidden)
    for name in ("x", "y", "h", "w"):
        yield from embedding(f"embeddings.{name}_position_embeddings", places, s.hidden)
    yield from layers(s)


def _reformer(s: Settings) -> Named:
    inner = s.size("feed_forward_size")
    projected = s.size("attention_head_size") * s.heads
    listed = s.names("attn_layers") or ("local",)
    kind_of = layer_kinds(listed, lambda _: listed[0])
    yield from embedding("embeddings.word_embeddings", s.vocab, s.hidden)
    yield from _reformer_positions(s, s.hidden)
    for index in range(s.optional_size("num_hidden_layers") or len(listed)):
        path = f"encoder.layers.{index}"
        yield from layer_norm(f"{path}.attention.layer_norm", s.hidden)
        for name in ("query_key", "value") if kind_of(index) == "lsh" else ("query", "key", "value"):
            yield from linear(f"{path}.attention.self_attention.{name}", projected, s.hidden)
        yield from linear(f"{path}.attention.output.dense", s.hidden, projected)
        yield from layer_norm(f"{path}.feed_forward.layer_norm", s.hidden)
        yield from linear(f"{path}.feed_forward.dense.dense", inner, s.hidden, bias=True)
        yield from linear(f"{path}.feed_forward.output.dense", s.hidden, inner, bias=True)
    yield from layer_norm("encoder.layer_norm", 2 * s.hidden)  # both streams of the reversible layers


def _reformer_positions(s: Settings, hidden: int) -> Named:
    if not s.flag("axial_pos_embds"):
        yield from embedding("embeddings.position_embeddings.embedding", s.size("max_position_embeddings"), hidden)
        return
    shape, widths = s.numbers("axial_pos_shape") or (), s.numbers("axial_pos_embds_dim") or ()
    for axis, width in enumerate(widths):
        extent = tuple(size if index == axis else 1 for index, size in enumerate(shape))
        yield from parameter(f"embeddings.position_embeddings.weights.{axis}", *extent, width)


def _reformer_predictions(s: Settings, *, bias: bool = True) -> Named:
    """The head, which before transformers 5.24 added the bias itself."""
    yield from parameter("lm_head.bias", s.vocab)
    yield from linear("lm_head.decoder", s.vocab, 2 * s.hidden, bias=bias)


def _reformer_classifier(s: Settings) -> Named:
    yield from linear("classifier.dense", s.hidden, 2 * s.hidden, bias=True)
    yield from linear("classifier.out_proj", s.labels(), s.hidden, bias=True)


def _reformer_answers(s: Settings) -> Named:
    yield from linear("qa_outputs", s.labels(), 2 * s.hidden, bias=True)


def _reformer_under(predictions: Body) -> Build:
    return unpooled_encoder(_reformer, "reformer.", predictions, _reformer_classifier, answering=_reformer_answers)


def _gte(s: Settings) -> Named:
    """BERT with gated feed-forward blocks and rotary positions."""

    def layer(path: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn", bias=True, output_bias=True)
        yield from linear(f"{path}.mlp", s.inner, s.hidden, "gate_proj", "up_proj")
        yield from linear(f"{path}.mlp.down_proj", s.hidden, s.inner, bias=True)
        yield from layer_norm(path, s.hidden, "post_attention_layernorm", "post_mlp_layernorm")

    yield from embeddings(s, s.hidden, tables=("word", "token_type"))
    yield from numbered(s, "layers", layer)


def _gte_predictions(s: Settings) -> Named:
    yield from linear("lm_head.dense", s.hidden, s.hidden, bias=True)
    yield from layer_norm("lm_head.layer_norm", s.hidden)
    yield from linear("lm_head.decoder", s.vocab, s.hidden, bias=True)


def _luke(s: Settings) -> Named:
    """RoBERTa that reads entities beside words."""
    narrow, path = s.size("entity_emb_size"), "entity_embeddings"
    yield from bert_body(s)
    yield from embedding(f"{path}.entity_embeddings", s.size("entity_vocab_size"), narrow)
    if narrow != s.hidden:
        yield from linear(f"{path}.entity_embedding_dense", s.hidden, narrow)
    yield from embedding(f"{path}.position_embeddings", s.size("max_position_embeddings"), s.hidden)
    yield from embedding(f"{path}.token_type_embeddings", s.size("type_vocab_size"), s.hidden)
    yield from layer_norm(f"{path}.LayerNorm", s.hidden)
    for index in range(s.layers) if s.flag("use_entity_aware_attention") else ():
        between = f"encoder.layer.{index}.attention.self"
        yield from linear(between, s.hidden, s.hidden, "w2e_query", "e2w_query", "e2e_query", bias=True)


def _luke_predictions(s: Settings) -> Named:
    entities, narrow, path = s.size("entity_vocab_size"), s.size("entity_emb_size"), "entity_predictions"
    yield from roberta_predictions(s)
    yield from parameter(f"{path}.bias", entities)
    yield from linear(f"{path}.transform.dense", narrow, s.hidden, bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", narrow)
    yield from linear(f"{path}.decoder", entities, narrow)


def _layoutlmv3(s: Settings) -> Named:
    """LayoutLM whose tables of places are narrower, and which reads the page's image, too."""
    places, place, extent = s.size("max_2d_position_embeddings"), s.size("coordinate_size"), s.size("shape_size")
    if s.flag("text_embed"):
        yield from embeddings(s, s.hidden)
        for name, width in {"x": place, "y": place, "h": extent, "w": extent}.items():
            yield from embedding(f"embeddings.{name}_position_embeddings", places, width)
    if s.flag("visual_embed"):
        patch = s.size("patch_size")
        yield from parameter("cls_token", 1, 1, s.hidden)
        yield from parameter("pos_embed", 1, (s.size("input_size") // patch) ** 2 + 1, s.hidden)
        yield from conv("patch_embed.proj", (s.hidden, s.size("num_channels"), patch, patch), bias=True)
        yield from layer_norm("LayerNorm", s.hidden)
        yield from layer_norm("norm", s.hidden)
    yield from layers(s.with_fields(add_cross_attention=False))
    if s.flag("has_relative_attention_bias"):
        yield from linear("encoder.rel_pos_bias", s.heads, s.size("rel_pos_bins"))
    if s.flag("has_spatial_attention_bias"):
        yield from linear("encoder", s.heads, s.size("rel_2d_pos_bins"), "rel_pos_x_bias", "rel_pos_y_bias")


def _layoutlmv3_under(s: Settings, head: Head) -> Named:
    for path, module in _layoutlmv3(s):
        yield path if head == "none" else f"layoutlmv3.{path}", module
    match head:
        case "sequence-classification":
            yield from two_layers(s)
        case "token-classification":
            yield from one_layer(s) if s.labels() < _ONE_LAYER else two_layers(s)
        case "question-answering":
            yield from two_layers(s, "qa_outputs")


def _dpr(s: Settings, _head: Head) -> Named:
    """BERT that finds passages: an encoder of questions, one of passages, and what reads them."""
    name = named_class(s) or ""
    path = next((path for cls, path in _DPR_CLASSES.items() if cls == name), "question_encoder")
    projected = s.count("projection_dim")
    yield from below(f"{path}.bert_model", bert_body(s))
    if projected:
        yield from linear(f"{path}.encode_proj", projected, s.hidden, bias=True)
    if name == "DPRReader":
        yield from linear("span_predictor.qa_outputs", 2, projected or s.hidden, bias=True)
        yield from linear("span_predictor.qa_classifier", 1, projected or s.hidden, bias=True)


_DPR_CLASSES = {
    "DPRContextEncoder": "ctx_encoder",
    "DPRQuestionEncoder": "question_encoder",
    "DPRReader": "span_predictor.encoder",
}
# From so many labels on LayoutLMv3 puts two layers before its tokens (modeling_layoutlmv3.py).
_ONE_LAYER = 10

_XLNET_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "n_token": "vocab_size",
}

ARCHITECTURES: Architectures = {
    "gte": declared(
        encoder(_gte, "gte.", _gte_predictions, one_layer, pooled=("sequence-classification",)),
        input_embedding="word_embeddings",
    ),
    "dpr": declared(only_for(_dpr, *_DPR_CLASSES), input_embedding="word_embeddings"),
    "layoutlmv3": declared(_layoutlmv3_under, input_embedding="word_embeddings"),
    "luke": declared(
        encoder(_luke, "luke.", _luke_predictions, one_layer, pooled=("none", "causal-lm", "sequence-classification")),
        input_embedding="word_embeddings",
    ),
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
        _reformer_under(_reformer_predictions),
        {TRANSFORMERS_5_23: _reformer_under(partial(_reformer_predictions, bias=False))},
        input_embedding="word_embeddings",
    ),
}
