"""Decoders of grouped-query attention with fused experts, of types that came with transformers 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_packer.base_model.architecture import Architecture, framed
from lora_packer.base_model.blocks import Named, attention, fused_experts, gated_mlp, linear
from lora_packer.base_model.families.common import (
    LAYER_NORMS,
    declared,
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import Experts, both_names, number_of_experts, qwen_is_sparse
from lora_packer.base_model.families.moe_variants import granite_experts, granite_shared
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _attention(s: Settings, prefix: str, *, normed: bool = True) -> Named:
    """Grouped-query attention, whose queries and keys may have norms."""
    bias, head_dim = s.flag("attention_bias"), head_sizes(s)[2]
    yield from grouped_attention(s, prefix, bias=bias, output_bias=bias)
    if normed:
        yield from qk_norms(prefix, head_dim, head_dim)


def _sinks(s: Settings, prefix: str) -> tuple[str, Module]:
    """The weight of attending to nothing, one for each head."""
    return f"{prefix}.sinks", Module("parameter", (s.size("num_attention_heads"),))


def _experts(s: Settings, prefix: str, count: int) -> Named:
    return fused_experts(prefix, s.size("hidden_size"), s.size("moe_intermediate_size"), count)


def _shared(s: Settings, path: str) -> Named:
    return gated_mlp(path, s.size("hidden_size"), s.size("shared_expert_intermediate_size"))


def _aliased_count(s: Settings) -> int:
    return number_of_experts(s, "num_experts", "num_local_experts")


def _dense(s: Settings, prefix: str) -> Named:
    return gated_mlp(prefix, s.size("hidden_size"), s.size("intermediate_size"))


def _granitemoe_swa(s: Settings) -> Named:
    hidden, shared = s.size("hidden_size"), s.count("shared_intermediate_size") > 0

    def layer(prefix: str, _index: int) -> Named:
        yield _sinks(s, f"{prefix}.self_attn")
        yield from _attention(s, f"{prefix}.self_attn", normed=False)
        count, intermediate = s.size("num_local_experts"), s.size("intermediate_size")
        yield from granite_experts(f"{prefix}.block_sparse_moe", hidden, intermediate, count)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _kinds(s: Settings, dense: int) -> Callable[[int], str]:
    """Return which layers are "sparse": as listed, else all after the first ``dense`` ones."""
    return layer_kinds(s.names("mlp_layer_types"), lambda index: "dense" if index < dense else "sparse")


def _hy_v3(s: Settings) -> Named:
    """Hunyuan 3's decoder."""
    kind, bias, hidden = _kinds(s, 1), s.flag("mlp_bias"), s.size("hidden_size")
    shared = s.size("moe_intermediate_size") * s.count("num_shared_experts") or s.size("intermediate_size")
    count = _aliased_count(s)

    def layer(prefix: str, index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        if kind(index) == "sparse":
            yield from _experts(s, f"{prefix}.mlp", count)
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, shared, bias=bias)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=bias)

    return stacked(s, layer)


