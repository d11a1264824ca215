"""Latent attention, whose projections go through a narrow middle; its indexer, and the decoders around both."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.blocks.experts import (
    Experts,
    deepseek_experts,
    first_dense,
    fused_experts,
    mixture_or_dense,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import layer_kinds, stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def latent_attention(s: Settings, prefix: str, *, rope: int | None = None, query: int | None = None) -> Named:
    """Multi-head latent attention; without ``q_lora_rank`` the queries are projected at once.

    ``rope`` and ``query`` are the sizes of a head's rotated part and of its queries, where a type has its own rule.
    """
    bias = s.flag("attention_bias")
    nope, value = s.size("qk_nope_head_dim"), s.size("v_head_dim")
    rope = s.size("qk_rope_head_dim") if rope is None else rope
    rank, key_rank, query = s.optional_size("q_lora_rank"), s.size("kv_lora_rank"), query or nope + rope
    if rank is None:
        yield from linear(f"{prefix}.q_proj", s.heads * query, s.hidden)
    else:
        yield from linear(f"{prefix}.q_a_proj", rank, s.hidden, bias=bias)
        yield from norm(f"{prefix}.q_a_layernorm", rank)
        yield from linear(f"{prefix}.q_b_proj", s.heads * query, rank)
    yield from linear(f"{prefix}.kv_a_proj_with_mqa", key_rank + rope, s.hidden, bias=bias)
    yield from norm(f"{prefix}.kv_a_layernorm", key_rank)
    yield from linear(f"{prefix}.kv_b_proj", s.heads * (nope + value), key_rank)
    yield from linear(f"{prefix}.o_proj", s.hidden, s.heads * value, bias=bias)


def layered(
    s: Settings,
    attention: Callable[[str, int], Named],
    kind: Callable[[int], str],
    count: int,
    experts: Experts = fused_experts,
    *,
    bias: bool = False,
) -> Named:
    """Layers of an attention and either experts ("sparse") or a dense feed-forward block."""

    def layer(prefix: str, index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", index)
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, experts, sparse=kind(index) == "sparse", bias=bias)

    return stacked(s, layer)


def attends(s: Settings, rope: int | None = None) -> Callable[[str, int], Named]:
    """Return latent attention, the same in every layer."""
    return lambda prefix, _index: latent_attention(s, prefix, rope=rope)


def indexer(s: Settings, prefix: str, *, inputs: int | None = None) -> Named:
    """What chooses the tokens to attend to; its queries come from the narrow middle, or from ``inputs`` features."""
    heads, size = s.size("index_n_heads"), s.size("index_head_dim")
    yield from linear(f"{prefix}.wq_b", heads * size, inputs or s.size("q_lora_rank"))
    yield from linear(f"{prefix}.wk", size, s.hidden)
    yield from layer_norm(f"{prefix}.k_norm", size)
    yield from linear(f"{prefix}.weights_proj", heads, s.hidden)


def indexer_kinds(s: Settings, *, offset: int) -> Callable[[int], str]:
    """Return whether a layer has an indexer of its own ("full") or takes over an earlier one ("shared")."""
    frequency = s.count("index_topk_freq") or 1
    listed, pattern = s.names("indexer_types"), s.value("index_topk_pattern")
    if listed is None and isinstance(pattern, str):
        listed = tuple("shared" if letter == "S" else "full" for letter in pattern)
    elif listed is None:
        listed = s.names("index_topk_pattern")

    def derived(index: int) -> str:
        return "shared" if max(index - offset + 1, 0) % frequency else "full"

    return layer_kinds(listed, derived)


def indexed_decoder(s: Settings, kind: Callable[[int], str]) -> Named:
    """Layers of latent attention with an indexer, but where ``kind`` says that it is an earlier layer's ("shared")."""
    count = s.optional_size("num_experts") or deepseek_experts(s)

    def attention(prefix: str, index: int) -> Named:
        yield from latent_attention(s, prefix)
        if kind(index) != "shared":
            yield from indexer(s, f"{prefix}.indexer")

    return layered(s, attention, first_dense(s), count)


def latent_decoder(s: Settings) -> Named:
    """MiniCPM3's and Youtu's decoder."""
    if s.value("v_head_dim") is None:
        s = s.with_fields(v_head_dim=s.hidden // s.heads)
    hidden, bias = s.hidden, s.flag("mlp_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from latent_attention(s, f"{prefix}.self_attn")
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.inner, bias=bias)

    return stacked(s, layer)
