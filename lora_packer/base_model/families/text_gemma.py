"""Gemma's language models beside Gemma 4 itself: Gemma 3n and the unified Gemma 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, Head, framed
from lora_packer.base_model.blocks import Named, embedding, gated_mlp, linear, norm
from lora_packer.base_model.families.common import grouped_attention, head_sizes, sizes, stacked
from lora_packer.base_model.families.multimodal_gemma import ARCHITECTURES as GEMMA_4
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _gemma4_unified(s: Settings, head: Head) -> Named:
    """Gemma 4's decoder without experts and without inputs for each layer."""
    plain = s.with_fields(hidden_size_per_layer_input=0, enable_moe_block=False)
    return GEMMA_4["gemma4_text"].dialects[TRANSFORMERS_5](plain, head)


def gemma3n(s: Settings, *, shares: bool = True) -> Named:
    """Gemma 3n's text decoder: several copies of the hidden state, and inputs for each layer.

    The last layers take over the keys and values of earlier ones; transformers 4 kept their own, unused
    (``shares`` is false).
    """
    hidden, layers, copies = s.size("hidden_size"), s.size("num_hidden_layers"), s.size("altup_num_inputs")
    per_layer, first_sharing = s.count("hidden_size_per_layer_input"), layers - s.count("num_kv_shared_layers")
    intermediate = _per_layer(s, "intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn", shares=shares and index >= first_sharing)
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

    yield from stacked(s, layer, norms=_NORMS)
    yield embedding("embed_tokens_per_layer", s.size("vocab_size_per_layer_input"), layers * per_layer)
    yield linear("per_layer_model_projection", layers * per_layer, hidden)
    yield norm("per_layer_projection_norm", per_layer)
    for copy in range(copies - 1):
        yield linear(f"altup_projections.{copy}", hidden, hidden)
        yield linear(f"altup_unembed_projections.{copy}", hidden, hidden)


def _attention(s: Settings, prefix: str, *, shares: bool) -> Named:
    bias, head_dim, taken_over = s.flag("attention_bias"), head_sizes(s)[2], ("k_proj", "v_proj")
    for path, module in grouped_attention(s, prefix, bias=bias, output_bias=bias):
        if not (shares and path.endswith(taken_over)):
            yield path, module
    yield norm(f"{prefix}.q_norm", head_dim)
    if not shares:
        yield norm(f"{prefix}.k_norm", head_dim)


def _per_layer(s: Settings, name: str) -> Callable[[int], int]:
    """Return a size that may be one number or one for each layer; layers beyond the list have the last one's."""
    if not isinstance(s.value(name), list | tuple):
        size = s.size(name)
        return lambda _index: size
    listed = s.numbers(name) or (0,)
    return lambda index: listed[min(index, len(listed) - 1)]


_GEMMA_3N = sizes(
    262400,
    2048,
    16384,
    35,
    8,
    2,
    head_dim=256,
    vocab_size_per_layer_input=262144,
    hidden_size_per_layer_input=256,
    altup_num_inputs=4,
    num_kv_shared_layers=15,
    laurel_rank=64,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma3n_text": Architecture(
        _GEMMA_3N, {TRANSFORMERS_5: framed(gemma3n), TRANSFORMERS_4: framed(partial(gemma3n, shares=False))}, ()
    ),
    "gemma4_unified_text": Architecture(
        sizes(262144, 2304, 9216, 30, 8, 4, head_dim=256, global_head_dim=512), {TRANSFORMERS_5: _gemma4_unified}, ()
    ),
}
