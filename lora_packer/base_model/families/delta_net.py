"""Decoders that alternate attention with a gated delta rule: Qwen3-Next and Qwen3.5, OLMo-Hybrid, Ling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, linear, norm
from lora_packer.base_model.families.common import (
    TRANSFORMER,
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import (
    Experts,
    both_names,
    deepseek_mixture,
    linear_experts,
    number_of_experts,
    qwen_is_sparse,
    qwen_mixture,
)
from lora_packer.base_model.families.hybrid import depthwise
from lora_packer.base_model.families.mla import latent_attention
from lora_packer.base_model.families.moe_shared import first_dense
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def every_fourth(s: Settings) -> Callable[[int], str]:
    """Return which layers have "full_attention": as listed, else each ``full_attention_interval``-th."""
    interval = s.optional_size("full_attention_interval") or 4
    return layer_kinds(
        s.names("layer_types"),
        lambda index: "linear_attention" if (index + 1) % interval else "full_attention",
    )


def gated_attention(s: Settings, prefix: str) -> Named:
    """Grouped-query attention whose queries carry an output gate, so that q_proj is twice as wide."""
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("attention_bias")
    yield linear(f"{prefix}.q_proj", 2 * heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.k_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.v_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.o_proj", hidden, heads * head_dim, bias=bias)
    yield from qk_norms(prefix, head_dim, head_dim)


def delta_net(s: Settings, prefix: str, *, fused: bool) -> Named:
    """Gated DeltaNet: one projection for all (``fused``, Qwen3-Next) or four (Qwen3.5)."""
    hidden, value_heads = s.size("hidden_size"), s.size("linear_num_value_heads")
    keys = s.size("linear_num_key_heads") * s.size("linear_key_head_dim")
    values = value_heads * s.size("linear_value_head_dim")
    yield f"{prefix}.dt_bias", Module("parameter", (value_heads,))
    yield f"{prefix}.A_log", Module("parameter", (value_heads,))
    yield depthwise(f"{prefix}.conv1d", 2 * keys + values, s.size("linear_conv_kernel_dim"))
    if fused:
        yield linear(f"{prefix}.in_proj_qkvz", 2 * keys + 2 * values, hidden)
        yield linear(f"{prefix}.in_proj_ba", 2 * value_heads, hidden)
    else:
        yield linear(f"{prefix}.in_proj_qkv", 2 * keys + values, hidden)
        yield linear(f"{prefix}.in_proj_z", values, hidden)
        yield linear(f"{prefix}.in_proj_b", value_heads, hidden)
        yield linear(f"{prefix}.in_proj_a", value_heads, hidden)
    yield norm(f"{prefix}.norm", s.size("linear_value_head_dim"))
    yield linear(f"{prefix}.out_proj", hidden, values)


def _qwen(s: Settings, feed_forward: Callable[[str, int], Named], *, fused: bool) -> Named:
    kind = every_fourth(s)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from delta_net(s, f"{prefix}.linear_attn", fused=fused)
        else:
            yield from gated_attention(s, f"{prefix}.self_attn")
        yield from feed_forward(f"{prefix}.mlp", index)

    return stacked(s, layer)


def _qwen3_next(s: Settings, *, experts: Experts = fused_experts) -> Named:
    sparse = qwen_is_sparse(s, s.count("num_experts"))

    def feed_forward(prefix: str, index: int) -> Named:
        if sparse(index):
            return qwen_mixture(s, prefix, experts)
        return gated_mlp(prefix, s.size("hidden_size"), s.size("intermediate_size"))

    return _qwen(s, feed_forward, fused=True)


def qwen3_5(s: Settings) -> Named:
    """Qwen3.5's text decoder."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    return _qwen(s, lambda prefix, _index: gated_mlp(prefix, hidden, intermediate), fused=False)


def qwen3_5_moe(s: Settings) -> Named:
    """Qwen3.5-MoE's text decoder."""
    return _qwen(s, lambda prefix, _index: qwen_mixture(s, prefix), fused=False)


