"""The frame of encoders: embeddings with a norm, layers with attention both ways, and their heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lora_packer.base_model.architecture import Build, Head
from lora_packer.base_model.blocks.frames import numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

Body = Callable[[Settings], Named]
ENCODER_TARGETS = ("query", "value")


def embeddings(
    s: Settings,
    width: int,
    *,
    tables: Sequence[str] = ("word", "position", "token_type"),
    norm: str | None = "LayerNorm",
) -> Named:
    """The tables of BERT's embeddings, and their norm."""
    fields = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    for name in tables:
        yield from embedding(f"embeddings.{name}_embeddings", s.size(fields[name]), width)
    if norm is not None:
        yield from layer_norm(f"embeddings.{norm}", width)


def layers(
    s: Settings,
    *,
    bias: bool = True,
    attention_norm: str = "output.LayerNorm",
    output_norm: str = "output.LayerNorm",
    last_norm: str | None = None,
) -> Named:
    """BERT's layers, with the names of their norms; ``bias`` is that of query, key and value."""

    def layer(path: str, _index: int) -> Named:
        for name in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            yield from linear(f"{path}.{name}.self", s.hidden, s.hidden, "query", "key", "value", bias=bias)
            yield from linear(f"{path}.{name}.output.dense", s.hidden, s.hidden, bias=True)
            yield from layer_norm(f"{path}.{name}.{attention_norm}", s.hidden)
        yield from linear(f"{path}.intermediate.dense", s.inner, s.hidden, bias=True)
        yield from linear(f"{path}.output.dense", s.hidden, s.inner, bias=True)
        yield from layer_norm(f"{path}.{output_norm}", s.hidden)

    yield from numbered(s, "encoder.layer", layer)
    if last_norm is not None:
        yield from layer_norm(last_norm, s.hidden)


def bert_body(s: Settings) -> Named:
    """Embeddings of the hidden size, and the layers."""
    yield from embeddings(s, s.hidden)
    yield from layers(s)


def bert_predictions(s: Settings, *, width: str = "hidden_size", path: str = "cls.predictions") -> Named:
    """BERT's language model head, whose input the named field may narrow."""
    narrow = s.size(width)
    yield from parameter(f"{path}.bias", s.vocab)
    yield from linear(f"{path}.transform.dense", narrow, s.hidden, bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", narrow)
    yield from linear(f"{path}.decoder", s.vocab, narrow, bias=True)


def roberta_predictions(s: Settings, *, bias: bool = True) -> Named:
    """RoBERTa's language model head; its last layer may leave the bias to the head."""
    yield from parameter("lm_head.bias", s.vocab)
    yield from linear("lm_head.dense", s.hidden, s.hidden, bias=True)
    yield from layer_norm("lm_head.layer_norm", s.hidden)
    yield from linear("lm_head.decoder", s.vocab, s.hidden, bias=bias)


def one_layer(s: Settings) -> Named:
    """A classifier of one layer."""
    yield from linear("classifier", s.labels(), s.hidden, bias=True)


def two_layers(s: Settings, path: str = "classifier") -> Named:
    """A classifier of two layers."""
    yield from linear(f"{path}.dense", s.hidden, s.hidden, bias=True)
    yield from linear(f"{path}.out_proj", s.labels(), s.hidden, bias=True)


def answers(s: Settings) -> Named:
    """BERT's question answering head: as many outputs as there are labels."""
    yield from linear("qa_outputs", s.labels(), s.hidden, bias=True)


def encoder(
    body: Body,
    prefix: str,
    predictions: Body,
    classifier: Body = two_layers,
    *,
    answering: Body = answers,
    pooled: Sequence[Head] = ("none",),
    pooler: str = "pooler.dense",
) -> Build:
    """Put an encoder's prefix, pooler and heads around it; ``pooled`` are the heads whose classes have the pooler."""
    heads: Mapping[Head, Body] = {
        "causal-lm": predictions,
        "sequence-classification": classifier,
        "token-classification": one_layer,
        "question-answering": answering,
    }

    def build(s: Settings, head: Head) -> Named:
        before = "" if head == "none" else prefix
        for path, module in body(s):
            yield before + path, module
        if head in pooled:
            yield from linear(before + pooler, s.hidden, s.hidden, bias=True)
        if head in heads:
            yield from heads[head](s)

    return build


def summary_classifier(s: Settings) -> Named:
    """The classifier on a summary of the sequence, where ``summary_use_proj`` says so."""
    if s.flag("summary_use_proj"):
        outputs = s.labels() if s.flag("summary_proj_to_labels") else s.hidden
        yield from linear("sequence_summary.summary", outputs, s.hidden, bias=True)


# An encoder under BERT's heads, whose bare model and sequence classifier keep the pooler.
bert_like = partial(
    encoder, predictions=bert_predictions, classifier=one_layer, pooled=("none", "sequence-classification")
)
# An encoder under heads without a pooler.
unpooled_encoder = partial(encoder, pooled=())
