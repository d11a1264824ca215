"""Encoders and decoders in BART's line: BART, mBART, Marian, Pegasus, Blenderbot, M2M-100, ProphetNet, FSMT, TrOCR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Build, Head, declared, like
from lora_packer.base_model.blocks.encoder_decoder import BART_NAMES, side_attention, side_layer, side_layers
from lora_packer.base_model.blocks.frames import QUERY_VALUE
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.frozen import frozen

# Yields the modules of one side, "encoder" or "decoder", below its name.
Side = Callable[[Settings, str], Named]


@frozen
class Style:
    """How a type differs from BART.

    Attributes:
        offset: how many rows the table of positions has beyond the positions, or None where there is no table.
        embedding_norm, last_norm: whether the embeddings and the last layer's output are normed.
    """

    offset: int | None = 2
    embedding_norm: bool = True
    last_norm: bool = False


def _frame(s: Settings, side: str, style: Style, vocab: int) -> Named:
    """What stands around the layers of one side."""
    width = s.size("d_model")
    yield from embedding(f"{side}.embed_tokens", vocab, width)
    if style.offset is not None:
        yield from embedding(f"{side}.embed_positions", s.size("max_position_embeddings") + style.offset, width)
    if style.embedding_norm:
        yield from layer_norm(f"{side}.layernorm_embedding", width)
    if style.last_norm:
        yield from layer_norm(f"{side}.layer_norm", width)


def _side(s: Settings, side: str, style: Style) -> Named:
    yield from _frame(s, side, style, s.vocab)
    yield from side_layers(s, side)


def _decoder_vocab(s: Settings) -> int:
    """The rows of the decoder's embedding: Marian's may be its own."""
    return s.optional_size("decoder_vocab_size") or s.vocab


def _marian_side(s: Settings, side: str) -> Named:
    vocab = _decoder_vocab(s) if side == "decoder" else s.vocab
    yield from _frame(s, side, Style(0, embedding_norm=False), vocab)
    yield from side_layers(s, side)


def _bigbird_side(s: Settings, side: str) -> Named:
    """BigBird's attention in the encoder, BART's in the decoder."""
    width, bias = s.size("d_model"), s.flag("use_bias")
    yield from _frame(s, side, Style(0), s.vocab)
    if side == "decoder":
        yield from side_layers(s, side, bias=bias)
        return
    for index in range(s.size("encoder_layers")):
        path = f"encoder.layers.{index}"
        names = ("self.query", "self.key", "self.value", "output")
        projections = linear(f"{path}.self_attn", width, width, *names, bias=bias)
        yield from side_layer(path, width, s.size("encoder_ffn_dim"), {"self_attn": projections})


_LONGFORMER = ("query", "key", "value", "query_global", "key_global", "value_global")


def _led_side(s: Settings, side: str) -> Named:
    """Longformer's attention in the encoder, BART's in the decoder."""
    width = s.size("d_model")
    positions = s.size(f"max_{side}_position_embeddings")
    yield from _frame(s.with_fields(max_position_embeddings=positions), side, Style(0), s.vocab)
    if side == "decoder":
        yield from side_layers(s, side)
        return
    names = (*(f"longformer_self_attn.{name}" for name in _LONGFORMER), "output")
    for index in range(s.size("encoder_layers")):
        path = f"encoder.layers.{index}"
        projections = linear(f"{path}.self_attn", width, width, *names, bias=True)
        yield from side_layer(path, width, s.size("encoder_ffn_dim"), {"self_attn": projections})


def _pegasus_x_side(s: Settings, side: str) -> Named:
    """Pegasus without biases in its attention, whose encoder has tokens of its own for what is far."""
    width = s.size("d_model")
    yield from _frame(s, side, Style(None, embedding_norm=False, last_norm=True), s.vocab)
    yield from side_layers(s, side, bias=False)
    if side == "encoder":
        yield from embedding("encoder.embed_global", s.size("num_global_tokens"), width)
        for index in range(s.size("encoder_layers")):
            yield from layer_norm(f"encoder.layers.{index}.global_self_attn_layer_norm", width)


def _nllb_moe_side(s: Settings, side: str) -> Named:
    """M2M-100 with experts in every so many layers."""
    width, inner, step = s.size("d_model"), s.size(f"{side}_ffn_dim"), s.count(f"{side}_sparse_step")
    yield from _frame(s, side, Style(None, embedding_norm=False, last_norm=True), s.vocab)
    for index in range(s.size(f"{side}_layers")):
        path = f"{side}.layers.{index}"
        for name in ("self_attn", "cross_attention") if side == "decoder" else ("self_attn",):
            yield from side_attention(f"{path}.{name}", width)
            yield from layer_norm(f"{path}.{name}_layer_norm", width)
        blocks = [f"{path}.ffn"]
        if step and (index + 1) % step == 0:
            yield from linear(f"{path}.ffn.router.classifier", s.size("num_experts"), width, bias=s.flag("router_bias"))
            blocks = [f"{path}.ffn.experts.expert_{expert}" for expert in range(s.size("num_experts"))]
        for block in blocks:
            yield from chain(block, (width, inner, width), "fc1", "fc2", bias=True)
        yield from layer_norm(f"{path}.ff_layer_norm", width)


def _shared(s: Settings) -> bool:
    return s.value("share_encoder_decoder_embeddings") is not False


def _heads(s: Settings, head: Head) -> Named:
    width = s.size("d_model")
    match head:
        case "causal-lm" | "seq2seq":
            yield from linear("lm_head", _decoder_vocab(s), width)
        case "sequence-classification":
            yield from linear("classification_head.dense", width, width, bias=True)
            yield from linear("classification_head.out_proj", s.labels(), width, bias=True)
        case "question-answering":
            yield from linear("qa_outputs", 2, width, bias=True)
        case _:
            return


def _build(side: Side, *, causal: bool = True, prefix: str = "model.") -> Build:
    """Two sides; the causal language model, where there is such a class, has the decoder alone."""

    def build(raw: Settings, head: Head) -> Named:
        s = raw.aliased(BART_NAMES)
        head = head if causal or head != "causal-lm" else "seq2seq"
        before = "" if head == "none" else prefix
        if head != "causal-lm" and _shared(s):
            yield from embedding(f"{before}shared", s.vocab, s.size("d_model"))
        for name in ("decoder",) if head == "causal-lm" else ("encoder", "decoder"):
            for path, module in side(s, name):
                yield before + path, module
        yield from _heads(s, head)

    return build


def _styled(style: Style, *, causal: bool = True) -> Build:
    return _build(lambda s, side: _side(s, side, style), causal=causal)


_DECODER_PROMPTS = ("decoder.self_attn", "decoder.cross_attn")


def _mvp(s: Settings, head: Head, *, prompts: tuple[str, ...] = _DECODER_PROMPTS) -> Named:
    """Prompts are made where the decoder reads an encoder; transformers 5 makes none in that (modeling_mvp.py)."""
    yield from _styled(Style())(s, head)
    if not s.flag("use_prompt") or head == "causal-lm":
        return
    s = s.aliased(BART_NAMES)
    width, between, before = s.size("d_model"), s.size("prompt_mid_dim"), "" if head == "none" else "model."
    for name in prompts:
        path, layers = f"{before}{name}_prompt", s.size(f"{name.partition('.')[0]}_layers")
        yield from embedding(f"{path}.prompt_embedding", s.size("prompt_length"), width)
        yield from chain(f"{path}.prompt_trans", (width, between, layers * 2 * width), "0", "2", bias=True)


def _trocr(raw: Settings, head: Head) -> Named:
    s = raw.aliased({**BART_NAMES, "num_hidden_layers": "decoder_layers"})
    width, before = s.size("d_model"), "decoder." if head == "none" else "model.decoder."
    yield from embedding(f"{before}embed_tokens", s.vocab, width)
    if s.flag("use_learned_position_embeddings"):
        yield from embedding(f"{before}embed_positions", s.size("max_position_embeddings") + 2, width)
    if s.flag("layernorm_embedding"):
        yield from layer_norm(f"{before}layernorm_embedding", width)
    for index in range(s.size("decoder_layers")):
        path = f"{before}layers.{index}"
        # The class makes itself a decoder, whatever the config says.
        others = s.optional_size("cross_attention_hidden_size") or 0
        attentions = {
            "self_attn": side_attention(f"{path}.self_attn", width),
            "encoder_attn": side_attention(f"{path}.encoder_attn", width, others=others),
        }
        yield from side_layer(path, width, s.size("decoder_ffn_dim"), attentions)
    if head != "none":
        yield from linear("output_projection", s.vocab, width)


def _prophetnet_side(s: Settings, side: str) -> Named:
    inner = s.size(f"{side}_ffn_dim")
    yield from embedding(f"{side}.word_embeddings", s.vocab, s.hidden)
    yield from embedding(f"{side}.position_embeddings", s.size("max_position_embeddings"), s.hidden)
    yield from layer_norm(f"{side}.embeddings_layer_norm", s.hidden)
    attentions = ["self_attn"]
    if side == "decoder":
        yield from embedding("decoder.ngram_embeddings", s.size("ngram"), s.hidden)
        attentions += ["cross_attn"] if s.flag("add_cross_attention") else []
    for index in range(s.size(f"num_{side}_layers")):
        path = f"{side}.layers.{index}"
        for name in attentions:
            yield from linear(
                f"{path}.{name}", s.hidden, s.hidden, "key_proj", "value_proj", "query_proj", "out_proj", bias=True
            )
            yield from layer_norm(f"{path}.{name}_layer_norm", s.hidden)
        if side == "decoder":
            buckets = s.size("num_buckets") * s.size("num_decoder_attention_heads")
            yield from linear(f"{path}.self_attn.relative_pos_embeddings", buckets, s.hidden, bias=True)
        yield from linear(f"{path}.feed_forward.intermediate", inner, s.hidden, bias=True)
        yield from linear(f"{path}.feed_forward.output", s.hidden, inner, bias=True)
        yield from layer_norm(f"{path}.feed_forward_layer_norm", s.hidden)


def _prophetnet(s: Settings, head: Head) -> Named:
    before = "" if head == "none" else "prophetnet."
    yield from embedding(f"{before}word_embeddings", s.vocab, s.hidden)
    for name in ("decoder",) if head == "causal-lm" else ("encoder", "decoder"):
        for path, module in _prophetnet_side(s, name):
            yield before + path, module
    if head != "none":
        yield from linear("lm_head", s.vocab, s.hidden)


def _fsmt(raw: Settings, head: Head) -> Named:
    """FairSeq's translators: a vocabulary on each side, and the decoder holds the head."""
    s = raw.aliased({**BART_NAMES, "vocab_size": "tgt_vocab_size"})
    before, width = "" if head == "none" else "model.", s.size("d_model")
    positions = s.size("max_position_embeddings") + s.count("pad_token_id") + 1
    read = s.vocab if s.flag("tie_word_embeddings") else s.size("src_vocab_size")
    for side, rows in (("encoder", read), ("decoder", s.vocab)):
        yield from embedding(f"{before}{side}.embed_tokens", rows, width)
        yield from embedding(f"{before}{side}.embed_positions", positions, width)
        for path, module in side_layers(s, side):
            yield before + path, module
    yield from linear(f"{before}decoder.output_projection", s.vocab, width)


