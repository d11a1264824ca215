"""Llama 3.2 Vision: some layers of the language model attend to the image."""

from __future__ import annotations

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4_51, Architectures
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, head_inside, text_only, with_towers
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import stacked
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.models.llama4 import visual_layer
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _mllama_text(s: Settings) -> Named:
    """The language model, some of whose layers attend to the image instead of the text."""
    kv_heads, head_dim = s.size("num_key_value_heads"), s.hidden // s.heads
    crossing = s.filled("cross_attention_layers").indices("cross_attention_layers")

    def layer(prefix: str, index: int) -> Named:
        crosses = index in crossing
        path = f"{prefix}.cross_attn" if crosses else f"{prefix}.self_attn"
        yield from attention(path, s.hidden, s.heads, kv_heads, head_dim)
        if crosses:
            yield from norm(path, head_dim, "q_norm", "k_norm")
            yield from parameter(f"{prefix}.cross_attn_attn_gate", 1)
            yield from parameter(f"{prefix}.cross_attn_mlp_gate", 1)
        yield from plain_mlp(s, f"{prefix}.mlp")

    for path, module in stacked(s, layer):
        # Eight more rows than the head: the image token is never predicted.
        yield path, Module("embedding", (s.vocab + 8, s.hidden)) if path == "embed_tokens" else module


def _mllama_visual(s: Settings) -> Named:
    tiles, positions = s.size("max_num_tiles"), patches(s) + 1
    ids = 1 + s.filled("supported_aspect_ratios").length("supported_aspect_ratios")
    yield from parameter("class_embedding", s.hidden)
    patch = s.size("patch_size")
    yield from conv("patch_embedding", (s.hidden, s.size("num_channels"), patch, patch), bias=False)
    yield from parameter("gated_positional_embedding.gate", 1)
    yield from parameter("gated_positional_embedding.embedding", positions, s.hidden)
    yield from embedding("gated_positional_embedding.tile_embedding", ids, tiles * positions * s.hidden)
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        yield from parameter(f"{name}.gate", 1)
        yield from embedding(f"{name}.embedding", ids, tiles * s.hidden)
    yield from layer_norm("layernorm_pre", s.hidden)
    yield from layer_norm("layernorm_post", s.hidden)
    for index in range(s.layers):
        yield from visual_layer(f"transformer.layers.{index}", s.hidden, s.inner, bias=False)
    for index in range(s.size("num_global_layers")):
        path = f"global_transformer.layers.{index}"
        yield from visual_layer(path, s.hidden, s.inner, bias=False)
        yield from parameter(f"{path}.gate_attn", 1)
        yield from parameter(f"{path}.gate_ffn", 1)


def _mllama_beside(s: Settings, text: Settings) -> Named:
    vision, visual = _MLLAMA_VISION.of(s)
    yield from below("vision_model", visual(vision))
    yield from linear("multi_modal_projector", text.hidden, vision.size("vision_output_dim"), bias=True)


_MLLAMA_TEXT = fixed("text_config", Tower("mllama_text_model", _mllama_text))
_MLLAMA_VISION = fixed("vision_config", Tower("mllama_vision_model", _mllama_visual))
_MLLAMA = with_towers(_MLLAMA_TEXT, _mllama_beside)

ARCHITECTURES: Architectures = {
    "mllama": composite(_MLLAMA, {TEXT_ONLY: text_only(_MLLAMA_TEXT), TRANSFORMERS_4_51: head_inside(_MLLAMA)})
}
