"""Decoders of multi-head latent attention beside DeepSeek's line: A.X, MiniCPM3, Youtu, Hunyuan 4, dots.note."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import declared, fields_by_layer, layer_kinds, sizes, stacked
from lora_packer.base_model.families.experts import deepseek_mixture, number_of_experts
from lora_packer.base_model.families.mla import latent_attention
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _dense(s: Settings) -> Named:
    """MiniCPM3's and Youtu's decoder."""
    if s.value("v_head_dim") is None:
        s = s.with_fields(v_head_dim=s.size("hidden_size") // s.size("num_attention_heads"))
    hidden, bias = s.size("hidden_size"), s.flag("mlp_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from latent_attention(s, f"{prefix}.self_attn")
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=bias)

    return stacked(s, layer)


def _youtu(s: Settings) -> Named:
    return _dense(s.with_fields(mlp_bias=False))


def _sparse_layers(s: Settings) -> Callable[[int], str]:
    """Return which layers are "sparse": as listed, else every ``moe_layer_freq``-th after the first dense ones."""
    dense, frequency = s.count("first_k_dense_replace"), s.value("moe_layer_freq")
    listed = s.numbers("moe_layer_freq") if isinstance(frequency, list) else None
    step = 1 if listed is not None else s.size("moe_layer_freq")

    def derived(index: int) -> str:
        due = listed[index] if listed is not None and index < len(listed) else index % step == 0
        return "sparse" if index >= dense and due else "dense"

    return layer_kinds(s.names("mlp_layer_types"), derived)


def _feed_forward(s: Settings, prefix: str, *, sparse: bool) -> Named:
    """Experts and a shared one, or a dense block."""
    if sparse:
        return deepseek_mixture(s, prefix, number_of_experts(s, "n_routed_experts", "num_local_experts"))
    return gated_mlp(prefix, s.size("hidden_size"), s.size("intermediate_size"))


def _indexer(s: Settings, prefix: str) -> Named:
    """What chooses the tokens to attend to."""
    hidden, heads, size = s.size("hidden_size"), s.size("index_n_heads"), s.size("index_head_dim")
    yield linear(f"{prefix}.wq_b", heads * size, s.size("q_lora_rank"))
    yield linear(f"{prefix}.wk", size, hidden)
    yield from layer_norm(f"{prefix}.k_norm", size)
    yield linear(f"{prefix}.weights_proj", heads, hidden)


def _axk1(s: Settings) -> Named:
    """A.X K1's decoder: DeepSeek-V3's with a norm after the experts."""
    kind = _sparse_layers(s)

    def layer(prefix: str, index: int) -> Named:
        yield from latent_attention(s, f"{prefix}.self_attn")
        sparse = kind(index) == "sparse"
        yield from _feed_forward(s, f"{prefix}.mlp", sparse=sparse)
        if sparse:
            yield norm(f"{prefix}.mlp.post_mlp_layernorm", s.size("hidden_size"))

    return stacked(s, layer)


def _axk2(s: Settings) -> Named:
    """A.X K2's decoder: an indexer, an output gate in the query's projection, and gated norms."""
    kind, hidden = _sparse_layers(s), s.size("hidden_size")
    heads, rank, key_rank = s.size("num_attention_heads"), s.size("q_lora_rank"), s.size("kv_lora_rank")
    nope, rope, value = s.size("qk_nope_head_dim"), s.size("qk_rope_head_dim"), s.size("v_head_dim")
    bias = s.flag("attention_bias")

    def gated_norm(prefix: str) -> Named:
        yield norm(f"{prefix}.norm", hidden)
        yield linear(f"{prefix}.mlp.fc1", s.size("gated_norm_rank"), hidden)
        yield linear(f"{prefix}.mlp.fc2", hidden, s.size("gated_norm_rank"))

    def layer(prefix: str, index: int) -> Named:
        path, sparse = f"{prefix}.self_attn", kind(index) == "sparse"
        yield linear(f"{path}.q_a_proj", rank, hidden, bias=bias)
        yield norm(f"{path}.q_a_layernorm", rank)
        yield linear(f"{path}.q_gate_proj", heads * (nope + rope + value), 2 * rank)
        yield linear(f"{path}.kv_a_proj_with_mqa", key_rank + rope, hidden, bias=bias)
        yield norm(f"{path}.kv_a_layernorm", key_rank)
        yield linear(f"{path}.kv_b_proj", heads * (nope + value), key_rank)
        yield linear(f"{path}.o_proj", hidden, heads * value, bias=bias)
        yield from _indexer(s, f"{path}.indexer")
        yield from _feed_forward(s, f"{prefix}.mlp", sparse=sparse)
        yield from gated_norm(f"{prefix}.input_layernorm")
        if sparse:
            yield from gated_norm(f"{prefix}.post_attention_layernorm")
        else:
            yield norm(f"{prefix}.post_attention_layernorm", hidden)

    return stacked(s, layer, norms=())


def _hy_v4(s: Settings) -> Named:
    """Hunyuan 4's decoder: gated latent attention with sinks, and hyper-connections around each block."""
    hidden, heads, streams = s.size("hidden_size"), s.size("num_attention_heads"), s.size("hc_mult")
    feeds = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    indexed = layer_kinds(s.names("indexer_types"), lambda index: "full" if index == 0 or index % 4 == 1 else "shared")

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield f"{path}.sinks", Module("parameter", (heads,))
        yield from latent_attention(s, path)
        yield linear(f"{path}.gate_proj", heads * s.size("v_head_dim"), hidden)
        if indexed(index) != "shared":
            yield from _indexer(s, f"{path}.indexer")
        yield from _feed_forward(s, f"{prefix}.mlp", sparse=feeds(index) == "sparse")
        for block in ("attn_hc", "ffn_hc"):
            yield f"{prefix}.{block}.fn", Module("parameter", (2 * streams, streams * hidden))
            yield f"{prefix}.{block}.base", Module("parameter", (2 * streams,))
            yield f"{prefix}.{block}.scale", Module("parameter", (2,))

    yield from stacked(s, layer)
    yield "hc_head.hc_fn", Module("parameter", (streams, streams * hidden))
    yield "hc_head.hc_base", Module("parameter", (streams,))
    yield "hc_head.hc_scale", Module("parameter", (1,))


