"""Older models that see: IDEFICS, KOSMOS-2 and 2.5, BLIP and GIT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head, framed, head_modules
from lora_packer.base_model.blocks import Named, attention, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import decoder, sizes
from lora_packer.base_model.families.composite import Tower, below, composite, fixed
from lora_packer.base_model.families.multimodal_qformer import bert_mlp, blip_visual
from lora_packer.base_model.families.vision import TOWERS, tower_sizes
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

_clip = TOWERS["clip_vision_model"].modules


def _idefics(s: Settings) -> Named:
    """A Llama, and between its layers those that attend to the image."""
    hidden, heads, inner = s.size("hidden_size"), s.size("num_attention_heads"), s.size("intermediate_size")
    head_dim, more = hidden // heads, s.count("additional_vocab_size")
    vision, visual = _IDEFICS_VISION_PART.of(s)
    seen = vision.size("embed_dim")

    def layer(prefix: str) -> Named:
        yield from attention(f"{prefix}.self_attn", hidden, heads, heads, head_dim)
        yield from gated_mlp(f"{prefix}.mlp", hidden, inner)

    yield from decoder(s, layer)
    if more:
        yield embedding("embed_tokens.additional_embedding", more, hidden)
    yield from below("vision_model", visual(vision))
    if s.flag("use_resampler"):
        yield from below("perceiver_resampler", _idefics_resampler(s, seen))
    for index in range(s.size("num_hidden_layers") // s.size("cross_layer_interval")):
        path = f"gated_cross_attn_layers.{index}"
        yield linear(f"{path}.cross_attn.q_proj", heads * head_dim, hidden)
        yield linear(f"{path}.cross_attn.k_proj", heads * head_dim, seen)
        yield linear(f"{path}.cross_attn.v_proj", heads * head_dim, seen)
        yield linear(f"{path}.cross_attn.o_proj", hidden, heads * head_dim)
        if s.flag("qk_layer_norms"):
            yield norm(f"{path}.cross_attn.q_layer_norm", head_dim)
            yield norm(f"{path}.cross_attn.k_layer_norm", head_dim)
        yield from gated_mlp(f"{path}.mlp", hidden, inner)
        yield norm(f"{path}.input_layernorm", hidden)
        yield norm(f"{path}.post_attention_layernorm", hidden)
        gate = (1, 1, hidden) if s.value("alpha_type") == "vector" else (1,)
        yield f"{path}.alpha_cross_attn", Module("parameter", gate)
        yield f"{path}.alpha_dense", Module("parameter", gate)


def _idefics_resampler(s: Settings, width: int) -> Named:
    reader, _ = _IDEFICS_READER.of(s)
    heads, head_dim = reader.size("resampler_n_heads"), reader.size("resampler_head_dim")
    yield "latents", Module("parameter", (reader.size("resampler_n_latents"), width))
    for index in range(reader.size("resampler_depth")):
        path = f"blocks.{index}"
        yield from layer_norm(f"{path}.0.context_layer_norm", width)
        yield from layer_norm(f"{path}.0.latents_layer_norm", width)
        if reader.flag("qk_layer_norms_perceiver"):
            yield from layer_norm(f"{path}.0.q_layer_norm", head_dim)
            yield from layer_norm(f"{path}.0.k_layer_norm", head_dim)
        for name in ("q_proj", "k_proj", "v_proj"):
            yield linear(f"{path}.0.{name}", heads * head_dim, width)
        yield linear(f"{path}.0.output_proj", width, heads * head_dim)
        yield from layer_norm(f"{path}.1.ln", width)
        yield linear(f"{path}.1.fc", 4 * width, width)
        yield linear(f"{path}.1.c_proj", width, 4 * width)
    yield from layer_norm("layer_norm", width)


def _idefics_heads(s: Settings, head: Head) -> Named:
    yield from head_modules(s, head)
    if head == "causal-lm" and s.count("additional_vocab_size"):
        yield linear("lm_head.additional_fc", s.size("additional_vocab_size"), s.size("hidden_size"))


def _kosmos_attention(path: str, width: int, *, inner_norm: bool = False) -> Named:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield linear(f"{path}.{name}", width, width, bias=True)
    if inner_norm:
        yield from layer_norm(f"{path}.inner_attn_ln", width)


def _kosmos_text(s: Settings, *, inner_norm: bool) -> Named:
    width, inner = s.size("embed_dim"), s.size("ffn_dim")
    yield embedding("embed_tokens", s.size("vocab_size"), width)
    for index in range(s.size("layers")):
        path = f"layers.{index}"
        yield from _kosmos_attention(f"{path}.self_attn", width, inner_norm=inner_norm)
        yield from layer_norm(f"{path}.self_attn_layer_norm", width)
        if s.flag("add_cross_attention"):
            yield from _kosmos_attention(f"{path}.encoder_attn", width)
            yield from layer_norm(f"{path}.encoder_attn_layer_norm", width)
        yield linear(f"{path}.ffn.fc1", inner, width, bias=True)
        yield linear(f"{path}.ffn.fc2", width, inner, bias=True)
        yield from layer_norm(f"{path}.ffn.ffn_layernorm", inner)
        yield from layer_norm(f"{path}.final_layer_norm", width)
    yield from layer_norm("layer_norm", width)


def _kosmos2_text(s: Settings) -> Named:
    return _kosmos_text(s, inner_norm=True)


def _kosmos25_text(s: Settings) -> Named:
    """No cross attention, and an embedding for what is text and what is an image."""
    yield from _kosmos_text(s.with_fields(add_cross_attention=False), inner_norm=False)
    yield embedding("segment_emb", 2, s.size("embed_dim"))


def pix2struct_visual(s: Settings, head_dim: int, inner: int, positions: int) -> Named:
    """The tower of Pix2Struct, which KOSMOS-2.5 has too."""
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    yield linear("embeddings.patch_projection", hidden, s.size("patch_embed_hidden_size"), bias=True)
    yield embedding("embeddings.row_embedder", positions, hidden)
    yield embedding("embeddings.column_embedder", positions, hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield linear(f"{path}.attention.{name}", heads * head_dim, hidden)
        yield linear(f"{path}.attention.output", hidden, heads * head_dim)
        yield linear(f"{path}.mlp.wi_0", inner, hidden)
        yield linear(f"{path}.mlp.wi_1", inner, hidden)
        yield linear(f"{path}.mlp.wo", hidden, inner)
        yield norm(f"{path}.pre_mlp_layer_norm", hidden)
        yield norm(f"{path}.pre_attention_layer_norm", hidden)
    yield norm("layernorm", hidden)


def _kosmos25_visual(s: Settings) -> Named:
    return pix2struct_visual(s, s.size("head_dim"), s.size("intermediate_size"), s.size("max_num_patches"))


def _kosmos2_visual(s: Settings) -> Named:
    return below("model", _clip(s))


def _kosmos(text: Tower, vision: Tower, queries: int) -> Architecture:
    names = {"num_attention_heads": "attention_heads", "hidden_size": "embed_dim", "num_hidden_layers": "layers"}
    text_part, vision_part = fixed("text_config", text, attribute_map=names), fixed("vision_config", vision)

    def build(s: Settings, head: Head) -> Named:
        (language, modules), (seen, visual) = text_part.of(s), vision_part.of(s)
        width = language.size("embed_dim")
        yield from below("text_model.model", modules(language))
        yield from below("text_model", head_modules(language, head, width="embed_dim"))
        yield from below("vision_model", visual(seen))
        yield "image_to_text_projection.latent_query", Module("parameter", (s.size("latent_query_num"), width))
        yield linear("image_to_text_projection.dense", width, seen.size("hidden_size"), bias=True)
        yield from _kosmos_attention("image_to_text_projection.x_attn", width)

    return composite({"latent_query_num": queries}, build)


def _bert_embeddings(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    yield embedding("embeddings.word_embeddings", s.size("vocab_size"), hidden)
    yield embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), hidden)
    yield from layer_norm("embeddings.LayerNorm", hidden)


def _self_attention(path: str, hidden: int, read: int) -> Named:
    """BERT's attention under its own names."""
    yield linear(f"{path}.self.query", hidden, hidden, bias=True)
    yield linear(f"{path}.self.key", hidden, read, bias=True)
    yield linear(f"{path}.self.value", hidden, read, bias=True)
    yield linear(f"{path}.output.dense", hidden, hidden, bias=True)
    yield from layer_norm(f"{path}.output.LayerNorm", hidden)


