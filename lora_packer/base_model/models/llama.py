"""Llama: the decoder, Llama 4, and the models of both generations that see."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_4_51,
    Architecture,
    Head,
    declared,
)
from lora_packer.base_model.blocks.attention import attention, plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, renamed, text_only, with_towers
from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import QUERY_VALUE, TRANSFORMER, framed, plain_decoder, stacked
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, norm
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _llama4_text(s: Settings) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    sparse = _moe_layers(s)

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        path = f"{prefix}.feed_forward"
        if index not in sparse:
            yield from gated_mlp(path, hidden, s.size("intermediate_size_mlp"))
            return
        experts = s.size("num_local_experts")
        yield linear(f"{path}.router", experts, hidden)
        yield f"{path}.experts.gate_up_proj", Module("parameter", (experts, hidden, 2 * intermediate))
        yield f"{path}.experts.down_proj", Module("parameter", (experts, intermediate, hidden))
        yield from gated_mlp(f"{path}.shared_expert", hidden, intermediate)

    return stacked(s, layer)


def _moe_layers(s: Settings) -> frozenset[int]:
    if s.value("moe_layers") is not None:
        return s.indices("moe_layers")
    step = s.size("interleave_moe_layer_step")
    return frozenset(range(step - 1, s.size("num_hidden_layers"), step))


def _llama4_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    height, width = s.pair("patch_size")
    yield "class_embedding", Module("parameter", (hidden,))
    yield "positional_embedding_vlm", Module("parameter", (patches(s) + 1, hidden))
    yield linear("patch_embedding.linear", hidden, s.size("num_channels") * height * width)
    yield from layer_norm("layernorm_pre", hidden)
    yield from layer_norm("layernorm_post", hidden)
    for index in range(s.size("num_hidden_layers")):
        yield from _visual_layer(f"model.layers.{index}", hidden, inner, bias=True)
    yield linear("vision_adapter.mlp.fc1", s.size("projector_input_dim"), inner)
    yield linear("vision_adapter.mlp.fc2", s.size("projector_output_dim"), s.size("projector_output_dim"))


def _visual_layer(path: str, hidden: int, inner: int, *, bias: bool) -> Named:
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield linear(f"{path}.self_attn.{name}", hidden, hidden, bias=bias)
    yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
    yield from layer_norm(f"{path}.input_layernorm", hidden)
    yield from layer_norm(f"{path}.post_attention_layernorm", hidden)


def _llama4(s: Settings, _head: Head) -> Named:
    """The class with the vision tower, which stands for the bare model too; its head is the language model's."""
    vision, visual = _LLAMA4_VISION.of(s)
    text, _ = _LLAMA4_TEXT.of(s)
    yield from below("vision_model", visual(vision))
    yield linear("multi_modal_projector.linear_1", text.size("hidden_size"), vision.size("vision_output_dim"))
    yield from below("language_model", framed(_llama4_text)(text, "causal-lm"))


def _mllama_text(s: Settings) -> Named:
    """The language model, some of whose layers attend to the image instead of the text."""
    hidden, inner, heads = s.size("hidden_size"), s.size("intermediate_size"), s.size("num_attention_heads")
    kv_heads, head_dim = s.size("num_key_value_heads"), hidden // heads
    crossing = _CROSS_ATTENTION if s.value("cross_attention_layers") is None else s.indices("cross_attention_layers")

    def layer(prefix: str, index: int) -> Named:
        crosses = index in crossing
        path = f"{prefix}.cross_attn" if crosses else f"{prefix}.self_attn"
        yield from attention(path, hidden, heads, kv_heads, head_dim)
        if crosses:
            yield norm(f"{path}.q_norm", head_dim)
            yield norm(f"{path}.k_norm", head_dim)
            yield f"{prefix}.cross_attn_attn_gate", Module("parameter", (1,))
            yield f"{prefix}.cross_attn_mlp_gate", Module("parameter", (1,))
        yield from gated_mlp(f"{prefix}.mlp", hidden, inner)

    for path, module in stacked(s, layer):
        # Eight more rows than the head: the image token is never predicted.
        yield path, Module("embedding", (s.size("vocab_size") + 8, hidden)) if path == "embed_tokens" else module


def _mllama_visual(s: Settings) -> Named:
    hidden, tiles, positions = s.size("hidden_size"), s.size("max_num_tiles"), patches(s) + 1
    ratios = s.value("supported_aspect_ratios")
    ids = 1 + (len(ratios) if isinstance(ratios, list | tuple) else 8)
    yield "class_embedding", Module("parameter", (hidden,))
    patch = s.size("patch_size")
    yield conv("patch_embedding", (hidden, s.size("num_channels"), patch, patch), bias=False)
    yield "gated_positional_embedding.gate", Module("parameter", (1,))
    yield "gated_positional_embedding.embedding", Module("parameter", (positions, hidden))
    yield "gated_positional_embedding.tile_embedding", Module("embedding", (ids, tiles * positions * hidden))
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        yield f"{name}.gate", Module("parameter", (1,))
        yield f"{name}.embedding", Module("embedding", (ids, tiles * hidden))
    yield from layer_norm("layernorm_pre", hidden)
    yield from layer_norm("layernorm_post", hidden)
    inner = s.size("intermediate_size")
    for index in range(s.size("num_hidden_layers")):
        yield from _visual_layer(f"transformer.layers.{index}", hidden, inner, bias=False)
    for index in range(s.size("num_global_layers")):
        path = f"global_transformer.layers.{index}"
        yield from _visual_layer(path, hidden, inner, bias=False)
        yield f"{path}.gate_attn", Module("parameter", (1,))
        yield f"{path}.gate_ffn", Module("parameter", (1,))


def _mllama_beside(s: Settings, text: Settings) -> Named:
    vision, visual = _MLLAMA_VISION.of(s)
    yield from below("vision_model", visual(vision))
    yield linear("multi_modal_projector", text.size("hidden_size"), vision.size("vision_output_dim"), bias=True)


_CROSS_ATTENTION = frozenset({3, 8, 13, 18, 23, 28, 33, 38})
_LLAMA4_TEXT = fixed("text_config", Tower("llama4_text", _llama4_text))
_LLAMA4_VISION = fixed("vision_config", Tower("llama4_vision_model", _llama4_visual))
_MLLAMA_TEXT = fixed("text_config", Tower("mllama_text_model", _mllama_text))
_MLLAMA_VISION = fixed("vision_config", Tower("mllama_vision_model", _mllama_visual))
_MLLAMA = with_towers(_MLLAMA_TEXT, _mllama_beside)
_MLLAMA_BEFORE_4_52 = renamed(
    _MLLAMA,
    ("model.language_model.", "language_model.model."),
    ("lm_head", "language_model.lm_head"),
    ("model.", ""),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": declared(
        framed(plain_decoder, answering_prefix=TRANSFORMER),
        targets=QUERY_VALUE,
    ),
    "llama4": composite(_llama4, {TEXT_ONLY: text_only(_LLAMA4_TEXT)}, targets=("q_proj", "v_proj")),
    "llama4_text": declared(framed(_llama4_text)),
    "mllama": composite(_MLLAMA, {TEXT_ONLY: text_only(_MLLAMA_TEXT), TRANSFORMERS_4_51: _MLLAMA_BEFORE_4_52}),
}
