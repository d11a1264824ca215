"""State space models, and decoders that alternate them with attention."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, gated_mlp, linear, norm
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
    separate_linears,
)
from lora_packer.base_model.families.hybrid import depthwise
from lora_packer.base_model.families.moe_variants import (
    granite_experts,
    granite_experts_before_5,
    granite_feed_forward,
    granite_shared,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

PRE_FEED_FORWARD = ("input_layernorm", "pre_ff_layernorm")


def mamba_1(
    prefix: str, hidden: int, inner: int, state: int, rank: int, kernel: int, *, bias: bool, conv_bias: bool
) -> Named:
    """A Mamba mixer."""
    yield f"{prefix}.A_log", Module("parameter", (inner, state))
    yield f"{prefix}.D", Module("parameter", (inner,))
    yield depthwise(f"{prefix}.conv1d", inner, kernel, bias=conv_bias)
    yield linear(f"{prefix}.in_proj", 2 * inner, hidden, bias=bias)
    yield linear(f"{prefix}.x_proj", rank + 2 * state, inner)
    yield linear(f"{prefix}.dt_proj", inner, rank, bias=True)
    yield linear(f"{prefix}.out_proj", hidden, inner, bias=bias)


def mamba_2(
    prefix: str,
    hidden: int,
    inner: int,
    heads: int,
    states: int,
    kernel: int,
    *,
    bias: bool = False,
    conv_bias: bool = True,
    output_bias: bool | None = None,
    normed: bool = True,
) -> Named:
    """A Mamba-2 mixer; ``states`` is the number of groups times the size of the state."""
    for name in ("dt_bias", "A_log", "D"):
        yield f"{prefix}.{name}", Module("parameter", (heads,))
    yield depthwise(f"{prefix}.conv1d", inner + 2 * states, kernel, bias=conv_bias)
    yield linear(f"{prefix}.in_proj", 2 * inner + 2 * states + heads, hidden, bias=bias)
    if normed:
        yield norm(f"{prefix}.norm", inner)
    yield linear(f"{prefix}.out_proj", hidden, inner, bias=bias if output_bias is None else output_bias)


def _time_step_rank(s: Settings, name: str) -> int:
    return -(-s.size("hidden_size") // 16) if s.value(name) == "auto" else s.size(name)


def _mamba(s: Settings) -> Named:
    hidden, rank = s.size("hidden_size"), _time_step_rank(s, "time_step_rank")
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


def _mixer(
    s: Settings, prefix: str, *, inner: int | None = None, output_bias: bool | None = None, normed: bool = True
) -> Named:
    """The Mamba-2 mixer of the configs that name its fields ``mamba_...``."""
    hidden = s.size("hidden_size")
    return mamba_2(
        prefix,
        hidden,
        inner or s.size("mamba_expand") * hidden,
        s.size("mamba_n_heads"),
        s.size("mamba_n_groups") * s.size("mamba_d_state"),
        s.size("mamba_d_conv"),
        bias=s.flag("mamba_proj_bias"),
        conv_bias=s.flag("mamba_conv_bias"),
        output_bias=output_bias,
        normed=normed,
    )


def _bamba(s: Settings) -> Named:
    bias, attends = s.flag("attention_bias"), s.indices("attn_layer_indices")

    def layer(prefix: str, index: int) -> Named:
        if index in attends:
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        else:
            yield from _mixer(s, f"{prefix}.mamba")
        intermediate = s.size("intermediate_size")
        yield from gated_mlp(f"{prefix}.feed_forward", s.size("hidden_size"), intermediate, bias=s.flag("mlp_bias"))

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


def _falcon_h1(s: Settings) -> Named:
    """Falcon-H1's decoder: a mixer and an attention side by side in each layer."""
    bias, inner = s.flag("attention_bias"), s.optional_size("mamba_d_ssm")

    def layer(prefix: str, _index: int) -> Named:
        out, normed = s.flag("projectors_bias"), s.flag("mamba_rms_norm")
        yield from _mixer(s, f"{prefix}.mamba", inner=inner, output_bias=out, normed=normed)
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        intermediate = s.size("intermediate_size")
        yield from gated_mlp(f"{prefix}.feed_forward", s.size("hidden_size"), intermediate, bias=s.flag("mlp_bias"))

    return stacked(s, layer, norms=PRE_FEED_FORWARD, last_norm="final_layernorm")


def _granitemoehybrid(s: Settings, *, experts: Experts = granite_experts) -> Named:
    bias = s.flag("attention_bias")
    listed = s.aliased({"layers_block_type": "layer_types"}).names("layers_block_type")
    kind = layer_kinds(listed, lambda _index: "linear_attention")

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from _mixer(s, f"{prefix}.mamba")
        else:
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from granite_feed_forward(s, prefix, experts)
        yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _jamba_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield f"{prefix}.router.weight", Module("parameter", (count, hidden))
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def _jamba_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield linear(f"{prefix}.router", count, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count)


def _jamba(s: Settings, *, experts: Experts = _jamba_experts) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    inner, rank, state = s.size("mamba_expand") * hidden, _time_step_rank(s, "mamba_dt_rank"), s.size("mamba_d_state")
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


_MAMBA = Architecture(
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
    {TRANSFORMERS_5: framed(_mamba, prefix="backbone.")},
    (),
    input_embedding="embeddings",
)


_MIXER = {
    "mamba_n_heads": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_conv_bias": True,
}


ARCHITECTURES: Mapping[str, Architecture] = {
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": Architecture(
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
        {TRANSFORMERS_5: framed(_mamba2, prefix="backbone.")},
        (),
        input_embedding="embeddings",
    ),
    "bamba": Architecture(sizes(128000, 4096, 14336, 32, 32, 8, **_MIXER), {TRANSFORMERS_5: framed(_bamba)}, ()),
    "falcon_h1": Architecture(
        sizes(128000, 4096, 14336, 32, 32, 8, mamba_d_ssm=1024, **_MIXER), {TRANSFORMERS_5: framed(_falcon_h1)}, ()
    ),
    "granitemoehybrid": Architecture(
        sizes(32000, 4096, 11008, 32, 32, None, num_local_experts=8, shared_intermediate_size=1024, **_MIXER),
        both_names(_granitemoehybrid, granite_experts_before_5, framed),
        (),
    ),
    "jamba": Architecture(
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
        both_names(_jamba, _jamba_experts_before_5, framed),
        (),
    ),
}
