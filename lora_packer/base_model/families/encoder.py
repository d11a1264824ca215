"""Encoders in BERT's line: BERT, RoBERTa and those that copied their layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Build, Head
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear
from lora_packer.base_model.families.legacy import numbered
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

Body = Callable[[Settings], Named]

_QUERY_VALUE = ("query", "value")
# The heads whose classes keep the pooler.
_BERT_POOLED: tuple[Head, ...] = ("none", "sequence-classification")


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
        yield embedding(f"embeddings.{name}_embeddings", s.size(fields[name]), width)
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
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")

    def layer(path: str) -> Named:
        for name in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            for projection in ("query", "key", "value"):
                yield linear(f"{path}.{name}.self.{projection}", hidden, hidden, bias=bias)
            yield linear(f"{path}.{name}.output.dense", hidden, hidden, bias=True)
            yield from layer_norm(f"{path}.{name}.{attention_norm}", hidden)
        yield linear(f"{path}.intermediate.dense", inner, hidden, bias=True)
        yield linear(f"{path}.output.dense", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.{output_norm}", hidden)

    yield from numbered(s, "encoder.layer", layer)
    if last_norm is not None:
        yield from layer_norm(last_norm, hidden)


def _bert(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"))
    yield from layers(s)


def _ernie(s: Settings) -> Named:
    if s.flag("use_task_id"):
        tasks = s.size("task_type_vocab_size")
        yield embedding("embeddings.task_type_embeddings", tasks, s.size("hidden_size"))
    yield from _bert(s)


def _bert_generation(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), tables=("word", "position"))
    yield from layers(s)


def _big_bird(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"))
    yield from layers(s, bias=s.flag("use_bias"))


def _megatron(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), norm=None)
    yield from layers(s, attention_norm="ln", output_norm="ln", last_norm="encoder.ln")


def _prelayernorm(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"))
    yield from layers(s, attention_norm="LayerNorm", output_norm="intermediate.LayerNorm", last_norm="LayerNorm")


def _xlm_roberta_xl(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), norm=None)
    yield from layers(s, attention_norm="self_attn_layer_norm", output_norm="LayerNorm", last_norm="encoder.LayerNorm")


def _electra(s: Settings) -> Named:
    yield from embeddings(s, s.size("embedding_size"))
    yield from _widened(s, "embeddings_project")
    yield from layers(s)


def _widened(s: Settings, path: str) -> Named:
    """The projection of embeddings that are not as wide as the layers."""
    width, hidden = s.size("embedding_size"), s.size("hidden_size")
    if width != hidden:
        yield linear(path, hidden, width, bias=True)


def _roformer(s: Settings) -> Named:
    width = s.optional_size("embedding_size") or s.size("hidden_size")
    s = s.with_fields(embedding_size=width)
    yield from embeddings(s, width, tables=("word", "token_type"))
    yield from _widened(s, "embeddings_project")
    head_dim = s.size("hidden_size") // s.size("num_attention_heads")
    yield embedding("encoder.embed_positions", s.size("max_position_embeddings"), head_dim)
    yield from layers(s)


def _rembert(s: Settings) -> Named:
    width = s.size("input_embedding_size")
    yield from embeddings(s, width)
    yield linear("encoder.embedding_hidden_mapping_in", s.size("hidden_size"), width, bias=True)
    yield from layers(s)


def _roc_bert(s: Settings) -> Named:
    width = hidden = s.size("hidden_size")
    for name in ("pronunciation", "shape"):
        part = s.size(f"{name}_embed_dim")
        yield embedding(f"embeddings.{name}_embed", s.size(f"{name}_vocab_size"), part)
        width += part if s.flag(f"enable_{name}") else 0
    if s.flag("concat_input"):
        yield linear("embeddings.map_inputs_layer", hidden, width, bias=True)
    yield from _bert(s)


def _xmod(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    narrow = int(hidden // s.ratio("adapter_reduction_factor"))
    yield from _bert(s)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}.output"
        if s.flag("adapter_layer_norm"):
            yield from layer_norm(f"{path}.adapter_layer_norm", hidden)
        for language in s.names("languages") or ():
            yield linear(f"{path}.adapter_modules.{language}.dense1", narrow, hidden, bias=True)
            yield linear(f"{path}.adapter_modules.{language}.dense2", hidden, narrow, bias=True)
    if s.flag("pre_norm"):
        yield from layer_norm("encoder.LayerNorm", hidden)


def bert_predictions(s: Settings, *, width: str = "hidden_size", path: str = "cls.predictions") -> Named:
    """BERT's language model head, whose input the named field may narrow."""
    vocab, narrow = s.size("vocab_size"), s.size(width)
    yield f"{path}.bias", Module("parameter", (vocab,))
    yield linear(f"{path}.transform.dense", narrow, s.size("hidden_size"), bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", narrow)
    yield linear(f"{path}.decoder", vocab, narrow, bias=True)


def roberta_predictions(s: Settings, *, bias: bool = True) -> Named:
    """RoBERTa's language model head; its last layer may leave the bias to the head."""
    vocab, hidden = s.size("vocab_size"), s.size("hidden_size")
    yield "lm_head.bias", Module("parameter", (vocab,))
    yield linear("lm_head.dense", hidden, hidden, bias=True)
    yield from layer_norm("lm_head.layer_norm", hidden)
    yield linear("lm_head.decoder", vocab, hidden, bias=bias)


def _generation_predictions(s: Settings) -> Named:
    vocab = s.size("vocab_size")
    yield "lm_head.bias", Module("parameter", (vocab,))
    yield linear("lm_head.decoder", vocab, s.size("hidden_size"), bias=True)


def _electra_predictions(s: Settings) -> Named:
    width = s.size("embedding_size")
    yield from layer_norm("generator_predictions.LayerNorm", width)
    yield linear("generator_predictions.dense", width, s.size("hidden_size"), bias=True)
    yield linear("generator_lm_head", s.size("vocab_size"), width, bias=True)


def _roformer_predictions(s: Settings) -> Named:
    narrowed = s.optional_size("embedding_size") is not None
    return bert_predictions(s, width="embedding_size" if narrowed else "hidden_size")


def _rembert_predictions(s: Settings) -> Named:
    width = s.size("output_embedding_size")
    yield linear("cls.predictions.dense", width, s.size("hidden_size"), bias=True)
    yield linear("cls.predictions.decoder", s.size("vocab_size"), width, bias=True)
    yield from layer_norm("cls.predictions.LayerNorm", width)


def one_layer(s: Settings) -> Named:
    """A classifier of one layer."""
    yield linear("classifier", s.labels(), s.size("hidden_size"), bias=True)


def two_layers(s: Settings, path: str = "classifier") -> Named:
    """A classifier of two layers."""
    hidden = s.size("hidden_size")
    yield linear(f"{path}.dense", hidden, hidden, bias=True)
    yield linear(f"{path}.out_proj", s.labels(), hidden, bias=True)


def answers(s: Settings) -> Named:
    """BERT's question answering head: as many outputs as there are labels."""
    yield linear("qa_outputs", s.labels(), s.size("hidden_size"), bias=True)


def _two_answers(s: Settings) -> Named:
    yield linear("qa_outputs", 2, s.size("hidden_size"), bias=True)


def _big_bird_answers(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield linear("qa_classifier.intermediate.dense", inner, hidden, bias=True)
    yield linear("qa_classifier.output.dense", hidden, inner, bias=True)
    yield from layer_norm("qa_classifier.output.LayerNorm", hidden)
    yield linear("qa_classifier.qa_outputs", 2, hidden, bias=True)


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
            yield linear(before + pooler, s.size("hidden_size"), s.size("hidden_size"), bias=True)
        if head in heads:
            yield from heads[head](s)

    return build


def encoder_sizes(
    vocab: int, hidden: int = 768, layers: int = 12, heads: int = 12, inner: int = 3072, **more: Any
) -> dict[str, Any]:
    """Return the defaults that every encoder has, and more."""
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        **more,
    }


def defined(defaults: Mapping[str, Any], build: Build, targets: tuple[str, ...] = ()) -> Architecture:
    """Return the definition of an encoder."""
    return Architecture(defaults, {TRANSFORMERS_5: build}, targets, input_embedding="word_embeddings")


_bert_like = partial(encoder, predictions=bert_predictions, classifier=one_layer, pooled=_BERT_POOLED)
_roberta_like = partial(encoder, predictions=roberta_predictions)
_ROBERTA = _roberta_like(_bert, "roberta.")

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": defined(encoder_sizes(30522), _bert_like(_bert, "bert."), _QUERY_VALUE),
    "ernie": defined(encoder_sizes(30522, task_type_vocab_size=3), _bert_like(_ernie, "ernie.")),
    "megatron-bert": defined(encoder_sizes(29056, 1024, 24, 16, 4096), _bert_like(_megatron, "bert.")),
    "rembert": defined(
        encoder_sizes(250300, 1152, 32, 18, 4608, input_embedding_size=256, output_embedding_size=1664),
        _bert_like(_rembert, "rembert.", predictions=_rembert_predictions),
    ),
    "roc_bert": defined(
        encoder_sizes(
            30522,
            enable_pronunciation=True,
            enable_shape=True,
            pronunciation_embed_dim=768,
            pronunciation_vocab_size=910,
            shape_embed_dim=512,
            shape_vocab_size=24858,
            concat_input=True,
        ),
        _bert_like(_roc_bert, "roc_bert."),
    ),
    "bert-generation": defined(
        encoder_sizes(50358, 1024, 24, 16, 4096), encoder(_bert_generation, "bert.", _generation_predictions, pooled=())
    ),
    "big_bird": defined(
        encoder_sizes(50358, max_position_embeddings=4096, use_bias=True),
        encoder(
            _big_bird,
            "bert.",
            bert_predictions,
            answering=_big_bird_answers,
            pooled=("none", "causal-lm", "sequence-classification", "token-classification"),
            pooler="pooler",
        ),
    ),
    "roberta": defined(encoder_sizes(50265), _ROBERTA, _QUERY_VALUE),
    "xlm-roberta": defined(encoder_sizes(30522), _ROBERTA, _QUERY_VALUE),
    "camembert": defined(encoder_sizes(30522), _ROBERTA),
    "data2vec-text": defined(encoder_sizes(30522), _roberta_like(_bert, "data2vec_text.")),
    "roberta-prelayernorm": defined(encoder_sizes(50265), _roberta_like(_prelayernorm, "roberta_prelayernorm.")),
    "xlm-roberta-xl": defined(
        encoder_sizes(250880, 2560, 36, 32, 10240, max_position_embeddings=514, type_vocab_size=1),
        _roberta_like(_xlm_roberta_xl, "roberta."),
    ),
    "xmod": defined(
        encoder_sizes(30522, adapter_reduction_factor=2, languages=["en_XX"]), _roberta_like(_xmod, "roberta.")
    ),
    "electra": defined(
        encoder_sizes(30522, 256, 12, 4, 1024, embedding_size=128),
        encoder(_electra, "electra.", _electra_predictions, pooled=()),
        _QUERY_VALUE,
    ),
    "roformer": defined(
        encoder_sizes(50000, max_position_embeddings=1536),
        encoder(_roformer, "roformer.", _roformer_predictions, answering=_two_answers, pooled=()),
    ),
}
