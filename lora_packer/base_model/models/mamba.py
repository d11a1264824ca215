"""Mamba 1 and 2, and the decoders that mix them with attention: Bamba, Jamba, Falcon-Mamba."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import grouped_attention, plain_attention
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    fused_weights,
    number_of_experts,
    separate_linears,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, sizes, stacked
from lora_packer.base_model.blocks.layers import linear, norm
from lora_packer.base_model.blocks.recurrent import MIXER, PRE_FEED_FORWARD, mamba_1, mamba_2, mixer, time_step_rank
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _mamba(s: Settings) -> Named:
    hidden, rank = s.size("hidden_size"), time_step_rank(s, "time_step_rank")
    inner = s.optional_size("intermediate_size") or s.size("expand") * hidden
    bias, conv_bias = s.flag("use_bias"), s.flag("use_conv_bias")

    def layer(prefix: str, _index: int) -> Named:
        state, kernel = s.size("state_size"), s.size("conv_kernel")
        return mamba_1(f"{prefix}.mixer", hidden, inner, state, rank, kernel, bias=bias, conv_bias=conv_bias)

    return stacked(s, layer, norms=("norm",), embedding="embeddings", last_norm="norm_f")


def _mamba2(s: Settings) -> Named:
    hidden, bias, conv_bias = s.size("hidden_size"), s.flag("use_bias"), s.flag("use_conv_bias")
    inner, states = s.size("expand") * hidden, s.size("n_groups") * s.size("state_size")

    def layer(prefix: str, _index: int) -> Named:
        heads, kernel = s.size("num_heads"), s.size("conv_kernel")
        return mamba_2(f"{prefix}.mixer", hidden, inner, heads, states, kernel, bias=bias, conv_bias=conv_bias)

    return stacked(s, layer, norms=("norm",), embedding="embeddings", last_norm="norm_f")


def _bamba(s: Settings) -> Named:
    attends = s.indices("attn_layer_indices")

    def layer(prefix: str, index: int) -> Named:
        if index in attends:
            yield from plain_attention(s, f"{prefix}.self_attn")
        else:
            yield from mixer(s, f"{prefix}.mamba")
        intermediate = s.size("intermediate_size")
        yield from gated_mlp(f"{prefix}.feed_forward", s.size("hidden_size"), intermediate, bias=s.flag("mlp_bias"))

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


def _jamba_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield f"{prefix}.router.weight", Module("parameter", (count, hidden))
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def _jamba_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield linear(f"{prefix}.router", count, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count)


def _jamba(s: Settings, *, experts: Experts = _jamba_experts) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    inner, rank, state = s.size("mamba_expand") * hidden, time_step_rank(s, "mamba_dt_rank"), s.size("mamba_d_state")
    bias, conv_bias, kernel = s.flag("mamba_proj_bias"), s.flag("mamba_conv_bias"), s.size("mamba_d_conv")
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        if index % s.size("attn_layer_period") == s.count("attn_layer_offset"):
            yield from grouped_attention(s, f"{prefix}.self_attn")
        else:
            path = f"{prefix}.mamba"
            yield from mamba_1(path, hidden, inner, state, rank, kernel, bias=bias, conv_bias=conv_bias)
            for name, size in (("dt", rank), ("b", state), ("c", state)):
                yield norm(f"{path}.{name}_layernorm", size)
        if count > 1 and index % s.size("expert_layer_period") == s.count("expert_layer_offset"):
            yield from experts(f"{prefix}.feed_forward", hidden, intermediate, count)
        else:
            yield from gated_mlp(f"{prefix}.feed_forward", hidden, intermediate)

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


_MAMBA = declared(
    {
        "vocab_size": 50280,
        "hidden_size": 768,
        "state_size": 16,
        "num_hidden_layers": 32,
        "expand": 2,
        "conv_kernel": 4,
        "use_conv_bias": True,
        "time_step_rank": "auto",
    },
    framed(_mamba, prefix="backbone."),
    input_embedding="embeddings",
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": declared(
        {
            "vocab_size": 32768,
            "hidden_size": 4096,
            "state_size": 128,
            "num_hidden_layers": 64,
            "num_heads": 128,
            "n_groups": 8,
            "expand": 2,
            "conv_kernel": 4,
            "use_conv_bias": True,
        },
        framed(_mamba2, prefix="backbone."),
        input_embedding="embeddings",
    ),
    "bamba": declared(sizes(128000, 4096, 14336, 32, 32, 8, **MIXER), framed(_bamba)),
    "jamba": declared(
        sizes(
            65536,
            4096,
            14336,
            32,
            32,
            8,
            num_experts=16,
            expert_layer_period=2,
            expert_layer_offset=1,
            attn_layer_period=8,
            attn_layer_offset=4,
            mamba_d_state=16,
            mamba_d_conv=4,
            mamba_expand=2,
            mamba_dt_rank="auto",
            mamba_conv_bias=True,
        ),
        *both_names(_jamba, _jamba_experts_before_5, framed),
    ),
}
