"""Decoders with a mixture of experts that is arranged in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head, framed, head_modules
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, linear, norm
from lora_packer.base_model.families.common import (
    grouped_attention,
    layer_kinds,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import (
    Experts,
    both_names,
    fused_weights,
    number_of_experts,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def granite_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts."""
    yield f"{prefix}.router.weight", Module("parameter", (count, hidden))
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def granite_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts in transformers 4."""
    yield linear(f"{prefix}.router.layer", count, hidden)
    yield f"{prefix}.input_linear.weight", Module("parameter", (count, 2 * intermediate, hidden))
    yield f"{prefix}.output_linear.weight", Module("parameter", (count, hidden, intermediate))


def granite_feed_forward(s: Settings, prefix: str, experts: Experts) -> Named:
    """Granite's routed experts, where there are any."""
    count = s.count("num_local_experts")
    if count:
        yield from experts(f"{prefix}.block_sparse_moe", s.size("hidden_size"), s.size("intermediate_size"), count)


def granite_shared(s: Settings, prefix: str) -> Named:
    """Granite's shared feed-forward block."""
    hidden, intermediate = s.size("hidden_size"), s.count("shared_intermediate_size")
    yield linear(f"{prefix}.shared_mlp.input_linear", 2 * intermediate, hidden)
    yield linear(f"{prefix}.shared_mlp.output_linear", hidden, intermediate)


def _granitemoe(s: Settings, *, experts: Experts = granite_experts, shared: bool = False) -> Named:
    bias = s.flag("attention_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from granite_feed_forward(s, prefix, experts)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _granitemoeshared(s: Settings, *, experts: Experts = granite_experts) -> Named:
    return _granitemoe(s, experts=experts, shared=s.count("shared_intermediate_size") > 0)


def _mimo_v2_flash(s: Settings) -> Named:
    hidden, heads, bias = s.size("hidden_size"), s.size("num_attention_heads"), s.flag("attention_bias")
    head_dim, value_dim, few = s.size("head_dim"), s.size("v_head_dim"), s.size("num_key_value_heads")
    attends = layer_kinds(
        s.names("layer_types"), lambda index: "sliding_attention" if index and (index + 1) % 6 else "full_attention"
    )
    feeds = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        path, sliding = f"{prefix}.self_attn", attends(index) == "sliding_attention"
        kv_heads = 2 * few if sliding else few
        if sliding:
            yield f"{path}.sinks", Module("parameter", (heads,))
        yield linear(f"{path}.q_proj", heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.k_proj", kv_heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.v_proj", kv_heads * value_dim, hidden, bias=bias)
        yield linear(f"{path}.o_proj", hidden, heads * value_dim)
        if feeds(index) == "sparse":
            yield from fused_experts(f"{prefix}.mlp", hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _jetmoe(s: Settings) -> Named:
    """JetMoE: the query and output projections are experts too."""
    hidden, count, kv_heads = s.size("hidden_size"), s.size("num_local_experts"), s.size("num_key_value_heads")
    width = kv_heads * s.aliased({"head_dim": "kv_channels"}).size("head_dim")

    def experts(prefix: str, outwards: int, inwards: int) -> Named:
        yield f"{prefix}.bias", Module("parameter", (hidden,))
        yield f"{prefix}.input_linear.weight", Module("parameter", (count, outwards, hidden))
        yield f"{prefix}.output_linear.weight", Module("parameter", (count, hidden, inwards))
        yield linear(f"{prefix}.router.layer", count, hidden)

    def layer(prefix: str, _index: int) -> Named:
        yield from experts(f"{prefix}.self_attention.experts", width, width)
        yield linear(f"{prefix}.self_attention.kv_proj", 2 * width, hidden)
        yield from experts(f"{prefix}.mlp", 2 * s.size("intermediate_size"), s.size("intermediate_size"))

    return stacked(s, layer)


def _dbrx(s: Settings) -> Named:
    width = s.size("d_model")  # transformers takes the experts' from the declared name alone
    s = s.aliased({"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"})
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    feed, kv_heads = s.nested("ffn_config"), s.nested("attn_config").size("kv_n_heads")
    count, intermediate = feed.size("moe_num_experts"), feed.size("ffn_hidden_size")
    yield "wte", Module("embedding", (s.size("vocab_size"), hidden))
    for index in range(s.size("num_hidden_layers")):
        prefix = f"blocks.{index}"
        attends = f"{prefix}.norm_attn_norm"
        yield norm(f"{attends}.norm_1", hidden)
        yield linear(f"{attends}.attn.Wqkv", hidden + 2 * kv_heads * (hidden // heads), hidden)
        yield linear(f"{attends}.attn.out_proj", hidden, hidden)
        yield norm(f"{attends}.norm_2", hidden)
        yield linear(f"{prefix}.ffn.router.layer", count, width)
        for name in ("w1", "v1", "w2"):
            yield f"{prefix}.ffn.experts.mlp.{name}", Module("parameter", (count * intermediate, width))
    yield norm("norm_f", hidden)


def _dbrx_head(s: Settings, head: Head) -> Named:
    return head_modules(s.aliased({"hidden_size": "d_model"}), head)


ARCHITECTURES: Mapping[str, Architecture] = {
    "granitemoe": Architecture(
        sizes(32000, 4096, 11008, 32, 32, None, num_local_experts=8),
        both_names(_granitemoe, granite_experts_before_5, framed),
        (),
    ),
    "granitemoeshared": Architecture(
        sizes(32000, 4096, 11008, 32, 32, None, num_local_experts=8, shared_intermediate_size=0),
        both_names(_granitemoeshared, granite_experts_before_5, framed),
        (),
    ),
    "mimo_v2_flash": Architecture(
        sizes(
            152576,
            4096,
            16384,
            48,
            64,
            4,
            head_dim=192,
            v_head_dim=128,
            moe_intermediate_size=2048,
            n_routed_experts=256,
        ),
        {TRANSFORMERS_5: framed(_mimo_v2_flash)},
        (),
    ),
    "jetmoe": Architecture(
        sizes(32000, 2048, 5632, 12, 32, 16, kv_channels=128, num_local_experts=8),
        {TRANSFORMERS_5: framed(_jetmoe)},
        (),
    ),
    "dbrx": Architecture(
        {
            "vocab_size": 32000,
            "d_model": 2048,
            "n_heads": 16,
            "n_layers": 24,
            "attn_config": {"kv_n_heads": 1},
            "ffn_config": {"ffn_hidden_size": 3584, "moe_num_experts": 4},
        },
        {TRANSFORMERS_5: framed(_dbrx, prefix="transformer.", heads=_dbrx_head)},
        (),
        input_embedding="wte",
    ),
}
