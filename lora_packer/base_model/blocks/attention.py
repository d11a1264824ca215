"""Attention with a projection for each of queries, keys, values and output, and the norms inside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.blocks.layers import Block, layer_norm, linear, norm, of_size, parameter
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def attention(
    prefix: str, hidden: int, heads: int, kv_heads: int, head_dim: int, *, bias: bool = False, output_bias: bool = False
) -> Named:
    """Grouped-query attention: q_proj, k_proj, v_proj, o_proj."""
    key_value = Module("linear", (kv_heads * head_dim, hidden), bias)
    yield f"{prefix}.q_proj", Module("linear", (heads * head_dim, hidden), bias)
    yield f"{prefix}.k_proj", key_value
    yield f"{prefix}.v_proj", key_value
    yield f"{prefix}.o_proj", Module("linear", (hidden, heads * head_dim), output_bias)


def head_sizes(s: Settings) -> tuple[int, int, int]:
    """Return the number of query heads, of key and value heads, and the size of a head."""
    kv_heads = s.optional_size("num_key_value_heads") or s.heads
    return s.heads, kv_heads, s.optional_size("head_dim") or s.hidden // s.heads


def grouped_attention(s: Settings, prefix: str, *, bias: bool = False, output_bias: bool = False) -> Named:
    """Yield a config's attention; transformers derives the head size where it is absent."""
    return attention(prefix, s.hidden, *head_sizes(s), bias=bias, output_bias=output_bias)


def qk_norms(prefix: str, query: int, key: int) -> Named:
    """The norms of the queries and the keys, each of its size."""
    yield from norm(f"{prefix}.q_norm", query)
    yield from norm(f"{prefix}.k_norm", key)


# Attention whose queries, keys and values have biases.
biased_attention = partial(grouped_attention, bias=True)


def plain_attention(s: Settings, prefix: str) -> Named:
    """Grouped-query attention, with biases where ``attention_bias`` says so."""
    bias = s.flag("attention_bias")
    return grouped_attention(s, prefix, bias=bias, output_bias=bias)


def head_norm(s: Settings, path: str) -> Named:
    """A norm of the size of a head."""
    return norm(path, head_sizes(s)[2])


def normed_attention(s: Settings, prefix: str) -> Named:
    """Grouped-query attention with norms on the heads of queries and keys."""
    yield from plain_attention(s, prefix)
    yield from norm(prefix, head_sizes(s)[2], "q_norm", "k_norm")


# The norms of queries and keys where a config has to say the size of a head.
QK_NORMS: Mapping[str, Block] = {f"self_attn.{name}": of_size(norm, "head_dim") for name in ("q_norm", "k_norm")}


def layer_norms_of_heads(s: Settings, prefix: str) -> Named:
    """The norms of queries and keys, where ``qk_layernorm`` says so."""
    if s.flag("qk_layernorm"):
        yield from layer_norm(prefix, s.hidden // s.heads, "q_layernorm", "k_layernorm")


def sinks(s: Settings, path: str) -> Named:
    """The weight of attending to nothing, one for each head."""
    return parameter(path, s.heads)


def gated_attention(s: Settings, prefix: str) -> Named:
    """Grouped-query attention whose queries carry an output gate, so that q_proj is twice as wide."""
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    yield from linear(f"{prefix}.q_proj", 2 * heads * head_dim, s.hidden, bias=bias)
    yield from linear(prefix, kv_heads * head_dim, s.hidden, "k_proj", "v_proj", bias=bias)
    yield from linear(f"{prefix}.o_proj", s.hidden, heads * head_dim, bias=bias)
    yield from norm(prefix, head_dim, "q_norm", "k_norm")
