"""DeBERTa and DeBERTa-v2: encoders whose attention knows the distance of tokens."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.encoders import bert_predictions, embeddings, one_layer, unpooled_encoder
from lora_packer.base_model.blocks.frames import numbered
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _position_kinds(s: Settings) -> frozenset[str]:
    """What DeBERTa's attention reads from positions: a list, or words between bars."""
    kinds = s.value("pos_att_type")
    if isinstance(kinds, str):
        return frozenset(kind.strip() for kind in kinds.lower().split("|"))
    return frozenset(s.names("pos_att_type") or ())


def _deberta_attention(s: Settings, path: str) -> Named:
    yield from linear(f"{path}.in_proj", 3 * s.hidden, s.hidden)
    yield from parameter(f"{path}.q_bias", s.hidden)
    yield from parameter(f"{path}.v_bias", s.hidden)
    if s.flag("talking_head"):
        yield from linear(path, s.heads, s.heads, "head_logits_proj", "head_weights_proj")
    if s.flag("relative_attention"):
        kinds = _position_kinds(s)
        if "c2p" in kinds:
            yield from linear(f"{path}.pos_proj", s.hidden, s.hidden)
        if "p2c" in kinds:
            yield from linear(f"{path}.pos_q_proj", s.hidden, s.hidden, bias=True)


def _deberta_v2_attention(s: Settings, path: str) -> Named:
    yield from linear(path, s.hidden, s.hidden, "query_proj", "key_proj", "value_proj", bias=True)
    if s.flag("relative_attention") and not s.flag("share_att_key"):
        kinds = _position_kinds(s)
        for kind, name in (("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")):
            if kind in kinds:
                yield from linear(f"{path}.{name}", s.hidden, s.hidden, bias=True)


def _relative_positions(s: Settings) -> int:
    """How far DeBERTa looks; anything below one means as far as it can."""
    far = s.value("max_relative_positions")
    return far if type(far) is int and far > 0 else s.size("max_position_embeddings")


def _deberta_of(s: Settings, *, second: bool) -> Named:
    width = s.optional_size("embedding_size") or s.hidden
    attention = _deberta_v2_attention if second else _deberta_attention

    def layer(path: str, _index: int) -> Named:
        yield from attention(s, f"{path}.attention.self")
        yield from linear(f"{path}.attention.output.dense", s.hidden, s.hidden, bias=True)
        yield from layer_norm(f"{path}.attention.output.LayerNorm", s.hidden)
        yield from linear(f"{path}.intermediate.dense", s.inner, s.hidden, bias=True)
        yield from linear(f"{path}.output.dense", s.hidden, s.inner, bias=True)
        yield from layer_norm(f"{path}.output.LayerNorm", s.hidden)

    positions = ("position",) if s.flag("position_biased_input") else ()
    types = ("token_type",) if s.count("type_vocab_size") else ()
    yield from embeddings(s, width, tables=("word", *positions, *types), norm=None)
    if width != s.hidden:
        yield from linear("embeddings.embed_proj", s.hidden, width)
    yield from layer_norm("embeddings.LayerNorm", s.hidden)
    yield from numbered(s, "encoder.layer", layer)
    if s.flag("relative_attention"):
        buckets = s.value("position_buckets") if second else None
        rows = buckets if type(buckets) is int and buckets > 0 else _relative_positions(s)
        yield from embedding("encoder.rel_embeddings", 2 * rows, s.hidden)


def _deberta(s: Settings) -> Named:
    return _deberta_of(s, second=False)


def _deberta_v2(s: Settings) -> Named:
    yield from _deberta_of(s, second=True)
    normed = s.value("norm_rel_ebd")
    if isinstance(normed, str) and "layer_norm" in normed.lower():
        yield from layer_norm("encoder.LayerNorm", s.hidden)
    kernel = s.count("conv_kernel_size")
    if kernel:
        groups = s.optional_size("conv_groups") or 1
        yield from conv("encoder.conv.conv", (s.hidden, s.hidden // groups, kernel), bias=True, groups=groups)
        yield from layer_norm("encoder.conv.LayerNorm", s.hidden)


def _deberta_predictions(s: Settings) -> Named:
    if not s.flag("legacy"):
        vocab, hidden = s.vocab, s.hidden
        yield from parameter("lm_predictions.lm_head.bias", vocab)
        yield from linear("lm_predictions.lm_head.dense", hidden, hidden, bias=True)
        yield from layer_norm("lm_predictions.lm_head.LayerNorm", hidden)
    else:
        narrowed = s.optional_size("embedding_size") is not None
        yield from bert_predictions(s, width="embedding_size" if narrowed else "hidden_size")


def _deberta_classifier(s: Settings) -> Named:
    width = s.optional_size("pooler_hidden_size") or s.hidden
    yield from linear("pooler.dense", width, width, bias=True)
    yield from one_layer(s)


ARCHITECTURES: Architectures = {
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