def _olmo_hybrid(s: Settings) -> Named:
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("attention_bias")
    key_heads = s.optional_size("linear_num_key_heads") or heads
    value_heads = s.optional_size("linear_num_value_heads") or heads
    key_dim = s.optional_size("linear_key_head_dim") or int(0.75 * hidden / key_heads)
    value_dim = s.optional_size("linear_value_head_dim") or 2 * key_dim
    keys, values, last = key_heads * key_dim, value_heads * value_dim, s.size("num_hidden_layers") - 1
    kind = layer_kinds(
        s.names("layer_types"),
        lambda index: "full_attention" if index % 4 == 3 or index == last < 3 else "linear_attention",
    )

    def layer(prefix: str, index: int) -> Named:
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))
        yield norm(f"{prefix}.post_attention_layernorm", hidden)
        if kind(index) != "linear_attention":
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
            yield from qk_norms(f"{prefix}.self_attn", heads * head_dim, kv_heads * head_dim)
            yield norm(f"{prefix}.post_feedforward_layernorm", hidden)
            return
        path = f"{prefix}.linear_attn"
        yield norm(f"{prefix}.input_layernorm", hidden)
        for name in ("A_log", "dt_bias"):
            yield f"{path}.{name}", Module("parameter", (value_heads,))
        for name, size in (
            ("q", keys),
            ("k", keys),
            ("v", values),
            ("a", value_heads),
            ("b", value_heads),
            ("g", values),
        ):
            yield linear(f"{path}.{name}_proj", size, hidden)
        yield linear(f"{path}.o_proj", hidden, values)
        yield depthwise(f"{path}.conv1d", 2 * keys + values, s.size("linear_conv_kernel_dim"))
        yield norm(f"{path}.o_norm", value_dim)

    return stacked(s, layer, norms=())


def bailing_hybrid(s: Settings) -> Named:
    """Ling 2.5's decoder: Kimi delta attention, with latent attention on each ``layer_group_size``-th layer."""
    hidden, count = s.size("hidden_size"), number_of_experts(s, "num_local_experts", "num_experts")
    linear_sizes = s.aliased({"linear_head_dim": "head_dim", "linear_num_heads": "num_attention_heads"})
    heads, head_dim = linear_sizes.size("linear_num_heads"), linear_sizes.size("linear_head_dim")
    kernel = s.optional_size("linear_conv_kernel_dim") or s.size("short_conv_kernel_size")
    width = heads * head_dim
    group = s.size("layer_group_size")
    attends = layer_kinds(
        s.names("layer_types"), lambda index: "linear_attention" if (index + 1) % group else "full_attention"
    )
    feeds = first_dense(s)
    feed = s.aliased({"num_shared_experts": "n_shared_experts"})

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        if attends(index) == "full_attention":
            yield from latent_attention(s, path)
            yield linear(f"{path}.g_proj", s.size("num_attention_heads"), hidden)
        else:
            for name in ("q_proj", "k_proj", "v_proj", "forget_gate.f_proj", "g_proj"):
                yield linear(f"{path}.{name}", width, hidden)
            yield depthwise(f"{path}.conv1d", 3 * width, kernel)
            yield f"{path}.forget_gate.A_log", Module("parameter", (heads,))
            yield f"{path}.forget_gate.dt_bias", Module("parameter", (width,))
            yield linear(f"{path}.b_proj", heads, hidden)
            yield norm(f"{path}.o_norm", head_dim)
            yield linear(f"{path}.o_proj", hidden, width)
        if feeds(index) == "sparse":
            yield from deepseek_mixture(feed, f"{prefix}.mlp", count, shared="num_shared_experts")
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


_DELTA_NET = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}


# The text configs of Qwen3.5, which its image-text configs hold as text_config.
QWEN3_5_TEXT = sizes(248320, 4096, 12288, 32, 16, 4, **_DELTA_NET)


QWEN3_5_MOE_TEXT: dict[str, Any] = {
    "vocab_size": 248320,
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 256,
    **_DELTA_NET,
}


ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen3_next": Architecture(
        sizes(
            151936,
            2048,
            5632,
            48,
            16,
            2,
            num_experts=512,
            moe_intermediate_size=512,
            decoder_sparse_step=1,
            shared_expert_intermediate_size=512,
            **_DELTA_NET,
        ),
        both_names(_qwen3_next, linear_experts, partial(framed, answering_prefix=TRANSFORMER)),
        (),
    ),
    "qwen3_5_text": Architecture(QWEN3_5_TEXT, {TRANSFORMERS_5: framed(qwen3_5)}, ()),
    "qwen3_5_moe_text": Architecture(QWEN3_5_MOE_TEXT, {TRANSFORMERS_5: framed(qwen3_5_moe)}, ()),
    "olmo_hybrid": Architecture(
        sizes(100352, 3840, 11008, 32, 30, None, linear_conv_kernel_dim=4), {TRANSFORMERS_5: framed(_olmo_hybrid)}, ()
    ),
    "bailing_hybrid": Architecture(
        sizes(
            157184,
            2560,
            6144,
            42,
            32,
            32,
            moe_intermediate_size=768,
            n_shared_experts=1,
            num_local_experts=512,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            v_head_dim=128,
            qk_nope_head_dim=128,
            head_dim=128,
            short_conv_kernel_size=4,
            layer_group_size=6,
            first_k_dense_replace=2,
        ),
        {TRANSFORMERS_5: framed(bailing_hybrid)},
        (),
    ),
}
