"""Mamba 1 and 2, and the decoders that mix them with attention: Bamba, Jamba, Falcon-Mamba."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import grouped_attention, plain_attention
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    fused_weights,
    number_of_experts,
    separate_linears,
)
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.layers import linear, norm, parameter
from lora_packer.base_model.blocks.recurrent import PRE_FEED_FORWARD, mamba_1, mamba_2, mixer, time_step_rank
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _mamba(s: Settings) -> Named:
    rank = time_step_rank(s, "time_step_rank")
    inner = s.optional_size("intermediate_size") or s.size("expand") * s.hidden
    bias, conv_bias = s.flag("use_bias"), s.flag("use_conv_bias")

    def layer(prefix: str, _index: int) -> Named:
        state, kernel = s.size("state_size"), s.size("conv_kernel")
        return mamba_1(f"{prefix}.mixer", s.hidden, inner, state, rank, kernel, bias=bias, conv_bias=conv_bias)

    return stacked(s, layer, norms=("norm",), tokens="embeddings", last_norm="norm_f")


def _mamba2(s: Settings) -> Named:
    bias, conv_bias = s.flag("use_bias"), s.flag("use_conv_bias")
    inner, states = s.size("expand") * s.hidden, s.size("n_groups") * s.size("state_size")

    def layer(prefix: str, _index: int) -> Named:
        heads, kernel = s.size("num_heads"), s.size("conv_kernel")
        return mamba_2(f"{prefix}.mixer", s.hidden, inner, heads, states, kernel, bias=bias, conv_bias=conv_bias)

    return stacked(s, layer, norms=("norm",), tokens="embeddings", last_norm="norm_f")


def _bamba(s: Settings) -> Named:
    attends = s.indices("attn_layer_indices")

    def layer(prefix: str, index: int) -> Named:
        if index in attends:
            yield from plain_attention(s, f"{prefix}.self_attn")
        else:
            yield from mixer(s, f"{prefix}.mamba")
        yield from plain_mlp(s, f"{prefix}.feed_forward", bias=s.flag("mlp_bias"))

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


def _jamba_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from parameter(f"{prefix}.router.weight", count, hidden)
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def _jamba_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from linear(f"{prefix}.router", count, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count)


def _jamba(s: Settings, *, experts: Experts = _jamba_experts) -> Named:
    inner, rank, state = s.size("mamba_expand") * s.hidden, time_step_rank(s, "mamba_dt_rank"), s.size("mamba_d_state")
    bias, conv_bias, kernel = s.flag("mamba_proj_bias"), s.flag("mamba_conv_bias"), s.size("mamba_d_conv")
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        if index % s.size("attn_layer_period") == s.count("attn_layer_offset"):
            yield from grouped_attention(s, f"{prefix}.self_attn")
        else:
            path = f"{prefix}.mamba"
            yield from mamba_1(path, s.hidden, inner, state, rank, kernel, bias=bias, conv_bias=conv_bias)
            for name, size in (("dt", rank), ("b", state), ("c", state)):
                yield from norm(f"{path}.{name}_layernorm", size)
        if count > 1 and index % s.size("expert_layer_period") == s.count("expert_layer_offset"):
            yield from experts(f"{prefix}.feed_forward", s.hidden, s.inner, count)
        else:
            yield from plain_mlp(s, f"{prefix}.feed_forward")

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


ARCHITECTURES: Architectures = {
    "mamba": declared(framed(_mamba, prefix="backbone."), input_embedding="embeddings"),
    "mamba2": declared(framed(_mamba2, prefix="backbone."), input_embedding="embeddings"),
    "bamba": declared(framed(_bamba)),
    "jamba": declared(*both_names(_jamba, _jamba_experts_before_5, framed)),
}
