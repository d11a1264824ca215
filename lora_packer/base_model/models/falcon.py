"""Falcon, and Falcon-H1 with attention and Mamba side by side in each layer."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, Head, Proof, declared, like, remote
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import (
    TRANSFORMER,
    aliased,
    classified_by_classifier,
    framed,
    numbered,
    stacked,
)
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear
from lora_packer.base_model.blocks.recurrent import PRE_FEED_FORWARD, mixer
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _falcon_h1(s: Settings) -> Named:
    """Falcon-H1's decoder: a mixer and an attention side by side in each layer."""
    inner = s.optional_size("mamba_d_ssm")

    def layer(prefix: str, _index: int) -> Named:
        out, normed = s.flag("projectors_bias"), s.flag("mamba_rms_norm")
        yield from mixer(s, f"{prefix}.mamba", inner=inner, output_bias=out, normed=normed)
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from plain_mlp(s, f"{prefix}.feed_forward", bias=s.flag("mlp_bias"))

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


def _falcon(s: Settings) -> Named:
    bias = s.flag("bias")
    head_dim, inner = s.hidden // s.heads, s.optional_size("ffn_hidden_size") or 4 * s.hidden
    if s.flag("new_decoder_architecture"):
        fused = (2 * (s.optional_size("num_kv_heads") or s.heads) + s.heads) * head_dim
    else:
        fused = s.hidden + 2 * head_dim if s.flag("multi_query") else 3 * s.hidden
    norms = _falcon_norms(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.self_attention.query_key_value", fused, s.hidden, bias=bias)
        yield from linear(f"{prefix}.self_attention.dense", s.hidden, s.hidden, bias=bias)
        yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "dense_h_to_4h", "dense_4h_to_h", bias=bias)
        yield from layer_norm(prefix, s.hidden, *norms)

    yield from embedding("word_embeddings", s.vocab, s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", s.hidden)


def _falcon_norms(s: Settings) -> tuple[str, ...]:
    if not s.flag("parallel_attn"):
        return "post_attention_layernorm", "input_layernorm"
    count = s.value("num_ln_in_parallel_attn")
    two = s.flag("new_decoder_architecture") if count is None else count == 2
    return ("ln_attn", "ln_mlp") if two else ("input_layernorm",)


def _refined_web(s: Settings, head: Head, *, grouped: bool) -> Named:
    """Falcon's layers, as its first repositories have them; ``grouped`` is whether keys are, as in the larger one."""
    fields = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_head_kv": "num_kv_heads"}
    s = s.aliased(fields).with_fields(
        new_decoder_architecture=grouped, num_ln_in_parallel_attn=None, ffn_hidden_size=None
    )
    return framed(_falcon, prefix=TRANSFORMER, heads=classified_by_classifier)(s, head)


_RW_HEADS: tuple[Head, ...] = ("sequence-classification", "token-classification", "question-answering")

ARCHITECTURES: Architectures = {
    "RefinedWeb": remote(
        partial(_refined_web, grouped=True),
        Proof("read", "Decentralised-AI/falcon-40b 7c4c297, modelling_RW.py", _RW_HEADS),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
    ),
    "RefinedWebModel": remote(
        partial(_refined_web, grouped=False),
        Proof("read", "WasimAkramShaikh/falcon-7b-instruct-clone 8d630c5, modelling_RW.py", _RW_HEADS),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
    ),
    "falcon_h1": declared(framed(_falcon_h1)),
    "falcon": declared(
        aliased(framed(_falcon, prefix=TRANSFORMER, heads=classified_by_classifier), {"n_embed": "hidden_size"}),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
    ),
    "falcon_mamba": like("mamba"),
}
