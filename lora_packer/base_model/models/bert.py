"""BERT and the encoders that are named for it, ELECTRA, BigBird and RoFormer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.encoders import (
    ENCODER_TARGETS,
    bert_body,
    bert_predictions,
    embeddings,
    encoder,
    layers,
    one_layer,
    unpooled_encoder,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import aliased, numbered, plain_decoder
from lora_packer.base_model.blocks.layers import biased_linear, embedding, layer_norm, linear
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings

# The heads whose classes keep the pooler.
_BERT_POOLED: tuple[Head, ...] = ("none", "sequence-classification")


def _ernie(s: Settings) -> Named:
    if s.flag("use_task_id"):
        tasks = s.size("task_type_vocab_size")
        yield embedding("embeddings.task_type_embeddings", tasks, s.size("hidden_size"))
    yield from bert_body(s)


def _bert_generation(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), tables=("word", "position"))
    yield from layers(s)


def _big_bird(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"))
    yield from layers(s, bias=s.flag("use_bias"))


def _megatron(s: Settings) -> Named:
    yield from embeddings(s, s.size("hidden_size"), norm=None)
    yield from layers(s, attention_norm="ln", output_norm="ln", last_norm="encoder.ln")


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
    yield from bert_body(s)


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


def _two_answers(s: Settings) -> Named:
    yield linear("qa_outputs", 2, s.size("hidden_size"), bias=True)


def _big_bird_answers(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield linear("qa_classifier.intermediate.dense", inner, hidden, bias=True)
    yield linear("qa_classifier.output.dense", hidden, inner, bias=True)
    yield from layer_norm("qa_classifier.output.LayerNorm", hidden)
    yield linear("qa_classifier.qa_outputs", 2, hidden, bias=True)


def _distilbert(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("hidden_dim")

    def layer(path: str, _index: int) -> Named:
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield biased_linear(f"{path}.attention.{name}", hidden, hidden)
        yield from layer_norm(f"{path}.sa_layer_norm", hidden)
        yield biased_linear(f"{path}.ffn.lin1", inner, hidden)
        yield biased_linear(f"{path}.ffn.lin2", hidden, inner)
        yield from layer_norm(f"{path}.output_layer_norm", hidden)

    yield from embeddings(s, hidden, tables=("word", "position"))
    yield from numbered(s, "transformer.layer", layer)


def _distilbert_predictions(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield biased_linear("vocab_transform", hidden, hidden)
    yield from layer_norm("vocab_layer_norm", hidden)
    yield biased_linear("vocab_projector", s.size("vocab_size"), hidden)


def _distilbert_classifier(s: Settings) -> Named:
    yield biased_linear("pre_classifier", s.size("hidden_size"), s.size("hidden_size"))
    yield from one_layer(s)


def _albert(s: Settings) -> Named:
    """The layers of a group are shared: the number of layers decides nothing."""
    hidden, inner, width = s.size("hidden_size"), s.size("intermediate_size"), s.size("embedding_size")
    yield from embeddings(s, width)
    yield biased_linear("encoder.embedding_hidden_mapping_in", hidden, width)
    for group in range(s.size("num_hidden_groups")):
        for index in range(s.size("inner_group_num")):
            path = f"encoder.albert_layer_groups.{group}.albert_layers.{index}"
            yield from layer_norm(f"{path}.full_layer_layer_norm", hidden)
            for name in ("query", "key", "value", "dense"):
                yield biased_linear(f"{path}.attention.{name}", hidden, hidden)
            yield from layer_norm(f"{path}.attention.LayerNorm", hidden)
            yield biased_linear(f"{path}.ffn", inner, hidden)
            yield biased_linear(f"{path}.ffn_output", hidden, inner)


def _albert_predictions(s: Settings) -> Named:
    vocab, width = s.size("vocab_size"), s.size("embedding_size")
    yield "predictions.bias", Module("parameter", (vocab,))
    yield from layer_norm("predictions.LayerNorm", width)
    yield biased_linear("predictions.dense", width, s.size("hidden_size"))
    yield biased_linear("predictions.decoder", vocab, width)


def _eurobert_predictions(s: Settings) -> Named:
    yield linear("lm_head", s.size("vocab_size"), s.size("hidden_size"), bias=s.flag("mlp_bias"))


def _eurobert_classifier(s: Settings) -> Named:
    yield linear("dense", s.size("hidden_size"), s.size("hidden_size"), bias=True)
    yield from one_layer(s)


def _nomic(s: Settings) -> Named:
    hidden, (heads, _, head_dim) = s.size("hidden_size"), head_sizes(s)

    def layer(path: str, _index: int) -> Named:
        for name in ("q_proj", "k_proj", "v_proj"):
            yield linear(f"{path}.self_attn.{name}", heads * head_dim, hidden)
        yield linear(f"{path}.self_attn.o_proj", hidden, heads * head_dim)
        yield from gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size"))
        yield from layer_norm(f"{path}.post_attention_layernorm", hidden)
        yield from layer_norm(f"{path}.post_mlp_layernorm", hidden)

    yield from embeddings(s, hidden, tables=("word", "token_type"))
    yield from numbered(s, "layers", layer)


def _nomic_predictions(s: Settings) -> Named:
    for path, module in bert_predictions(s):
        yield path.replace(".LayerNorm.", ".layer_norm."), module


_bert_like = partial(encoder, predictions=bert_predictions, classifier=one_layer, pooled=_BERT_POOLED)
_DISTILBERT_NAMES = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": declared(_bert_like(bert_body, "bert."), targets=ENCODER_TARGETS, input_embedding="word_embeddings"),
    "ernie": declared(_bert_like(_ernie, "ernie."), input_embedding="word_embeddings"),
    "megatron-bert": declared(_bert_like(_megatron, "bert."), input_embedding="word_embeddings"),
    "rembert": declared(
        _bert_like(_rembert, "rembert.", predictions=_rembert_predictions), input_embedding="word_embeddings"
    ),
    "roc_bert": declared(_bert_like(_roc_bert, "roc_bert."), input_embedding="word_embeddings"),
    "bert-generation": declared(
        encoder(_bert_generation, "bert.", _generation_predictions, pooled=()), input_embedding="word_embeddings"
    ),
    "big_bird": declared(
        encoder(
            _big_bird,
            "bert.",
            bert_predictions,
            answering=_big_bird_answers,
            pooled=("none", "causal-lm", "sequence-classification", "token-classification"),
            pooler="pooler",
        ),
        input_embedding="word_embeddings",
    ),
    "electra": declared(
        encoder(_electra, "electra.", _electra_predictions, pooled=()),
        targets=ENCODER_TARGETS,
        input_embedding="word_embeddings",
    ),
    "roformer": declared(
        encoder(_roformer, "roformer.", _roformer_predictions, answering=_two_answers, pooled=()),
        input_embedding="word_embeddings",
    ),
    "distilbert": declared(
        aliased(
            unpooled_encoder(_distilbert, "distilbert.", _distilbert_predictions, _distilbert_classifier),
            _DISTILBERT_NAMES,
        ),
        input_embedding="word_embeddings",
    ),
    "albert": declared(
        encoder(
            _albert,
            "albert.",
            _albert_predictions,
            one_layer,
            pooled=("none", "sequence-classification"),
            pooler="pooler",
        ),
        input_embedding="word_embeddings",
    ),
    "eurobert": declared(unpooled_encoder(plain_decoder, "model.", _eurobert_predictions, _eurobert_classifier)),
    "nomic_bert": declared(
        encoder(_nomic, "nomic_bert.", _nomic_predictions, one_layer, pooled=("sequence-classification",)),
        input_embedding="word_embeddings",
    ),
}
