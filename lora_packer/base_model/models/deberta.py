"""DeBERTa and DeBERTa-v2: encoders whose attention knows the distance of tokens."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.encoders import bert_predictions, embeddings, one_layer, unpooled_encoder
from lora_packer.base_model.blocks.frames import numbered
from lora_packer.base_model.blocks.layers import biased_linear, embedding, layer_norm, linear
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _position_kinds(s: Settings) -> frozenset[str]:
    """What DeBERTa's attention reads from positions: a list, or words between bars."""
    kinds = s.value("pos_att_type")
    if isinstance(kinds, str):
        return frozenset(kind.strip() for kind in kinds.lower().split("|"))
    return frozenset(s.names("pos_att_type") or ())


def _deberta_attention(s: Settings, path: str) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    yield linear(f"{path}.in_proj", 3 * hidden, hidden)
    yield f"{path}.q_bias", Module("parameter", (hidden,))
    yield f"{path}.v_bias", Module("parameter", (hidden,))
    if s.flag("talking_head"):
        yield linear(f"{path}.head_logits_proj", heads, heads)
        yield linear(f"{path}.head_weights_proj", heads, heads)
    if s.flag("relative_attention"):
        kinds = _position_kinds(s)
        if "c2p" in kinds:
            yield linear(f"{path}.pos_proj", hidden, hidden)
        if "p2c" in kinds:
            yield biased_linear(f"{path}.pos_q_proj", hidden, hidden)


def _deberta_v2_attention(s: Settings, path: str) -> Named:
    hidden = s.size("hidden_size")
    for name in ("query_proj", "key_proj", "value_proj"):
        yield biased_linear(f"{path}.{name}", hidden, hidden)
    if s.flag("relative_attention") and not s.flag("share_att_key"):
        kinds = _position_kinds(s)
        for kind, name in (("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")):
            if kind in kinds:
                yield biased_linear(f"{path}.{name}", hidden, hidden)


def _relative_positions(s: Settings) -> int:
    """How far DeBERTa looks; anything below one means as far as it can."""
    far = s.value("max_relative_positions")
    return far if type(far) is int and far > 0 else s.size("max_position_embeddings")


def _deberta_of(s: Settings, *, second: bool) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    width = s.optional_size("embedding_size") or hidden
    attention = _deberta_v2_attention if second else _deberta_attention

    def layer(path: str, _index: int) -> Named:
        yield from attention(s, f"{path}.attention.self")
        yield biased_linear(f"{path}.attention.output.dense", hidden, hidden)
        yield from layer_norm(f"{path}.attention.output.LayerNorm", hidden)
        yield biased_linear(f"{path}.intermediate.dense", inner, hidden)
        yield biased_linear(f"{path}.output.dense", hidden, inner)
        yield from layer_norm(f"{path}.output.LayerNorm", hidden)

    positions = ("position",) if s.flag("position_biased_input") else ()
    types = ("token_type",) if s.count("type_vocab_size") else ()
    yield from embeddings(s, width, tables=("word", *positions, *types), norm=None)
    if width != hidden:
        yield linear("embeddings.embed_proj", hidden, width)
    yield from layer_norm("embeddings.LayerNorm", hidden)
    yield from numbered(s, "encoder.layer", layer)
    if s.flag("relative_attention"):
        buckets = s.value("position_buckets") if second else None
        rows = buckets if type(buckets) is int and buckets > 0 else _relative_positions(s)
        yield embedding("encoder.rel_embeddings", 2 * rows, hidden)


def _deberta(s: Settings) -> Named:
    return _deberta_of(s, second=False)


def _deberta_v2(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield from _deberta_of(s, second=True)
    normed = s.value("norm_rel_ebd")
    if isinstance(normed, str) and "layer_norm" in normed.lower():
        yield from layer_norm("encoder.LayerNorm", hidden)
    kernel = s.count("conv_kernel_size")
    if kernel:
        weight = (hidden, hidden // (s.optional_size("conv_groups") or 1), kernel)
        yield "encoder.conv.conv", Module("conv", weight, True)
        yield from layer_norm("encoder.conv.LayerNorm", hidden)


def _deberta_predictions(s: Settings) -> Named:
    if not s.flag("legacy"):
        vocab, hidden = s.size("vocab_size"), s.size("hidden_size")
        yield "lm_predictions.lm_head.bias", Module("parameter", (vocab,))
        yield biased_linear("lm_predictions.lm_head.dense", hidden, hidden)
        yield from layer_norm("lm_predictions.lm_head.LayerNorm", hidden)
    else:
        narrowed = s.optional_size("embedding_size") is not None
        yield from bert_predictions(s, width="embedding_size" if narrowed else "hidden_size")


def _deberta_classifier(s: Settings) -> Named:
    width = s.optional_size("pooler_hidden_size") or s.size("hidden_size")
    yield biased_linear("pooler.dense", width, width)
    yield from one_layer(s)


ARCHITECTURES: Mapping[str, Architecture] = {
    "deberta": declared(
        unpooled_encoder(_deberta, "deberta.", _deberta_predictions, _deberta_classifier),
        targets=("in_proj",),
        input_embedding="word_embeddings",
    ),
    "deberta-v2": declared(
        unpooled_encoder(_deberta_v2, "deberta.", _deberta_predictions, _deberta_classifier),
        targets=("query_proj", "value_proj"),
        input_embedding="word_embeddings",
    ),
}
