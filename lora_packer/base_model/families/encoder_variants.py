"""Encoders with layers of their own: DistilBERT, ALBERT, MPNet, DeBERTa, ModernBERT, XLM, XLNet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Build, Head
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear, norm
from lora_packer.base_model.families.encoder import (
    bert_predictions,
    defined,
    embeddings,
    encoder,
    encoder_sizes,
    one_layer,
    roberta_predictions,
)
from lora_packer.base_model.families.legacy import numbered
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

_biased = partial(linear, bias=True)


def _aliased(build: Build, names: Mapping[str, str]) -> Build:
    return lambda s, head: build(s.aliased(names), head)


def _distilbert(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("hidden_dim")

    def layer(path: str) -> Named:
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield _biased(f"{path}.attention.{name}", hidden, hidden)
        yield from layer_norm(f"{path}.sa_layer_norm", hidden)
        yield _biased(f"{path}.ffn.lin1", inner, hidden)
        yield _biased(f"{path}.ffn.lin2", hidden, inner)
        yield from layer_norm(f"{path}.output_layer_norm", hidden)

    yield from embeddings(s, hidden, tables=("word", "position"))
    yield from numbered(s, "transformer.layer", layer)


def _distilbert_predictions(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield _biased("vocab_transform", hidden, hidden)
    yield from layer_norm("vocab_layer_norm", hidden)
    yield _biased("vocab_projector", s.size("vocab_size"), hidden)


def _distilbert_classifier(s: Settings) -> Named:
    yield _biased("pre_classifier", s.size("hidden_size"), s.size("hidden_size"))
    yield from one_layer(s)


def _albert(s: Settings) -> Named:
    """The layers of a group are shared: the number of layers decides nothing."""
    hidden, inner, width = s.size("hidden_size"), s.size("intermediate_size"), s.size("embedding_size")
    yield from embeddings(s, width)
    yield _biased("encoder.embedding_hidden_mapping_in", hidden, width)
    for group in range(s.size("num_hidden_groups")):
        for index in range(s.size("inner_group_num")):
            path = f"encoder.albert_layer_groups.{group}.albert_layers.{index}"
            yield from layer_norm(f"{path}.full_layer_layer_norm", hidden)
            for name in ("query", "key", "value", "dense"):
                yield _biased(f"{path}.attention.{name}", hidden, hidden)
            yield from layer_norm(f"{path}.attention.LayerNorm", hidden)
            yield _biased(f"{path}.ffn", inner, hidden)
            yield _biased(f"{path}.ffn_output", hidden, inner)


def _albert_predictions(s: Settings) -> Named:
    vocab, width = s.size("vocab_size"), s.size("embedding_size")
    yield "predictions.bias", Module("parameter", (vocab,))
    yield from layer_norm("predictions.LayerNorm", width)
    yield _biased("predictions.dense", width, s.size("hidden_size"))
    yield _biased("predictions.decoder", vocab, width)


def _mpnet(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")

    def layer(path: str) -> Named:
        for name in ("q", "k", "v", "o"):
            yield _biased(f"{path}.attention.attn.{name}", hidden, hidden)
        yield from layer_norm(f"{path}.attention.LayerNorm", hidden)
        yield _biased(f"{path}.intermediate.dense", inner, hidden)
        yield _biased(f"{path}.output.dense", hidden, inner)
        yield from layer_norm(f"{path}.output.LayerNorm", hidden)

    yield from embeddings(s, hidden, tables=("word", "position"))
    yield from numbered(s, "encoder.layer", layer)
    buckets, heads = s.size("relative_attention_num_buckets"), s.size("num_attention_heads")
    yield embedding("encoder.relative_attention_bias", buckets, heads)


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
            yield _biased(f"{path}.pos_q_proj", hidden, hidden)


def _deberta_v2_attention(s: Settings, path: str) -> Named:
    hidden = s.size("hidden_size")
    for name in ("query_proj", "key_proj", "value_proj"):
        yield _biased(f"{path}.{name}", hidden, hidden)
    if s.flag("relative_attention") and not s.flag("share_att_key"):
        kinds = _position_kinds(s)
        for kind, name in (("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")):
            if kind in kinds:
                yield _biased(f"{path}.{name}", hidden, hidden)


def _relative_positions(s: Settings) -> int:
    """How far DeBERTa looks; anything below one means as far as it can."""
    far = s.value("max_relative_positions")
    return far if type(far) is int and far > 0 else s.size("max_position_embeddings")


def _deberta_of(s: Settings, *, second: bool) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    width = s.optional_size("embedding_size") or hidden
    attention = _deberta_v2_attention if second else _deberta_attention

    def layer(path: str) -> Named:
        yield from attention(s, f"{path}.attention.self")
        yield _biased(f"{path}.attention.output.dense", hidden, hidden)
        yield from layer_norm(f"{path}.attention.output.LayerNorm", hidden)
        yield _biased(f"{path}.intermediate.dense", inner, hidden)
        yield _biased(f"{path}.output.dense", hidden, inner)
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
        yield _biased("lm_predictions.lm_head.dense", hidden, hidden)
        yield from layer_norm("lm_predictions.lm_head.LayerNorm", hidden)
    else:
        narrowed = s.optional_size("embedding_size") is not None
        yield from bert_predictions(s, width="embedding_size" if narrowed else "hidden_size")


def _deberta_classifier(s: Settings) -> Named:
    width = s.optional_size("pooler_hidden_size") or s.size("hidden_size")
    yield _biased("pooler.dense", width, width)
    yield from one_layer(s)


def _norm(s: Settings, path: str) -> Named:
    """ModernBERT's norms have a bias where the config says so."""
    hidden = s.size("hidden_size")
    yield from layer_norm(path, hidden) if s.flag("norm_bias") else (norm(path, hidden),)


