"""BERT and the encoders that are named for it, ELECTRA, BigBird and RoFormer."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.encoders import (
    ENCODER_TARGETS,
    bert_body,
    bert_like,
    bert_predictions,
    embeddings,
    encoder,
    layers,
    one_layer,
    unpooled_encoder,
)
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import aliased, numbered, plain_decoder
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _bert_generation(s: Settings) -> Named:
    yield from embeddings(s, s.hidden, tables=("word", "position"))
    yield from layers(s)


def _big_bird(s: Settings) -> Named:
    yield from embeddings(s, s.hidden)
    yield from layers(s, bias=s.flag("use_bias"))


def _megatron(s: Settings) -> Named:
    yield from embeddings(s, s.hidden, norm=None)
    yield from layers(s, attention_norm="ln", output_norm="ln", last_norm="encoder.ln")


def _electra(s: Settings) -> Named:
    yield from embeddings(s, s.size("embedding_size"))
    yield from _widened(s, "embeddings_project")
    yield from layers(s)


def _widened(s: Settings, path: str) -> Named:
    """The projection of embeddings that are not as wide as the layers."""
    width = s.size("embedding_size")
    if width != s.hidden:
        yield from linear(path, s.hidden, width, bias=True)


def _roformer(s: Settings) -> Named:
    width = s.optional_size("embedding_size") or s.hidden
    s = s.with_fields(embedding_size=width)
    yield from embeddings(s, width, tables=("word", "token_type"))
    yield from _widened(s, "embeddings_project")
    head_dim = s.hidden // s.heads
    yield from embedding("encoder.embed_positions", s.size("max_position_embeddings"), head_dim)
    yield from layers(s)


def _rembert(s: Settings) -> Named:
    width = s.size("input_embedding_size")
    yield from embeddings(s, width)
    yield from linear("encoder.embedding_hidden_mapping_in", s.hidden, width, bias=True)
    yield from layers(s)


def _roc_bert(s: Settings) -> Named:
    width = hidden = s.hidden
    for name in ("pronunciation", "shape"):
        part = s.size(f"{name}_embed_dim")
        yield from embedding(f"embeddings.{name}_embed", s.size(f"{name}_vocab_size"), part)
        width += part if s.flag(f"enable_{name}") else 0
    if s.flag("concat_input"):
        yield from linear("embeddings.map_inputs_layer", hidden, width, bias=True)
    yield from bert_body(s)


def _generation_predictions(s: Settings) -> Named:
    yield from parameter("lm_head.bias", s.vocab)
    yield from linear("lm_head.decoder", s.vocab, s.hidden, bias=True)


def _electra_predictions(s: Settings) -> Named:
    width = s.size("embedding_size")
    yield from layer_norm("generator_predictions.LayerNorm", width)
    yield from linear("generator_predictions.dense", width, s.hidden, bias=True)
    yield from linear("generator_lm_head", s.vocab, width, bias=True)


def _roformer_predictions(s: Settings) -> Named:
    narrowed = s.optional_size("embedding_size") is not None
    return bert_predictions(s, width="embedding_size" if narrowed else "hidden_size")


def _rembert_predictions(s: Settings) -> Named:
    width = s.size("output_embedding_size")
    yield from linear("cls.predictions.dense", width, s.hidden, bias=True)
    yield from linear("cls.predictions.decoder", s.vocab, width, bias=True)
    yield from layer_norm("cls.predictions.LayerNorm", width)


def _two_answers(s: Settings) -> Named:
    yield from linear("qa_outputs", 2, s.hidden, bias=True)


def _big_bird_answers(s: Settings) -> Named:
    yield from linear("qa_classifier.intermediate.dense", s.inner, s.hidden, bias=True)
    yield from linear("qa_classifier.output.dense", s.hidden, s.inner, bias=True)
    yield from layer_norm("qa_classifier.output.LayerNorm", s.hidden)
    yield from linear("qa_classifier.qa_outputs", 2, s.hidden, bias=True)


def _distilbert(s: Settings) -> Named:
    inner = s.size("hidden_dim")

    def layer(path: str, _index: int) -> Named:
        yield from linear(f"{path}.attention", s.hidden, s.hidden, "q_lin", "k_lin", "v_lin", "out_lin", bias=True)
        yield from layer_norm(f"{path}.sa_layer_norm", s.hidden)
        yield from chain(f"{path}.ffn", (s.hidden, inner, s.hidden), "lin1", "lin2", bias=True)
        yield from layer_norm(f"{path}.output_layer_norm", s.hidden)

    yield from embeddings(s, s.hidden, tables=("word", "position"))
    yield from numbered(s, "transformer.layer", layer)


def _distilbert_predictions(s: Settings) -> Named:
    yield from linear("vocab_transform", s.hidden, s.hidden, bias=True)
    yield from layer_norm("vocab_layer_norm", s.hidden)
    yield from linear("vocab_projector", s.vocab, s.hidden, bias=True)


def _distilbert_classifier(s: Settings) -> Named:
    yield from linear("pre_classifier", s.hidden, s.hidden, bias=True)
    yield from one_layer(s)


def _albert(s: Settings) -> Named:
    """The layers of a group are shared: the number of layers decides nothing."""
    width = s.size("embedding_size")
    yield from embeddings(s, width)
    yield from linear("encoder.embedding_hidden_mapping_in", s.hidden, width, bias=True)
    for group in range(s.size("num_hidden_groups")):
        for index in range(s.size("inner_group_num")):
            path = f"encoder.albert_layer_groups.{group}.albert_layers.{index}"
            yield from layer_norm(f"{path}.full_layer_layer_norm", s.hidden)
            yield from linear(f"{path}.attention", s.hidden, s.hidden, "query", "key", "value", "dense", bias=True)
            yield from layer_norm(f"{path}.attention.LayerNorm", s.hidden)
            yield from chain(path, (s.hidden, s.inner, s.hidden), "ffn", "ffn_output", bias=True)


def _albert_predictions(s: Settings) -> Named:
    width = s.size("embedding_size")
    yield from parameter("predictions.bias", s.vocab)
    yield from layer_norm("predictions.LayerNorm", width)
    yield from linear("predictions.dense", width, s.hidden, bias=True)
    yield from linear("predictions.decoder", s.vocab, width, bias=True)


def _eurobert_predictions(s: Settings) -> Named:
    yield from linear("lm_head", s.vocab, s.hidden, bias=s.flag("mlp_bias"))


def _eurobert_classifier(s: Settings) -> Named:
    yield from linear("dense", s.hidden, s.hidden, bias=True)
    yield from one_layer(s)


def _nomic(s: Settings) -> Named:
    heads, _, head_dim = head_sizes(s)

    def layer(path: str, _index: int) -> Named:
        yield from linear(f"{path}.self_attn", heads * head_dim, s.hidden, "q_proj", "k_proj", "v_proj")
        yield from linear(f"{path}.self_attn.o_proj", s.hidden, heads * head_dim)
        yield from plain_mlp(s, f"{path}.mlp")
        yield from layer_norm(path, s.hidden, "post_attention_layernorm", "post_mlp_layernorm")

    yield from embeddings(s, s.hidden, tables=("word", "token_type"))
    yield from numbered(s, "layers", layer)


def _nomic_predictions(s: Settings) -> Named:
    for path, module in bert_predictions(s):
        yield path.replace(".LayerNorm.", ".layer_norm."), module


_DISTILBERT_NAMES = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

ARCHITECTURES: Architectures = {
    "bert": declared(bert_like(bert_body, "bert."), targets=ENCODER_TARGETS, input_embedding="word_embeddings"),
    "megatron-bert": declared(bert_like(_megatron, "bert."), input_embedding="word_embeddings"),
    "rembert": declared(
        bert_like(_rembert, "rembert.", predictions=_rembert_predictions), input_embedding="word_embeddings"
    ),
    "roc_bert": declared(bert_like(_roc_bert, "roc_bert."), input_embedding="word_embeddings"),
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