_PEGASUS = Style(0, embedding_norm=False, last_norm=True)
MBART = declared(_styled(Style(last_norm=True)), input_embedding="shared", encoder_decoder=True)
_MVP_BEFORE_5 = partial(_mvp, prompts=("encoder.self_attn", *_DECODER_PROMPTS))

ARCHITECTURES: Architectures = {
    "bart": declared(_styled(Style()), targets=QUERY_VALUE, input_embedding="shared", encoder_decoder=True),
    "mbart": MBART,
    "plbart": like("bart", {"default_targets": ()}),
    "mvp": declared(_mvp, {TRANSFORMERS_4: _MVP_BEFORE_5}, input_embedding="shared", encoder_decoder=True),
    "marian": declared(_build(_marian_side), input_embedding="encoder.embed_tokens", encoder_decoder=True),
    "m2m_100": declared(
        _styled(Style(None, embedding_norm=False, last_norm=True), causal=False),
        input_embedding="shared",
        encoder_decoder=True,
    ),
    "pegasus": declared(_styled(_PEGASUS), input_embedding="shared", encoder_decoder=True),
    "bigbird_pegasus": declared(_build(_bigbird_side), input_embedding="shared", encoder_decoder=True),
    "led": declared(_build(_led_side, causal=False, prefix="led."), input_embedding="shared", encoder_decoder=True),
    "pegasus_x": declared(_build(_pegasus_x_side, causal=False), input_embedding="shared", encoder_decoder=True),
    "nllb-moe": declared(_build(_nllb_moe_side, causal=False), input_embedding="shared", encoder_decoder=True),
    "blenderbot": like("pegasus"),
    "blenderbot-small": declared(_styled(Style(0)), input_embedding="shared", encoder_decoder=True),
    "fsmt": replace(
        declared(_fsmt, input_embedding="encoder.embed_tokens", encoder_decoder=True), vocabulary=("src_vocab_size",)
    ),
    "trocr": declared(_trocr),
    # A decoder alone reads its own table, not the one that it holds for both sides.
    "prophetnet": declared(
        _prophetnet,
        input_embedding={"none": "word_embeddings", "causal-lm": "decoder.word_embeddings"},
        encoder_decoder=True,
    ),
}
