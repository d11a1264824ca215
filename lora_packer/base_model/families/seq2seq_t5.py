"""Encoders and decoders in T5's line: T5, mT5, UMT5, and T5Gemma, whose sides are Gemma's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import Architecture, Build, Head
from lora_packer.base_model.blocks import Named, attention, embedding, gated_mlp, linear, norm
from lora_packer.base_model.families.common import head_sizes, qk_norms, sizes
from lora_packer.base_model.families.composite import below
from lora_packer.base_model.families.multimodal import gemma3_projector
from lora_packer.base_model.families.seq2seq import both_sides
from lora_packer.base_model.families.vision import vision_config
from lora_packer.base_model.settings import Settings

_T5_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}


def t5_side(s: Settings, side: str, *, every_bias: bool) -> Named:
    """One side; ``every_bias``: whether every layer has its own table of relative positions, not the first alone."""
    width, inner, heads = s.size("d_model"), s.size("d_ff"), s.size("num_heads")
    projected = heads * s.size("d_kv")
    gated = str(s.value("feed_forward_proj")).startswith("gated-")
    if "is_gated_act" in s.raw:
        gated = s.flag("is_gated_act")
    names = ("SelfAttention", "EncDecAttention") if side == "decoder" else ("SelfAttention",)
    layers = s.optional_size("num_decoder_layers") if side == "decoder" else None
    yield embedding(f"{side}.embed_tokens", s.size("vocab_size"), width)
    for index in range(layers or s.size("num_layers")):
        path = f"{side}.block.{index}.layer"
        for number, name in enumerate(names):
            for projection in ("q", "k", "v"):
                yield linear(f"{path}.{number}.{name}.{projection}", projected, width)
            yield linear(f"{path}.{number}.{name}.o", width, projected)
            yield norm(f"{path}.{number}.layer_norm", width)
        if every_bias or index == 0:
            buckets = s.size("relative_attention_num_buckets")
            yield embedding(f"{path}.0.SelfAttention.relative_attention_bias", buckets, heads)
        last = f"{path}.{len(names)}"
        for name in ("wi_0", "wi_1") if gated else ("wi",):
            yield linear(f"{last}.DenseReluDense.{name}", inner, width)
        yield linear(f"{last}.DenseReluDense.wo", width, inner)
        yield norm(f"{last}.layer_norm", width)
    yield norm(f"{side}.final_layer_norm", width)


def _t5(*, every_bias: bool = False) -> Build:
    def build(raw: Settings, head: Head) -> Named:
        s = raw.aliased(_T5_NAMES)
        width = s.size("d_model")
        before = "transformer." if head in ("sequence-classification", "token-classification") else ""
        yield embedding(f"{before}shared", s.size("vocab_size"), width)
        for side in ("encoder",) if head == "token-classification" else ("encoder", "decoder"):
            for path, module in t5_side(s, side, every_bias=every_bias):
                yield before + path, module
        match head:
            case "causal-lm" | "seq2seq":
                yield linear("lm_head", s.size("vocab_size"), width)
            case "sequence-classification":
                yield linear("classification_head.dense", width, width, bias=True)
                yield linear("classification_head.out_proj", s.labels(), width, bias=True)
            case "token-classification":
                yield linear("classifier", s.labels(), width, bias=True)
            case "question-answering":
                yield linear("qa_outputs", s.labels(), width, bias=True)
            case "none":
                return

    return build


def _t5_sizes(vocab: int, inner: int, layers: int, heads: int, feed_forward: str) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": inner,
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": 32,
        "feed_forward_proj": feed_forward,
    }


def _gemma_side(s: Settings, crossed: int | None, *, normed: bool = False) -> Named:
    """One side; ``crossed`` is the width of what its cross attention reads, or None where it has none."""
    hidden, (heads, kv_heads, head_dim) = s.size("hidden_size"), head_sizes(s)
    bias = s.flag("attention_bias")
    norms = ["pre_self_attn_layernorm", "post_self_attn_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    norms += [] if crossed is None else ["pre_cross_attn_layernorm", "post_cross_attn_layernorm"]
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    yield norm("norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield from attention(f"{path}.self_attn", hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        if normed:
            yield from qk_norms(f"{path}.self_attn", head_dim, head_dim)
        if crossed is not None:
            width = kv_heads * head_dim
            yield linear(f"{path}.cross_attn.q_proj", heads * head_dim, hidden, bias=bias)
            yield linear(f"{path}.cross_attn.k_proj", width, crossed, bias=bias)
            yield linear(f"{path}.cross_attn.v_proj", width, crossed, bias=bias)
            yield linear(f"{path}.cross_attn.o_proj", hidden, heads * head_dim, bias=bias)
        yield from gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size"))
        for name in norms:
            yield norm(f"{path}.{name}", hidden)


def _t5gemma_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    yield from below("encoder", _gemma_side(encoder, None))
    yield from below("decoder", _gemma_side(decoder, encoder.size("hidden_size")))


def _t5gemma2_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    text = encoder.nested("text_config")
    vision, tower = vision_config("siglip_vision_model").of(encoder)
    yield from below("encoder.text_model", _gemma_side(text, None, normed=True))
    yield from below("encoder.vision_tower", tower(vision))
    yield from below("encoder", gemma3_projector(encoder, vision, text))
    yield from below("decoder", _gemma_side(decoder, None, normed=True))


def _gemma_frame(sides: Callable[[Settings], Named]) -> Build:
    def build(s: Settings, head: Head) -> Named:
        for path, module in sides(s):
            yield path if head == "none" else f"model.{path}", module
        decoder = s.nested("decoder")
        if head in ("causal-lm", "seq2seq"):
            yield linear("lm_head.out_proj", decoder.size("vocab_size"), decoder.size("hidden_size"))
        elif head != "none":
            yield linear("score.out_proj", s.labels(), decoder.size("hidden_size"), bias=True)

    return build


_GEMMA2 = sizes(256000, 2304, 9216, 26, 8, 4, head_dim=256)
_GEMMA3 = {**_GEMMA2, "vocab_size": 262208}

ARCHITECTURES: Mapping[str, Architecture] = {
    "t5": both_sides(_t5_sizes(32128, 2048, 6, 8, "relu"), _t5(), ("q", "v")),
    "mt5": both_sides(_t5_sizes(250112, 1024, 8, 6, "gated-gelu"), _t5(), ("q", "v")),
    "umt5": both_sides(_t5_sizes(250112, 1024, 8, 6, "gated-gelu"), _t5(every_bias=True)),
    "t5gemma": both_sides(
        {"encoder": _GEMMA2, "decoder": _GEMMA2}, _gemma_frame(_t5gemma_sides), input_embedding="embed_tokens"
    ),
    "t5gemma2": both_sides(
        {"encoder": {"text_config": _GEMMA3}, "decoder": _GEMMA3},
        _gemma_frame(_t5gemma2_sides),
        input_embedding="text_model.embed_tokens",
    ),
}
