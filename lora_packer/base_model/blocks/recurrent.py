"""Mixers that carry a state from token to token: Mamba 1 and 2, the gated delta rule."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.blocks.layers import depthwise, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def delta_net(s: Settings, prefix: str, *, fused: bool) -> Named:
    """Gated DeltaNet: one projection for all (``fused``, Qwen3-Next) or four (Qwen3.5)."""
    value_heads = s.size("linear_num_value_heads")
    keys = s.size("linear_num_key_heads") * s.size("linear_key_head_dim")
    values = value_heads * s.size("linear_value_head_dim")
    yield from parameter(f"{prefix}.dt_bias", value_heads)
    yield from parameter(f"{prefix}.A_log", value_heads)
    yield from depthwise(f"{prefix}.conv1d", 2 * keys + values, s.size("linear_conv_kernel_dim"))
    if fused:
        yield from linear(f"{prefix}.in_proj_qkvz", 2 * keys + 2 * values, s.hidden)
        yield from linear(f"{prefix}.in_proj_ba", 2 * value_heads, s.hidden)
    else:
        yield from linear(f"{prefix}.in_proj_qkv", 2 * keys + values, s.hidden)
        yield from linear(f"{prefix}.in_proj_z", values, s.hidden)
        yield from linear(prefix, value_heads, s.hidden, "in_proj_b", "in_proj_a")
    yield from norm(f"{prefix}.norm", s.size("linear_value_head_dim"))
    yield from linear(f"{prefix}.out_proj", s.hidden, values)


def kimi_delta_attention(
    prefix: str,
    hidden: int,
    heads: int,
    head_dim: int,
    kernel: int,
    *,
    forgets: Mapping[str, tuple[int, ...]],
    narrow: bool = True,
) -> Named:
    """Kimi delta attention: a delta rule whose forget gate differs by channel.

    ``forgets`` has the shapes of the forget gate's own parameters; ``narrow`` says whether both gates go through a
    middle of one head's size.
    """
    width = heads * head_dim
    yield from linear(prefix, width, hidden, "q_proj", "k_proj", "v_proj")
    yield from depthwise(f"{prefix}.conv1d", 3 * width, kernel)
    for gate in ("forget_gate.f", "g"):
        if narrow:
            yield from linear(f"{prefix}.{gate}_a_proj", head_dim, hidden)
            yield from linear(f"{prefix}.{gate}_b_proj", width, head_dim)
        else:
            yield from linear(f"{prefix}.{gate}_proj", width, hidden)
    for name, shape in forgets.items():
        yield from parameter(f"{prefix}.forget_gate.{name}", *shape)
    yield from linear(f"{prefix}.b_proj", heads, hidden)
    yield from norm(f"{prefix}.o_norm", head_dim)
    yield from linear(f"{prefix}.o_proj", hidden, width)


def kimi_delta_sizes(s: Settings) -> tuple[int, int, int]:
    """Return the heads, the size of a head and of the convolution; older configs nest them."""
    older = s.nested("linear_attn_config")
    return (
        older.optional_size("num_heads") or s.size("linear_num_heads"),
        older.optional_size("head_dim") or s.size("linear_head_dim"),
        older.optional_size("short_conv_kernel_size") or s.size("linear_conv_kernel_dim"),
    )


PRE_FEED_FORWARD = ("input_layernorm", "pre_ff_layernorm")


def mamba_1(
    prefix: str, hidden: int, inner: int, state: int, rank: int, kernel: int, *, bias: bool, conv_bias: bool
) -> Named:
    """A Mamba mixer."""
    yield from parameter(f"{prefix}.A_log", inner, state)
    yield from parameter(f"{prefix}.D", inner)
    yield from depthwise(f"{prefix}.conv1d", inner, kernel, bias=conv_bias)
    yield from linear(f"{prefix}.in_proj", 2 * inner, hidden, bias=bias)
    yield from linear(f"{prefix}.x_proj", rank + 2 * state, inner)
    yield from linear(f"{prefix}.dt_proj", inner, rank, bias=True)
    yield from linear(f"{prefix}.out_proj", hidden, inner, bias=bias)


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
        yield from parameter(f"{prefix}.{name}", heads)
    yield from depthwise(f"{prefix}.conv1d", inner + 2 * states, kernel, bias=conv_bias)
    yield from linear(f"{prefix}.in_proj", 2 * inner + 2 * states + heads, hidden, bias=bias)
    if normed:
        yield from norm(f"{prefix}.norm", inner)
    yield from linear(f"{prefix}.out_proj", hidden, inner, bias=bias if output_bias is None else output_bias)


def time_step_rank(s: Settings, name: str) -> int:
    """Return the rank of the time step, which "auto" derives from the hidden size."""
    return -(-s.hidden // 16) if s.value(name) == "auto" else s.size(name)


def mixer(
    s: Settings, prefix: str, *, inner: int | None = None, output_bias: bool | None = None, normed: bool = True
) -> Named:
    """The Mamba-2 mixer of the configs that name its fields ``mamba_...``."""
    return mamba_2(
        prefix,
        s.hidden,
        inner or s.size("mamba_expand") * s.hidden,
        s.size("mamba_n_heads"),
        s.size("mamba_n_groups") * s.size("mamba_d_state"),
        s.size("mamba_d_conv"),
        bias=s.flag("mamba_proj_bias"),
        conv_bias=s.flag("mamba_conv_bias"),
        output_bias=output_bias,
        normed=normed,
    )