def _bert(s: Settings, *, read: int | None = None) -> Named:
    """BERT's layers, which also attend to what is ``read`` where there is something."""
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield from _bert_embeddings(s)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        yield from _self_attention(f"{path}.attention", hidden, hidden)
        if read is not None:
            yield from _self_attention(f"{path}.crossattention", hidden, read)
        yield from bert_mlp(path, hidden, inner)


def _blip(s: Settings, head: Head) -> Named:
    """The bare class is the one that compares images and texts."""
    (text, _), (vision, visual) = _BLIP_TEXT_PART.of(s), _BLIP_VISION_PART.of(s)
    hidden, seen = text.size("hidden_size"), vision.size("hidden_size")
    read = seen if text.flag("is_decoder") else None
    yield from below("vision_model", visual(vision.with_fields(qkv_bias=True)))
    if head == "none":
        yield from below("text_model", _bert(text, read=read))
        yield linear("text_model.pooler.dense", hidden, hidden, bias=True)
        yield linear("visual_projection", s.size("projection_dim"), seen)
        yield linear("text_projection", s.size("projection_dim"), hidden)
        yield "logit_scale", Module("parameter", ())
        return
    yield from below("text_decoder.bert", _bert(text, read=read))
    path = "text_decoder.cls.predictions"
    yield linear(f"{path}.transform.dense", hidden, hidden, bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", hidden)
    yield linear(f"{path}.decoder", text.size("vocab_size"), hidden, bias=True)
    yield f"{path}.bias", Module("parameter", (text.size("vocab_size"),))


def _git(s: Settings) -> Named:
    hidden, frames = s.size("hidden_size"), s.optional_size("num_image_with_embedding")
    vision, visual = _GIT_VISION_PART.of(s)
    yield from _bert(s)
    yield from below("image_encoder.vision_model", visual(vision))
    yield linear("visual_projection.visual_projection.0", hidden, vision.size("hidden_size"), bias=True)
    yield from layer_norm("visual_projection.visual_projection.1", hidden)
    for index in range(frames or 0):
        yield f"img_temporal_embedding.{index}", Module("parameter", (1, 1, vision.size("hidden_size")))


def _git_heads(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output="output", output_bias=True)


def _idefics_visual(s: Settings) -> Named:
    return _clip(s.aliased({"hidden_size": "embed_dim"}))


_IDEFICS = sizes(32000, 4096, 11008, 32, 32, None, cross_layer_interval=1, alpha_type="float", additional_vocab_size=0)
_IDEFICS_VISION: dict[str, Any] = {**tower_sizes(768, 5120, 32, 16, 14, 224), "embed_dim": 768}
_RESAMPLER: dict[str, Any] = {
    "resampler_n_latents": 64,
    "resampler_depth": 6,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
}
_IDEFICS_VISION_PART = fixed(
    "vision_config", Tower(_IDEFICS_VISION, _idefics_visual), attribute_map={"hidden_size": "embed_dim"}
)
_IDEFICS_READER = fixed("perceiver_config", Tower(_RESAMPLER, lambda _: iter(())))
_KOSMOS2: dict[str, Any] = {"vocab_size": 65037, "embed_dim": 2048, "layers": 24, "ffn_dim": 8192}
_KOSMOS25: dict[str, Any] = {"vocab_size": 108481, "embed_dim": 1536, "layers": 24, "ffn_dim": 6144}
_KOSMOS25_VISION: dict[str, Any] = {
    "hidden_size": 1536,
    "patch_embed_hidden_size": 768,
    "intermediate_size": 3968,
    "head_dim": 64,
    "num_hidden_layers": 18,
    "num_attention_heads": 24,
    "max_num_patches": 4096,
}
_BLIP_TEXT = sizes(30524, 768, 3072, 12, 8, None, max_position_embeddings=512, is_decoder=True)
_BLIP_TEXT_PART = fixed("text_config", Tower(_BLIP_TEXT, lambda _: iter(())))
_BLIP_VISION_PART = fixed("vision_config", Tower(tower_sizes(768, 3072, 12, 12, 16, 384), blip_visual))
_GIT = sizes(30522, 768, 3072, 6, 12, None, max_position_embeddings=1024)
_GIT_VISION_PART = fixed("vision_config", Tower(tower_sizes(768, 3072, 12, 12, 16, 224), _clip))

ARCHITECTURES: Mapping[str, Architecture] = {
    "idefics": Architecture(_IDEFICS, {TRANSFORMERS_5: framed(_idefics, heads=_idefics_heads)}, ()),
    "kosmos-2": _kosmos(
        Tower(_KOSMOS2, _kosmos2_text), Tower(tower_sizes(1024, 4096, 24, 16, 14, 224), _kosmos2_visual), 64
    ),
    "kosmos-2.5": _kosmos(Tower(_KOSMOS25, _kosmos25_text), Tower(_KOSMOS25_VISION, _kosmos25_visual), 2048),
    "blip": replace(composite({"projection_dim": 512}, _blip), input_embedding="word_embeddings"),
    "git": Architecture(
        _GIT, {TRANSFORMERS_5: framed(_git, prefix="git.", heads=_git_heads)}, (), input_embedding="word_embeddings"
    ),
}