_SLIDING = {
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "kv_lora_rank": 1024,
    "head_dim": 256,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}


def _dots3_note(s: Settings) -> Named:
    """dots.note's decoder: sliding layers have sizes of their own, the others an indexer."""
    feeds, hidden = _sparse_layers(s), s.size("hidden_size")
    attends, indexes = _dots3_layers(s)
    shared = s.aliased({"moe_shared_expert_intermediate_size": "shared_experts_intermediate_size"})
    shared_inner = shared.size("moe_shared_expert_intermediate_size") * s.size("n_shared_experts")
    count, inner = number_of_experts(s, "n_routed_experts", "num_local_experts"), s.size("moe_intermediate_size")
    saved, sliding = fields_by_layer(s), _sliding_fields(s)

    def fields(index: int) -> Mapping[str, Any]:
        if saved is not None:
            return saved.get(index, {})
        return sliding if attends(index) == "sliding_attention" else {}

    def layer(prefix: str, index: int) -> Named:
        path, kind, own = f"{prefix}.self_attn", attends(index), s.with_fields(**fields(index))
        yield from latent_attention(own, path)
        yield norm(f"{path}.k_rope_only_layernorm", own.size("qk_rope_head_dim"))
        yield linear(f"{path}.g_proj", own.size("num_attention_heads"), hidden)
        if kind in indexes:
            yield from _indexer(own, f"{path}.indexer")
        if feeds(index) == "sparse":
            yield from fused_experts(f"{prefix}.mlp", hidden, inner, count)
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, shared_inner)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _dots3_layers(s: Settings) -> tuple[Callable[[int], str], tuple[str, ...]]:
    """Return the kind of each layer, and which kinds have an indexer.

    With ``use_dsa`` "full" and "indexed" mean the same; a config saved with ``per_layer_config`` says what it means.
    """
    slides = s.value("use_sliding_window") is not False
    uses = s.value("use_dsa") if "use_dsa" in s.raw or "per_layer_config" in s.raw else True
    full = "full_attention" if uses is False else "indexed_attention"
    attends = layer_kinds(
        s.names("layer_types"),
        lambda index: full if not slides or index < 2 or index % 4 == 1 else "sliding_attention",
    )
    if uses is None:
        return attends, ("indexed_attention",)
    return attends, ("indexed_attention", "full_attention") if uses else ()


