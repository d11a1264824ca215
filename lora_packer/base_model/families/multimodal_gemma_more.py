"""Gemma's models beside Gemma 3 and 4 themselves: the unified one, which has no towers, and the diffusion one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_5, Architecture, Head
from lora_packer.base_model.blocks import Named, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import sizes
from lora_packer.base_model.families.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    head_of_text,
    text_only,
    with_towers,
)
from lora_packer.base_model.families.multimodal_gemma import ARCHITECTURES as GEMMA_4
from lora_packer.base_model.families.multimodal_gemma import GEMMA4_VISION
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _unified(s: Settings, text: Settings) -> Named:
    """Patches and samples are projected straight to the language model's width, where the config has their part."""
    hidden = text.size("hidden_size")
    if s.value("vision_config") is not None:
        vision, _ = _VISION_PART.of(s)
        pixels = 3 * (vision.size("patch_size") * vision.size("pooling_kernel_size")) ** 2
        width = vision.size("mm_embed_dim")
        yield from layer_norm("embed_vision.patch_ln1", pixels)
        yield linear("embed_vision.patch_dense", width, pixels, bias=True)
        yield from layer_norm("embed_vision.patch_ln2", width)
        yield "embed_vision.pos_embedding", Module("parameter", (vision.size("mm_posemb_size"), 2, width))
        yield from layer_norm("embed_vision.pos_norm", width)
        path = "embed_vision.multimodal_embedder.embedding_projection"
        yield linear(path, hidden, vision.size("output_proj_dims"))
    if s.value("audio_config") is not None:
        audio, _ = _AUDIO_PART.of(s)
        yield linear("embed_audio.embedding_projection", hidden, audio.size("audio_embed_dim"))


def _diffusion_text(s: Settings) -> Named:
    """Gemma 4's decoder with experts in every layer, where full attention has no values of its own."""
    plain = s.with_fields(
        hidden_size_per_layer_input=0, num_kv_shared_layers=0, enable_moe_block=True, attention_k_eq_v=True
    )
    return GEMMA_4["gemma4_text"].dialects[TRANSFORMERS_5](plain, "none")


def _diffusion(s: Settings, head: Head) -> Named:
    """An encoder that sees, and a decoder of the same shape that is fed its own last guess."""
    before = "" if head == "none" else "model."
    (text, decoder), (vision, visual) = _DIFFUSION_TEXT.of(s), GEMMA4_VISION.of(s)
    hidden, inner = text.size("hidden_size"), text.size("intermediate_size")
    yield from below(f"{before}encoder.language_model", decoder(text))
    yield from below(f"{before}encoder.vision_tower", visual(vision))
    yield linear(f"{before}encoder.embed_vision.embedding_projection", hidden, vision.size("hidden_size"))
    yield from below(f"{before}decoder", decoder(text))
    yield norm(f"{before}decoder.self_conditioning.pre_norm", hidden)
    yield from gated_mlp(f"{before}decoder.self_conditioning", hidden, inner)
    yield from head_of_text(s, text, head)


_VISION: dict[str, Any] = {
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "mm_embed_dim": 3840,
    "mm_posemb_size": 1120,
    "output_proj_dims": 3840,
}
_VISION_PART = fixed("vision_config", Tower(_VISION, lambda _: iter(())))
_AUDIO_PART = fixed("audio_config", Tower({"audio_embed_dim": 640}, lambda _: iter(())))
_TEXT = Part("text_config", "gemma4_unified_text")
_DIFFUSION = sizes(262144, 2304, 9216, 30, 8, 4, head_dim=256, global_head_dim=512)
_DIFFUSION_TEXT = fixed("text_config", Tower(_DIFFUSION, _diffusion_text))

ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma4_unified": composite({}, with_towers(_TEXT, _unified), {TEXT_ONLY: text_only(_TEXT)}),
    "diffusion_gemma": composite({}, _diffusion),
}