def _modernbert(s: Settings, *, fused: bool) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    bias, mlp_bias = s.flag("attention_bias"), s.flag("mlp_bias")
    projections = {"Wqkv": 3 * hidden} if fused else dict.fromkeys(("q_proj", "k_proj", "v_proj"), hidden)

    def layer(path: str) -> Named:
        for name, size in projections.items():
            yield linear(f"{path}.attn.{name}", size, hidden, bias=bias)
        yield linear(f"{path}.attn.Wo", hidden, hidden, bias=bias)
        yield linear(f"{path}.mlp.Wi", 2 * inner, hidden, bias=mlp_bias)
        yield linear(f"{path}.mlp.Wo", hidden, inner, bias=mlp_bias)
        yield from _norm(s, f"{path}.mlp_norm")
        if path != "layers.0":  # the embeddings are normed already
            yield from _norm(s, f"{path}.attn_norm")

    yield embedding("embeddings.tok_embeddings", s.size("vocab_size"), hidden)
    yield from _norm(s, "embeddings.norm")
    yield from numbered(s, "layers", layer)
    yield from _norm(s, "final_norm")


def _modernbert_heads(s: Settings, head: Head, *, decoder: bool) -> Named:
    hidden, bias = s.size("hidden_size"), s.flag("classifier_bias")
    before = "lm_head" if decoder and head == "causal-lm" else "head"
    yield linear(f"{before}.dense", hidden, hidden, bias=bias)
    yield from _norm(s, f"{before}.norm")
    if head == "causal-lm":
        yield linear("decoder", s.size("vocab_size"), hidden, bias=s.flag("decoder_bias"))
    else:
        yield linear("classifier", s.labels(), hidden, bias=bias or not decoder)


def _modernbert_build(s: Settings, head: Head, *, decoder: bool) -> Named:
    for path, module in _modernbert(s, fused=not decoder):
        yield path if head == "none" else f"model.{path}", module
    if head != "none":
        yield from _modernbert_heads(s, head, decoder=decoder)


