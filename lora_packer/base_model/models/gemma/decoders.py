"""Gemma's decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import (
    MULTIMODAL,
    TRANSFORMERS_4,
    Architectures,
    declared,
)
from lora_packer.base_model.blocks.attention import QK_NORMS, attention, head_sizes, plain_attention
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    QUERY_VALUE,
    decoder,
    framed,
    stacked,
)
from lora_packer.base_model.blocks.layers import Block, chain, depthwise, embedding, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_AROUND_FEED_FORWARD = (*LAYER_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
_LAYER: Mapping[str, Block] = {"self_attn": plain_attention, "mlp": plain_mlp}
_gemma = decoder(_LAYER)


_gemma2 = decoder(_LAYER, _AROUND_FEED_FORWARD)


_gemma3_text = decoder({**_LAYER, **QK_NORMS}, _AROUND_FEED_FORWARD)


_vaultgemma = decoder(_LAYER, ("input_layernorm", "pre_feedforward_layernorm"))


def _recurrent_gemma(s: Settings) -> Named:
    """RecurrentGemma's decoder: gated linear recurrences, and attention where ``block_types`` says so."""
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    width, blocks = s.optional_size("lru_width") or s.hidden, s.names("block_types") or ("recurrent",)

    def layer(prefix: str, index: int) -> Named:
        path, intermediate = f"{prefix}.temporal_block", s.inner // 2
        if blocks[index % len(blocks)] == "recurrent":
            yield from linear(path, width, s.hidden, "linear_y", "linear_x", bias=True)
            yield from linear(f"{path}.linear_out", s.hidden, width, bias=True)
            yield from depthwise(f"{path}.conv_1d", width, s.size("conv1d_width"), bias=True)
            yield from parameter(f"{path}.rg_lru.recurrent_param", width)
            for gate in ("input_gate", "recurrent_gate"):
                yield from parameter(f"{path}.rg_lru.{gate}_weight", heads, width // heads, width // heads)
                yield from parameter(f"{path}.rg_lru.{gate}_bias", heads, width // heads)
        else:
            yield from attention(path, s.hidden, heads, kv_heads, head_dim, bias=bias, output_bias=True)
        yield from gated_mlp(f"{prefix}.mlp_block", s.hidden, intermediate, bias=True)

    return stacked(s, layer, norms=("temporal_pre_norm", "channel_pre_norm"), last_norm="final_norm")


def gemma3n(s: Settings, *, shares: bool = True) -> Named:
    """Gemma 3n's text decoder: several copies of the hidden state, and inputs for each layer.

    The last layers take over the keys and values of earlier ones; transformers 4 kept their own, unused
    (``shares`` is false).
    """
    copies = s.size("altup_num_inputs")
    per_layer, first_sharing = s.count("hidden_size_per_layer_input"), s.layers - s.count("num_kv_shared_layers")
    intermediate = _gemma3n_per_layer(s, "intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from _gemma3n_attention(s, f"{prefix}.self_attn", shares=shares and index >= first_sharing)
        yield from gated_mlp(f"{prefix}.mlp", s.hidden, intermediate(index))
        path = f"{prefix}.altup"
        yield from parameter(f"{path}.correct_output_scale", s.hidden)
        yield from linear(f"{path}.correction_coefs", copies, copies)
        yield from linear(f"{path}.prediction_coefs", copies**2, copies)
        yield from linear(f"{path}.modality_router", copies, s.hidden)
        yield from norm(f"{path}.router_norm", s.hidden)
        yield from chain(f"{prefix}.laurel", (s.hidden, s.size("laurel_rank"), s.hidden), "linear_left", "linear_right")
        yield from norm(f"{prefix}.laurel.post_laurel_norm", s.hidden)
        yield from linear(f"{prefix}.per_layer_input_gate", per_layer, s.hidden)
        yield from linear(f"{prefix}.per_layer_projection", s.hidden, per_layer)
        yield from norm(f"{prefix}.post_per_layer_input_norm", s.hidden)

    yield from stacked(s, layer, norms=NORMS_AROUND_BOTH)
    yield from embedding("embed_tokens_per_layer", s.size("vocab_size_per_layer_input"), s.layers * per_layer)
    yield from linear("per_layer_model_projection", s.layers * per_layer, s.hidden)
    yield from norm("per_layer_projection_norm", per_layer)
    for copy in range(copies - 1):
        yield from linear(f"altup_projections.{copy}", s.hidden, s.hidden)
        yield from linear(f"altup_unembed_projections.{copy}", s.hidden, s.hidden)


def _gemma3n_attention(s: Settings, prefix: str, *, shares: bool) -> Named:
    head_dim, taken_over = head_sizes(s)[2], ("k_proj", "v_proj")
    for path, module in plain_attention(s, prefix):
        if not (shares and path.endswith(taken_over)):
            yield path, module
    yield from norm(f"{prefix}.q_norm", head_dim)
    if not shares:
        yield from norm(f"{prefix}.k_norm", head_dim)


def _gemma3n_per_layer(s: Settings, name: str) -> Callable[[int], int]:
    """Return a size that may be one number or one for each layer; layers beyond the list have the last one's."""
    if not isinstance(s.value(name), list | tuple):
        size = s.size(name)
        return lambda _index: size
    listed = s.numbers(name) or (0,)
    return lambda index: listed[min(index, len(listed) - 1)]


_gemma3n_before_5 = partial(gemma3n, shares=False)

NORMS_AROUND_BOTH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


ARCHITECTURES: Architectures = {
    "gemma": declared(framed(_gemma), targets=QUERY_VALUE),
    "gemma2": declared(framed(_gemma2), targets=QUERY_VALUE),
    "gemma3_text": declared(framed(_gemma3_text), targets=QUERY_VALUE),
    "vaultgemma": declared(framed(_vaultgemma)),
    "recurrent_gemma": declared(framed(_recurrent_gemma)),
    "gemma3n_text": declared(
        framed(gemma3n),
        {
            TRANSFORMERS_4: framed(_gemma3n_before_5),
            # Gemma3nForCausalLM._checkpoint_conversion_mapping in transformers 4.57, which PEFT since 0.18 applies.
            MULTIMODAL: framed(_gemma3n_before_5, prefix="model.language_model."),
        },
    ),
}