def _kolibri1(s: Settings) -> Named:
    head_dim, count = head_sizes(s)[2], _aliased_count(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield from _experts(s, f"{prefix}.mlp", count)
        yield from _shared(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer, norms=(*LAYER_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm"))


def _laguna(s: Settings) -> Named:
    """Laguna's decoder: gated attention, whose number of heads may differ between layers."""
    kind, hidden, bias = _kinds(s, 1), s.size("hidden_size"), s.flag("attention_bias")
    usual, kv_heads, head_dim = head_sizes(s)
    listed = s.numbers("num_attention_heads_per_layer") or ()
    per_head = s.value("gating") is True or s.value("gating") == "per-head"

    def layer(prefix: str, index: int) -> Named:
        path, heads = f"{prefix}.self_attn", listed[index] if index < len(listed) else usual
        yield from attention(path, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        yield from qk_norms(path, head_dim, head_dim)
        yield linear(f"{path}.g_proj", heads if per_head else heads * head_dim, hidden)
        if kind(index) != "sparse":
            yield from _dense(s, f"{prefix}.mlp")
            return
        yield from _experts(s, f"{prefix}.mlp", s.size("num_experts"))
        yield f"{prefix}.mlp.gate.e_score_correction_bias", Module("parameter", (s.size("num_experts"),))
        yield from _shared(s, f"{prefix}.mlp.shared_experts")

    return stacked(s, layer)


def _mellum(s: Settings) -> Named:
    kind, count = _kinds(s, 0), _aliased_count(s)

    def layer(prefix: str, index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from _experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _flint(s: Settings) -> Named:
    if s.value("mlp_only_layers") is None:
        s = s.with_fields(mlp_only_layers=[0, 1])
    count = s.count("num_experts")
    sparse = qwen_is_sparse(s, count)

    def layer(prefix: str, index: int) -> Named:
        yield _sinks(s, f"{prefix}.self_attn")
        yield from _attention(s, f"{prefix}.self_attn")
        if sparse(index):
            yield from _experts(s, f"{prefix}.mlp", count)
            yield from _shared(s, f"{prefix}.mlp.shared_expert")
        else:
            yield from _dense(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _beam(s: Settings) -> Named:
    kind, hidden, (heads, _, head_dim) = _kinds(s, 3), s.size("hidden_size"), head_sizes(s)
    count = s.size("num_experts")

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from _attention(s, path)
        yield linear(f"{path}.gate_proj", heads * head_dim, hidden)
        yield f"{path}.gate_bias", Module("parameter", (heads,))
        yield from _experts(s, f"{prefix}.mlp", count) if kind(index) == "sparse" else _dense(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=(*LAYER_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm"))


def _cohere2_moe(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    kind = _kinds(s, s.count("first_k_dense_replace"))

    def layer(prefix: str, index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn", normed=False)
        if kind(index) == "dense":
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.optional_size("prefix_dense_intermediate_size") or inner)
            return
        yield from fused_experts(f"{prefix}.mlp", hidden, inner, s.size("num_experts"))
        shared = s.count("num_shared_experts")
        if shared:
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, inner * shared)

    return stacked(s, layer, norms=("input_layernorm",))


def _minimax_m3(s: Settings) -> Named:
    """MiniMax-M3's decoder: some layers choose what they attend to; feed-forward blocks are fused."""
    hidden, head_dim, older = s.size("hidden_size"), head_sizes(s)[2], s.nested("sparse_attention_config")
    sparse_attention, sparse_experts = older.numbers("sparse_attention_freq"), s.numbers("moe_layer_freq")
    attends = layer_kinds(s.names("layer_types"), _chosen(sparse_attention, ("full_attention", "minimax_m3_sparse"), 0))
    feeds = layer_kinds(s.names("mlp_layer_types"), _chosen(sparse_experts, ("dense", "sparse"), 1))
    heads = older.optional_size("sparse_num_index_heads") or s.size("index_n_heads")
    size = older.optional_size("sparse_index_dim") or s.size("index_head_dim")

    def fused(prefix: str, inner: int) -> Named:
        yield linear(f"{prefix}.gate_up_proj", 2 * inner, hidden)
        yield linear(f"{prefix}.down_proj", hidden, inner)

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from grouped_attention(s, path)
        yield from qk_norms(path, head_dim, head_dim)
        if attends(index) == "minimax_m3_sparse":
            yield linear(f"{path}.indexer.q_proj", heads * size, hidden)
            yield linear(f"{path}.indexer.k_proj", size, hidden)
            yield from qk_norms(f"{path}.indexer", size, size)
        if feeds(index) == "sparse":
            count = number_of_experts(s, "num_local_experts", "num_experts")
            yield from fused_experts(f"{prefix}.mlp", hidden, s.size("intermediate_size"), count)
            yield from fused(f"{prefix}.mlp.shared_experts", s.count("shared_intermediate_size"))
        else:
            yield from fused(f"{prefix}.mlp", s.size("dense_intermediate_size"))

    return stacked(s, layer)


def _chosen(flags: tuple[int, ...] | None, kinds: tuple[str, str], default: int) -> Callable[[int], str]:
    """Return what kind a layer is by older configs, which have a zero or a one for each."""
    return lambda index: kinds[bool(flags[index]) if flags and index < len(flags) else default]


def _aria_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Aria's router and experts, whose weights are stored as (experts, in, out)."""
    yield f"{prefix}.router.weight", Module("parameter", (count, hidden))
    yield f"{prefix}.experts.gate_up_proj", Module("parameter", (count, hidden, 2 * intermediate), transposed=True)
    yield f"{prefix}.experts.down_proj", Module("parameter", (count, intermediate, hidden), transposed=True)


def _aria_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield linear(f"{prefix}.router", count, hidden)
    yield f"{prefix}.experts.fc1.weight", Module("parameter", (count, hidden, 2 * intermediate))
    yield f"{prefix}.experts.fc2.weight", Module("parameter", (count, intermediate, hidden))


def _aria(s: Settings, *, experts: Experts = _aria_experts) -> Named:
    hidden, inner, count = s.size("hidden_size"), s.size("intermediate_size"), s.size("moe_num_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn", normed=False)
        yield from experts(f"{prefix}.mlp", hidden, inner, count)
        shared, bias = inner * s.count("moe_num_shared_experts"), s.flag("mlp_bias")
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, shared, bias=bias)

    return stacked(s, layer)


ARCHITECTURES: Mapping[str, Architecture] = {
    "granitemoe_swa": declared(sizes(32000, 4096, 11008, 32, 32, None, num_local_experts=8), _granitemoe_swa),
    "hy_v3": declared(
        sizes(
            120832,
            4096,
            13312,
            80,
            64,
            8,
            head_dim=128,
            num_experts=192,
            num_shared_experts=1,
            moe_intermediate_size=1536,
        ),
        _hy_v3,
    ),
    "kolibri1": declared(
        {
            "vocab_size": 128000,
            "hidden_size": 2560,
            "num_hidden_layers": 50,
            "num_attention_heads": 48,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 512,
            "num_experts": 384,
            "shared_expert_intermediate_size": 512,
        },
        _kolibri1,
    ),
    "laguna": declared(
        sizes(
            100352,
            2048,
            8192,
            40,
            48,
            8,
            head_dim=128,
            gating=True,
            num_experts=256,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
        ),
        _laguna,
    ),
    "mellum": declared(
        sizes(98304, 2304, 7168, 28, 32, 4, head_dim=128, num_experts=64, moe_intermediate_size=896), _mellum
    ),
    "flint": declared(
        sizes(
            150144,
            2048,
            6144,
            49,
            32,
            4,
            head_dim=128,
            num_experts=256,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=1024,
            decoder_sparse_step=1,
        ),
        _flint,
    ),
    "beam": declared(
        sizes(151936, 5120, 20480, 52, 48, 8, head_dim=128, num_experts=256, moe_intermediate_size=2560), _beam
    ),
    "cohere2_moe": declared(sizes(256000, 8192, 22528, 40, 64, None, head_dim=128, num_experts=8), _cohere2_moe),
    "minimax_m3_vl_text": declared(
        sizes(
            200064,
            6144,
            3072,
            60,
            64,
            4,
            head_dim=128,
            num_local_experts=128,
            dense_intermediate_size=12288,
            shared_intermediate_size=3072,
            index_n_heads=4,
            index_head_dim=128,
        ),
        _minimax_m3,
    ),
    "aria_text": Architecture(
        sizes(32000, 4096, 4096, 32, 32, None, moe_num_experts=8, moe_num_shared_experts=2),
        both_names(_aria, _aria_experts_before_5, framed),
        (),
    ),
}
