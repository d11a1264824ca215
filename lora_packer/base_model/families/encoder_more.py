"""More encoders: ESM, Longformer, LayoutLM, EuroBERT, Nomic BERT, Reformer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head
from lora_packer.base_model.blocks import Named, embedding, gated_mlp, layer_norm, linear
from lora_packer.base_model.families.common import grouped_attention, head_sizes, layer_kinds, sizes, stacked
from lora_packer.base_model.families.encoder import (
    bert_predictions,
    defined,
    embeddings,
    encoder,
    encoder_sizes,
    layers,
    one_layer,
    roberta_predictions,
)
from lora_packer.base_model.families.legacy import numbered
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

_EVERYWHERE: tuple[Head, ...] = ("none", "causal-lm", "sequence-classification", "token-classification")


def _esm(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    absolute = s.value("position_embedding_type") == "absolute"
    yield from embeddings(s, hidden, tables=("word", "position") if absolute else ("word",), norm=None)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", hidden)
    yield from layers(s, attention_norm="LayerNorm", output_norm="LayerNorm", last_norm="encoder.emb_layer_norm_after")
    # Every head of every layer votes on which residues touch.
    yield linear("contact_head.regression", 1, s.size("num_hidden_layers") * s.size("num_attention_heads"), bias=True)


def _longformer(s: Settings) -> Named:
    """RoBERTa with projections of their own for the tokens that see everything."""
    hidden = s.size("hidden_size")
    yield from embeddings(s, hidden)
    yield from layers(s)
    for index in range(s.size("num_hidden_layers")):
        for name in ("query_global", "key_global", "value_global"):
            yield linear(f"encoder.layer.{index}.attention.self.{name}", hidden, hidden, bias=True)


def _layoutlm(s: Settings) -> Named:
    """BERT that knows where on the page a word stands."""
    hidden, places = s.size("hidden_size"), s.size("max_2d_position_embeddings")
    yield from embeddings(s, hidden)
    for name in ("x", "y", "h", "w"):
        yield embedding(f"embeddings.{name}_position_embeddings", places, hidden)
    yield from layers(s)


def _eurobert(s: Settings) -> Named:
    bias, mlp_bias = s.flag("attention_bias"), s.flag("mlp_bias")

    def layer(path: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn", bias=bias, output_bias=bias)
        yield from gated_mlp(f"{path}.mlp", s.size("hidden_size"), s.size("intermediate_size"), bias=mlp_bias)

    return stacked(s, layer)


def _eurobert_predictions(s: Settings) -> Named:
    yield linear("lm_head", s.size("vocab_size"), s.size("hidden_size"), bias=s.flag("mlp_bias"))


def _eurobert_classifier(s: Settings) -> Named:
    yield linear("dense", s.size("hidden_size"), s.size("hidden_size"), bias=True)
    yield from one_layer(s)


def _nomic(s: Settings) -> Named:
    hidden, (heads, _, head_dim) = s.size("hidden_size"), head_sizes(s)

    def layer(path: str) -> Named:
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


_unpooled = partial(encoder, pooled=())

ARCHITECTURES: Mapping[str, Architecture] = {
    "esm": defined(
        encoder_sizes(0, max_position_embeddings=1026, position_embedding_type="absolute"),
        encoder(_esm, "esm.", partial(roberta_predictions, bias=False)),
    ),
    "longformer": defined(encoder_sizes(30522), encoder(_longformer, "longformer.", roberta_predictions)),
    "layoutlm": defined(
        encoder_sizes(30522, max_2d_position_embeddings=1024),
        encoder(_layoutlm, "layoutlm.", bert_predictions, one_layer, pooled=_EVERYWHERE),
        ("query", "value"),
    ),
    "eurobert": Architecture(
        sizes(128256, 768, 3072, 12, 12, None),
        {TRANSFORMERS_5: _unpooled(_eurobert, "model.", _eurobert_predictions, _eurobert_classifier)},
        (),
    ),
    "nomic_bert": defined(
        encoder_sizes(30528, head_dim=64, max_position_embeddings=2048),
        encoder(_nomic, "nomic_bert.", _nomic_predictions, one_layer, pooled=("sequence-classification",)),
    ),
    "reformer": defined(
        {
            "vocab_size": 320,
            "hidden_size": 256,
            "feed_forward_size": 512,
            "attention_head_size": 64,
            "num_attention_heads": 12,
            "attn_layers": ["local", "lsh", "local", "lsh", "local", "lsh"],
            "axial_pos_embds": True,
            "axial_pos_shape": [64, 64],
            "axial_pos_embds_dim": [64, 192],
            "max_position_embeddings": 4096,
        },
        _unpooled(_reformer, "reformer.", _reformer_predictions, _reformer_classifier, answering=_reformer_answers),
    ),
}
