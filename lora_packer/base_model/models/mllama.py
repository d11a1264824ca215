"""Llama 3.2 Vision: some layers of the language model attend to the image."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4_51, Architecture
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, renamed, text_only, with_towers
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import stacked
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, norm
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.models.llama4 import visual_layer
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


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
        yield from visual_layer(f"transformer.layers.{index}", hidden, inner, bias=False)
    for index in range(s.size("num_global_layers")):
        path = f"global_transformer.layers.{index}"
        yield from visual_layer(path, hidden, inner, bias=False)
        yield f"{path}.gate_attn", Module("parameter", (1,))
        yield f"{path}.gate_ffn", Module("parameter", (1,))


def _mllama_beside(s: Settings, text: Settings) -> Named:
    vision, visual = _MLLAMA_VISION.of(s)
    yield from below("vision_model", visual(vision))
    yield linear("multi_modal_projector", text.size("hidden_size"), vision.size("vision_output_dim"), bias=True)


_CROSS_ATTENTION = frozenset({3, 8, 13, 18, 23, 28, 33, 38})
_MLLAMA_TEXT = fixed("text_config", Tower("mllama_text_model", _mllama_text))
_MLLAMA_VISION = fixed("vision_config", Tower("mllama_vision_model", _mllama_visual))
_MLLAMA = with_towers(_MLLAMA_TEXT, _mllama_beside)
_MLLAMA_BEFORE_4_52 = renamed(
    _MLLAMA, ("model.language_model.", "language_model.model."), ("lm_head", "language_model.lm_head"), ("model.", "")
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "mllama": composite(_MLLAMA, {TEXT_ONLY: text_only(_MLLAMA_TEXT), TRANSFORMERS_4_51: _MLLAMA_BEFORE_4_52})
}