def _sliding_fields(s: Settings) -> Mapping[str, Any]:
    """The fields that sliding layers have in place of the config's own."""
    swa = Settings({name: s.raw[f"swa_{name}"] for name in _SLIDING if f"swa_{name}" in s.raw}, _SLIDING)
    rope = s.optional_size("swa_qk_rope_head_dim") or swa.size("head_dim") - swa.size("qk_nope_head_dim")
    return {**{name: swa.value(name) for name in _SLIDING}, "qk_rope_head_dim": rope}


ARCHITECTURES: Mapping[str, Architecture] = {
    "minicpm3": declared(
        sizes(
            73448, 2560, 6400, 62, 40, 40, kv_lora_rank=256, q_lora_rank=768, qk_nope_head_dim=64, qk_rope_head_dim=32
        ),
        _dense,
    ),
    "youtu": declared(
        sizes(
            128256,
            2048,
            6144,
            32,
            16,
            16,
            kv_lora_rank=512,
            q_lora_rank=1536,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
        ),
        _youtu,
    ),
    "axk1": declared(
        sizes(
            163840,
            7168,
            18432,
            61,
            64,
            64,
            moe_intermediate_size=2048,
            n_shared_experts=1,
            n_routed_experts=192,
            kv_lora_rank=512,
            q_lora_rank=1536,
            qk_rope_head_dim=64,
            v_head_dim=128,
            qk_nope_head_dim=128,
            first_k_dense_replace=1,
            moe_layer_freq=1,
        ),
        _axk1,
    ),
    "axk2": declared(
        sizes(
            163840,
            2048,
            5120,
            48,
            32,
            32,
            moe_intermediate_size=512,
            n_shared_experts=1,
            n_routed_experts=128,
            kv_lora_rank=128,
            q_lora_rank=384,
            qk_rope_head_dim=32,
            v_head_dim=64,
            qk_nope_head_dim=64,
            index_head_dim=128,
            index_n_heads=16,
            gated_norm_rank=16,
            first_k_dense_replace=1,
            moe_layer_freq=1,
        ),
        _axk2,
    ),
    "hy_v4": declared(
        sizes(
            120832,
            2816,
            6912,
            34,
            32,
            32,
            moe_intermediate_size=768,
            n_shared_experts=1,
            n_routed_experts=256,
            kv_lora_rank=512,
            q_lora_rank=1536,
            qk_rope_head_dim=64,
            v_head_dim=256,
            qk_nope_head_dim=192,
            index_head_dim=128,
            index_n_heads=16,
            hc_mult=4,
        ),
        _hy_v4,
    ),
    "dots3_note_text": declared(
        sizes(
            152064,
            5120,
            13824,
            46,
            128,
            128,
            moe_intermediate_size=1536,
            shared_experts_intermediate_size=1536,
            n_shared_experts=1,
            n_routed_experts=256,
            kv_lora_rank=512,
            q_lora_rank=1024,
            qk_rope_head_dim=64,
            v_head_dim=128,
            qk_nope_head_dim=128,
            index_head_dim=128,
            index_n_heads=64,
            first_k_dense_replace=1,
            moe_layer_freq=1,
        ),
        _dots3_note,
    ),
}
