"""Zaya: attention in the space of a convolution, and experts."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.experts import fused_weights
from lora_packer.base_model.blocks.frames import framed, head_modules, stacked
from lora_packer.base_model.blocks.layers import conv, depthwise, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _zaya(s: Settings) -> Named:
    """ZAYA's decoder: attention on convolved queries and keys, and a router that is a network of its own."""
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    routed, count = s.size("router_hidden_size"), s.size("num_experts")
    width, channels = kv_heads * head_dim, (heads + kv_heads) * head_dim

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn.qkv_proj"
        yield from linear(f"{path}.q_proj", heads * head_dim, s.hidden, bias=bias)
        yield from linear(f"{path}.k_proj", width, s.hidden, bias=bias)
        yield from linear(path, width // 2, s.hidden, "v_proj_current", "v_proj_delayed", bias=bias)
        yield from depthwise(f"{path}.conv_qk_depthwise", channels, s.size("cca_time0"), bias=True)
        grouped = (channels, head_dim, s.size("cca_time1"))
        yield from conv(f"{path}.conv_qk_grouped", grouped, bias=True, groups=heads + kv_heads)
        yield from linear(f"{prefix}.self_attn.o_proj", s.hidden, heads * head_dim, bias=bias)
        yield from parameter(f"{prefix}.self_attn.qk_norm.temp", kv_heads)
        gate, experts = f"{prefix}.mlp.gate", f"{prefix}.mlp.experts"
        yield from linear(f"{gate}.down_proj", routed, s.hidden, bias=True)
        yield from norm(f"{gate}.router_mlp.norm", routed)
        yield from linear(f"{gate}.router_mlp", routed, routed, "fc1", "fc2", bias=True)
        yield from linear(f"{gate}.router_mlp.out_proj", count + 1, routed)
        if index:
            yield from parameter(f"{gate}.router_states_scale", routed)
        yield from fused_weights(experts, s.hidden, s.size("moe_intermediate_size"), count)
        for block in ("post_attention_residual_scale", "post_mlp_residual_scale"):
            for name in ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias"):
                yield from parameter(f"{prefix}.{block}.{name}", s.hidden)

    yield from stacked(s, layer)
    for name in ("input_hidden_states_scale", "input_hidden_states_bias"):
        yield from parameter(name, s.hidden)


def _zaya_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("lm_head_bias"))


ARCHITECTURES: Architectures = {"zaya": declared(framed(_zaya, heads=_zaya_head))}
