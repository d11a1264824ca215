"""Zaya: attention in the space of a convolution, and experts."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.experts import fused_weights
from lora_packer.base_model.blocks.frames import framed, head_modules, stacked
from lora_packer.base_model.blocks.layers import depthwise, linear, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _zaya(s: Settings) -> Named:
    """ZAYA's decoder: attention on convolved queries and keys, and a router that is a network of its own."""
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("attention_bias")
    routed, count = s.size("router_hidden_size"), s.size("num_experts")
    width, channels = kv_heads * head_dim, (heads + kv_heads) * head_dim

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn.qkv_proj"
        yield linear(f"{path}.q_proj", heads * head_dim, hidden, bias=bias)
        yield linear(f"{path}.k_proj", width, hidden, bias=bias)
        for name in ("v_proj_current", "v_proj_delayed"):
            yield linear(f"{path}.{name}", width // 2, hidden, bias=bias)
        yield depthwise(f"{path}.conv_qk_depthwise", channels, s.size("cca_time0"), bias=True)
        yield f"{path}.conv_qk_grouped", Module("conv", (channels, head_dim, s.size("cca_time1")), True)
        yield linear(f"{prefix}.self_attn.o_proj", hidden, heads * head_dim, bias=bias)
        yield f"{prefix}.self_attn.qk_norm.temp", Module("parameter", (kv_heads,))
        gate, experts = f"{prefix}.mlp.gate", f"{prefix}.mlp.experts"
        yield linear(f"{gate}.down_proj", routed, hidden, bias=True)
        yield norm(f"{gate}.router_mlp.norm", routed)
        for name in ("fc1", "fc2"):
            yield linear(f"{gate}.router_mlp.{name}", routed, routed, bias=True)
        yield linear(f"{gate}.router_mlp.out_proj", count + 1, routed)
        if index:
            yield f"{gate}.router_states_scale", Module("parameter", (routed,))
        yield from fused_weights(experts, hidden, s.size("moe_intermediate_size"), count)
        for block in ("post_attention_residual_scale", "post_mlp_residual_scale"):
            for name in ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias"):
                yield f"{prefix}.{block}.{name}", Module("parameter", (hidden,))

    yield from stacked(s, layer)
    for name in ("input_hidden_states_scale", "input_hidden_states_bias"):
        yield name, Module("parameter", (hidden,))


def _zaya_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("lm_head_bias"))


ARCHITECTURES: Mapping[str, Architecture] = {"zaya": declared(framed(_zaya, heads=_zaya_head))}
