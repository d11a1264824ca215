"""Gemma's decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, Head, declared
from lora_packer.base_model.blocks.attention import attention, head_sizes, plain_attention
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import (
    QUERY_VALUE,
    dense,
    fields_by_layer,
    framed,
    layer_kinds,
    llama_like,
    stacked,
)
from lora_packer.base_model.blocks.layers import depthwise, embedding, linear, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _gemma(s: Settings) -> Named:
    bias = s.flag("attention_bias")
    return dense(s, bias=bias, output_bias=bias)


def _gemma2(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _gemma3_text(s: Settings) -> Named:
    bias, hidden, head_dim = s.flag("attention_bias"), s.size("hidden_size"), s.size("head_dim")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    norms |= {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _vaultgemma(s: Settings) -> Named:
    return llama_like(s, ("input_layernorm", "pre_feedforward_layernorm"))


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


def _gemma4_unified(s: Settings, head: Head) -> Named:
    """Gemma 4's decoder without experts and without inputs for each layer."""
    plain = s.with_fields(hidden_size_per_layer_input=0, enable_moe_block=False)
    return GEMMA4_TEXT.dialects[TRANSFORMERS_5](plain, head)


def gemma3n(s: Settings, *, shares: bool = True) -> Named:
    """Gemma 3n's text decoder: several copies of the hidden state, and inputs for each layer.

    The last layers take over the keys and values of earlier ones; transformers 4 kept their own, unused
    (``shares`` is false).
    """
    hidden, layers, copies = s.size("hidden_size"), s.size("num_hidden_layers"), s.size("altup_num_inputs")
    per_layer, first_sharing = s.count("hidden_size_per_layer_input"), layers - s.count("num_kv_shared_layers")
    intermediate = _gemma3n_per_layer(s, "intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from _gemma3n_attention(s, f"{prefix}.self_attn", shares=shares and index >= first_sharing)
        yield from gated_mlp(f"{prefix}.mlp", hidden, intermediate(index))
        path = f"{prefix}.altup"
        yield f"{path}.correct_output_scale", Module("parameter", (hidden,))
        yield linear(f"{path}.correction_coefs", copies, copies)
        yield linear(f"{path}.prediction_coefs", copies**2, copies)
        yield linear(f"{path}.modality_router", copies, hidden)
        yield norm(f"{path}.router_norm", hidden)
        yield linear(f"{prefix}.laurel.linear_left", s.size("laurel_rank"), hidden)
        yield linear(f"{prefix}.laurel.linear_right", hidden, s.size("laurel_rank"))
        yield norm(f"{prefix}.laurel.post_laurel_norm", hidden)
        yield linear(f"{prefix}.per_layer_input_gate", per_layer, hidden)
        yield linear(f"{prefix}.per_layer_projection", hidden, per_layer)
        yield norm(f"{prefix}.post_per_layer_input_norm", hidden)

    yield from stacked(s, layer, norms=NORMS_AROUND_BOTH)
    yield embedding("embed_tokens_per_layer", s.size("vocab_size_per_layer_input"), layers * per_layer)
    yield linear("per_layer_model_projection", layers * per_layer, hidden)
    yield norm("per_layer_projection_norm", per_layer)
    for copy in range(copies - 1):
        yield linear(f"altup_projections.{copy}", hidden, hidden)
        yield linear(f"altup_unembed_projections.{copy}", hidden, hidden)


def _gemma3n_attention(s: Settings, prefix: str, *, shares: bool) -> Named:
    head_dim, taken_over = head_sizes(s)[2], ("k_proj", "v_proj")
    for path, module in plain_attention(s, prefix):
        if not (shares and path.endswith(taken_over)):
            yield path, module
    yield norm(f"{prefix}.q_norm", head_dim)
    if not shares:
        yield norm(f"{prefix}.k_norm", head_dim)


def _gemma3n_per_layer(s: Settings, name: str) -> Callable[[int], int]:
    """Return a size that may be one number or one for each layer; layers beyond the list have the last one's."""
    if not isinstance(s.value(name), list | tuple):
        size = s.size(name)
        return lambda _index: size
    listed = s.numbers(name) or (0,)
    return lambda index: listed[min(index, len(listed) - 1)]


NORMS_AROUND_BOTH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def _gemma4_attends(s: Settings) -> Callable[[int], str]:
    """Every sixth layer has full attention, unless the config says otherwise; the last one always has."""
    derived = layer_kinds(
        s.names("layer_types"), lambda index: "sliding_attention" if (index + 1) % 6 else "full_attention"
    )
    last = s.size("num_hidden_layers") - 1
    return lambda index: "full_attention" if index == last else derived(index)


def _gemma4_of_layer(s: Settings, saved: Mapping[str, Any] | None, *, full: bool) -> Settings:
    """The config as one layer sees it: by the fields saved for it, or as layers of full attention have other heads."""
    mine: Mapping[str, Any]
    if saved is not None:
        mine = saved
    elif full:
        mine = {"head_dim": s.size("global_head_dim")}
        kv_heads = s.optional_size("num_global_key_value_heads")
        if s.flag("attention_k_eq_v") and kv_heads is not None:
            mine["num_key_value_heads"] = kv_heads
    else:
        mine = {}
    return s.with_fields(**mine)


def _gemma4_attention(s: Settings, path: str, *, shares: bool, values: bool) -> Named:
    """Attention; a layer that shares the keys of an earlier one has none of its own."""
    bias, hidden, head_dim = s.flag("attention_bias"), s.size("hidden_size"), s.size("head_dim")
    queries, keys = s.size("num_attention_heads") * head_dim, s.size("num_key_value_heads") * head_dim
    yield linear(f"{path}.q_proj", queries, hidden, bias=bias)
    yield norm(f"{path}.q_norm", head_dim)
    if not shares:
        yield linear(f"{path}.k_proj", keys, hidden, bias=bias)
        yield norm(f"{path}.k_norm", head_dim)
        if values:
            yield linear(f"{path}.v_proj", keys, hidden, bias=bias)
    yield linear(f"{path}.o_proj", hidden, queries, bias=bias)


def _gemma4_experts(s: Settings, path: str) -> Named:
    hidden, inner, experts = s.size("hidden_size"), s.size("moe_intermediate_size"), s.size("num_experts")
    yield linear(f"{path}.router.proj", experts, hidden)
    yield f"{path}.router.scale", Module("parameter", (hidden,))
    yield f"{path}.router.per_expert_scale", Module("parameter", (experts,))
    yield f"{path}.experts.gate_up_proj", Module("parameter", (experts, 2 * inner, hidden))
    yield f"{path}.experts.down_proj", Module("parameter", (experts, hidden, inner))
    for name in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"):
        yield norm(f"{path}.{name}", hidden)


def _gemma4_text(s: Settings) -> Named:
    hidden, layers = s.size("hidden_size"), s.size("num_hidden_layers")
    per_layer = s.count("hidden_size_per_layer_input")
    first_sharing = layers - s.count("num_kv_shared_layers")
    attends, by_layer = _gemma4_attends(s), fields_by_layer(s)

    def layer(prefix: str, index: int) -> Named:
        full, shares = attends(index) == "full_attention", index >= first_sharing
        values = not (s.flag("attention_k_eq_v") and full)
        own = _gemma4_of_layer(s, None if by_layer is None else by_layer.get(index, {}), full=full)
        yield from _gemma4_attention(own, f"{prefix}.self_attn", shares=shares, values=values)
        widening = 2 if s.flag("use_double_wide_mlp") and shares else 1
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size") * widening)
        if per_layer:
            yield linear(f"{prefix}.per_layer_input_gate", per_layer, hidden)
            yield linear(f"{prefix}.per_layer_projection", hidden, per_layer)
            yield norm(f"{prefix}.post_per_layer_input_norm", hidden)
        if s.flag("enable_moe_block"):
            yield from _gemma4_experts(s, prefix)

    yield from stacked(s, layer, norms=NORMS_AROUND_BOTH)
    if per_layer:
        rows = s.size("vocab_size_per_layer_input")
        yield "embed_tokens_per_layer", Module("embedding", (rows, layers * per_layer))
        yield linear("per_layer_model_projection", layers * per_layer, hidden)
        yield norm("per_layer_projection_norm", per_layer)


GEMMA4_TEXT = declared(framed(_gemma4_text))

ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma": declared(framed(_gemma), targets=QUERY_VALUE),
    "gemma2": declared(framed(_gemma2), targets=QUERY_VALUE),
    "gemma3_text": declared(framed(_gemma3_text), targets=QUERY_VALUE),
    "vaultgemma": declared(framed(_vaultgemma)),
    "recurrent_gemma": declared(framed(_recurrent_gemma)),
    "gemma3n_text": declared(framed(gemma3n), {TRANSFORMERS_4: framed(partial(gemma3n, shares=False))}),
    "gemma4_unified_text": declared(_gemma4_unified),
    "gemma4_text": GEMMA4_TEXT,
}