def _xlm(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield embedding("position_embeddings", s.size("max_position_embeddings"), hidden)
    languages = s.size("n_langs")
    if languages > 1 and s.flag("use_lang_emb"):
        yield embedding("lang_embeddings", languages, hidden)
    yield embedding("embeddings", s.size("vocab_size"), hidden)
    yield from layer_norm("layer_norm_emb", hidden)
    for index in range(s.size("num_hidden_layers")):
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield _biased(f"attentions.{index}.{name}", hidden, hidden)
        yield from layer_norm(f"layer_norm1.{index}", hidden)
        yield _biased(f"ffns.{index}.lin1", 4 * hidden, hidden)
        yield _biased(f"ffns.{index}.lin2", hidden, 4 * hidden)
        yield from layer_norm(f"layer_norm2.{index}", hidden)


def _xlm_predictions(s: Settings) -> Named:
    yield _biased("pred_layer.proj", s.size("vocab_size"), s.size("hidden_size"))


def _xlm_classifier(s: Settings) -> Named:
    if s.flag("summary_use_proj"):
        outputs = s.labels() if s.flag("summary_proj_to_labels") else s.size("hidden_size")
        yield _biased("sequence_summary.summary", outputs, s.size("hidden_size"))


def _xlnet(s: Settings) -> Named:
    hidden, inner, heads = s.size("hidden_size"), s.size("d_inner"), s.size("num_attention_heads")
    head_dim = s.optional_size("d_head") or hidden // heads

    def layer(path: str) -> Named:
        for name in ("q", "k", "v", "o", "r"):
            yield f"{path}.rel_attn.{name}", Module("parameter", (hidden, heads, head_dim))
        for name in ("r_r_bias", "r_s_bias", "r_w_bias"):
            yield f"{path}.rel_attn.{name}", Module("parameter", (heads, head_dim))
        yield f"{path}.rel_attn.seg_embed", Module("parameter", (2, heads, head_dim))
        yield from layer_norm(f"{path}.rel_attn.layer_norm", hidden)
        yield from layer_norm(f"{path}.ff.layer_norm", hidden)
        yield _biased(f"{path}.ff.layer_1", inner, hidden)
        yield _biased(f"{path}.ff.layer_2", hidden, inner)

    yield "mask_emb", Module("parameter", (1, 1, hidden))
    yield embedding("word_embedding", s.size("vocab_size"), hidden)
    yield from numbered(s, "layer", layer)


def _xlnet_predictions(s: Settings) -> Named:
    yield _biased("lm_loss", s.size("vocab_size"), s.size("hidden_size"))


def _xlnet_classifier(s: Settings) -> Named:
    yield from _xlm_classifier(s)
    yield _biased("logits_proj", s.labels(), s.size("hidden_size"))


def _modernbert_architecture(*, decoder: bool) -> Architecture:
    build = partial(_modernbert_build, decoder=decoder)
    defaults = encoder_sizes(50368, layers=22, inner=1152, decoder_bias=True)
    return Architecture(defaults, {TRANSFORMERS_5: build}, (), input_embedding="tok_embeddings")


_DISTILBERT_NAMES = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
_XLM_NAMES = {
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "n_words": "vocab_size",
}
_XLNET_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "n_token": "vocab_size",
}
_unpooled = partial(encoder, pooled=())
_DEBERTA = {"type_vocab_size": 0, "position_biased_input": True, "legacy": True}

ARCHITECTURES: Mapping[str, Architecture] = {
    "distilbert": defined(
        {
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "n_layers": 6,
            "n_heads": 12,
            "dim": 768,
            "hidden_dim": 3072,
        },
        _aliased(
            _unpooled(_distilbert, "distilbert.", _distilbert_predictions, _distilbert_classifier), _DISTILBERT_NAMES
        ),
    ),
    "albert": defined(
        encoder_sizes(30000, 4096, 12, 64, 16384, embedding_size=128, num_hidden_groups=1, inner_group_num=1),
        encoder(
            _albert,
            "albert.",
            _albert_predictions,
            one_layer,
            pooled=("none", "sequence-classification"),
            pooler="pooler",
        ),
    ),
    "mpnet": defined(
        encoder_sizes(30527, relative_attention_num_buckets=32), encoder(_mpnet, "mpnet.", roberta_predictions)
    ),
    "deberta": defined(
        encoder_sizes(50265, **_DEBERTA),
        _unpooled(_deberta, "deberta.", _deberta_predictions, _deberta_classifier),
        ("in_proj",),
    ),
    "deberta-v2": defined(
        encoder_sizes(128100, 1536, 24, 24, 6144, **_DEBERTA),
        _unpooled(_deberta_v2, "deberta.", _deberta_predictions, _deberta_classifier),
        ("query_proj", "value_proj"),
    ),
    "modernbert": _modernbert_architecture(decoder=False),
    "modernbert-decoder": _modernbert_architecture(decoder=True),
    "xlm": Architecture(
        {
            "vocab_size": 30145,
            "emb_dim": 2048,
            "n_layers": 12,
            "n_heads": 16,
            "max_position_embeddings": 512,
            "n_langs": 1,
            "use_lang_emb": True,
            "summary_use_proj": True,
            "summary_proj_to_labels": True,
        },
        {TRANSFORMERS_5: _aliased(_unpooled(_xlm, "transformer.", _xlm_predictions, _xlm_classifier), _XLM_NAMES)},
        (),
        input_embedding="embeddings",
    ),
    "xlnet": Architecture(
        {"vocab_size": 32000, "d_model": 1024, "n_layer": 24, "n_head": 16, "d_inner": 4096, "summary_use_proj": True},
        {
            TRANSFORMERS_5: _aliased(
                _unpooled(_xlnet, "transformer.", _xlnet_predictions, _xlnet_classifier), _XLNET_NAMES
            )
        },
        (),
        input_embedding="word_embedding",
    ),
}
