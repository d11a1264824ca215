"""Decoders that alternate attention with lightning attention, short convolutions or a gated recurrence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, attention, fused_experts, gated_mlp, linear, norm
from lora_packer.base_model.families.common import (
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import (
    Experts,
    number_of_experts,
    numbered_experts,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def depthwise(path: str, channels: int, kernel: int, *, bias: bool = False) -> tuple[str, Module]:
    """Return a torch.nn.Conv1d with one filter for each channel."""
    return path, Module("conv", (channels, 1, kernel), bias)


def _minimax(s: Settings, *, experts: Experts = fused_experts, block: str = "mlp") -> Named:
    """MiniMax-01's decoder: lightning attention on every other layer."""
    hidden, (heads, _, head_dim) = s.size("hidden_size"), head_sizes(s)
    count = number_of_experts(s, "num_local_experts", "num_experts")
    kind = layer_kinds(s.names("layer_types"), lambda index: "linear_attention" if index % 2 else "full_attention")

    def layer(prefix: str, index: int) -> Named:
        path, width = f"{prefix}.self_attn", heads * head_dim
        if kind(index) == "linear_attention":
            yield norm(f"{path}.norm", width)
            yield linear(f"{path}.qkv_proj", 3 * width, hidden)
            yield linear(f"{path}.out_proj", hidden, width)
            yield linear(f"{path}.output_gate", width, hidden)
        else:
            yield from grouped_attention(s, path)
        yield from experts(f"{prefix}.{block}", hidden, s.size("intermediate_size"), count)

    return stacked(s, layer)


def _lfm2(s: Settings) -> Named:
    width = s.value("block_ff_dim")
    width = s.size("intermediate_size") if width is None else s.size("block_ff_dim")
    if s.flag("block_auto_adjust_ff_dim"):
        width = 2 * width // 3
        if s.value("block_ffn_dim_multiplier") is not None:
            width = int(s.ratio("block_ffn_dim_multiplier") * width)
        multiple = s.size("block_multiple_of")
        width = multiple * -(-width // multiple)
    full = s.indices("full_attn_idxs") if s.value("full_attn_idxs") is not None else None

    def derived(index: int) -> str:
        return "full_attention" if full is None or index in full else "conv"

    return _short_convolutions(s, derived, lambda prefix, _index: numbered_mlp(s, prefix, width))


def _lfm2_moe(s: Settings) -> Named:
    def feed_forward(prefix: str, index: int) -> Named:
        if index < s.count("num_dense_layers"):
            return numbered_mlp(s, prefix, s.size("intermediate_size"))
        return fused_experts(prefix, s.size("hidden_size"), s.size("moe_intermediate_size"), s.size("num_experts"))

    return _short_convolutions(s, lambda _index: "conv", feed_forward)


def numbered_mlp(s: Settings, prefix: str, intermediate: int) -> Named:
    """The gated feed-forward block with the names w1 (gate), w3 (up) and w2 (down)."""
    yield linear(f"{prefix}.w1", intermediate, s.size("hidden_size"))
    yield linear(f"{prefix}.w3", intermediate, s.size("hidden_size"))
    yield linear(f"{prefix}.w2", s.size("hidden_size"), intermediate)


def _short_convolutions(s: Settings, derived: Callable[[int], str], feed_forward: Callable[[str, int], Named]) -> Named:
    """LFM2's decoder: gated short convolutions and grouped-query attention."""
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("conv_bias")
    kind = layer_kinds(s.names("layer_types"), derived)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "full_attention":
            path = f"{prefix}.self_attn"
            yield linear(f"{path}.q_proj", heads * head_dim, hidden)
            yield linear(f"{path}.k_proj", kv_heads * head_dim, hidden)
            yield linear(f"{path}.v_proj", kv_heads * head_dim, hidden)
            yield linear(f"{path}.out_proj", hidden, heads * head_dim)
            yield from qk_norms(path, head_dim, head_dim, ("q_layernorm", "k_layernorm"))
        else:
            yield depthwise(f"{prefix}.conv.conv", hidden, s.size("conv_L_cache"), bias=bias)
            yield linear(f"{prefix}.conv.in_proj", 3 * hidden, hidden, bias=bias)
            yield linear(f"{prefix}.conv.out_proj", hidden, hidden, bias=bias)
        yield from feed_forward(f"{prefix}.feed_forward", index)

    return stacked(s, layer, norms=("operator_norm", "ffn_norm"), last_norm="embedding_norm")


def _recurrent_gemma(s: Settings) -> Named:
    """RecurrentGemma's decoder: gated linear recurrences, and attention where ``block_types`` says so."""
    hidden, (heads, kv_heads, head_dim), bias = s.size("hidden_size"), head_sizes(s), s.flag("attention_bias")
    width, blocks = s.optional_size("lru_width") or hidden, s.names("block_types") or ("recurrent",)

    def layer(prefix: str, index: int) -> Named:
        path, intermediate = f"{prefix}.temporal_block", s.size("intermediate_size") // 2
        if blocks[index % len(blocks)] == "recurrent":
            yield linear(f"{path}.linear_y", width, hidden, bias=True)
            yield linear(f"{path}.linear_x", width, hidden, bias=True)
            yield linear(f"{path}.linear_out", hidden, width, bias=True)
            yield depthwise(f"{path}.conv_1d", width, s.size("conv1d_width"), bias=True)
            yield f"{path}.rg_lru.recurrent_param", Module("parameter", (width,))
            for gate in ("input_gate", "recurrent_gate"):
                yield f"{path}.rg_lru.{gate}_weight", Module("parameter", (heads, width // heads, width // heads))
                yield f"{path}.rg_lru.{gate}_bias", Module("parameter", (heads, width // heads))
        else:
            yield from attention(path, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=True)
        yield from gated_mlp(f"{prefix}.mlp_block", hidden, intermediate, bias=True)

    return stacked(s, layer, norms=("temporal_pre_norm", "channel_pre_norm"), last_norm="final_norm")


ARCHITECTURES: Mapping[str, Architecture] = {
    "minimax": Architecture(
        sizes(32000, 4096, 14336, 32, 32, 8, num_local_experts=8),
        {
            TRANSFORMERS_5: framed(_minimax),
            TRANSFORMERS_4: framed(partial(_minimax, experts=numbered_experts, block="block_sparse_moe")),
        },
        (),
    ),
    "lfm2": Architecture(
        sizes(
            65536,
            2560,
            12288,
            32,
            32,
            8,
            conv_L_cache=3,
            block_multiple_of=256,
            block_ffn_dim_multiplier=1.0,
            block_auto_adjust_ff_dim=True,
        ),
        {TRANSFORMERS_5: framed(_lfm2)},
        (),
    ),
    "lfm2_moe": Architecture(
        sizes(
            65536,
            2048,
            7168,
            32,
            32,
            8,
            conv_L_cache=3,
            moe_intermediate_size=1792,
            num_experts=32,
            num_dense_layers=2,
        ),
        {TRANSFORMERS_5: framed(_lfm2_moe)},
        (),
    ),
    "recurrent_gemma": Architecture(
        sizes(256000, 2560, 7680, 26, 10, None, conv1d_width=4, block_types=("recurrent", "recurrent", "attention")),
        {TRANSFORMERS_5: framed(_recurrent_gemma)},
        (),
    ),
}
