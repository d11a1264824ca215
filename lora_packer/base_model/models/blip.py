"""BLIP, InstructBLIP, GIT and KOSMOS: images read into a language model, most by a Q-Former."""

from __future__ import annotations

from dataclasses import replace

from lora_packer.base_model.architecture import Architecture, Architectures, Head, declared, like
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    text_part,
    whole_language_model,
)
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import framed, head_modules
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.qformer import bert_mlp, qformer_layers
from lora_packer.base_model.blocks.towers import clip, patches, pix2struct_visual
from lora_packer.base_model.models.vision_towers import BLIP2_QFORMER
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _kosmos_attention(path: str, width: int, *, inner_norm: bool = False) -> Named:
    yield from linear(path, width, width, "k_proj", "v_proj", "q_proj", "out_proj", bias=True)
    if inner_norm:
        yield from layer_norm(f"{path}.inner_attn_ln", width)


def _kosmos_text(s: Settings, *, inner_norm: bool) -> Named:
    width, inner = s.size("embed_dim"), s.size("ffn_dim")
    yield from embedding("embed_tokens", s.vocab, width)
    for index in range(s.size("layers")):
        path = f"layers.{index}"
        yield from _kosmos_attention(f"{path}.self_attn", width, inner_norm=inner_norm)
        yield from layer_norm(f"{path}.self_attn_layer_norm", width)
        if s.flag("add_cross_attention"):
            yield from _kosmos_attention(f"{path}.encoder_attn", width)
            yield from layer_norm(f"{path}.encoder_attn_layer_norm", width)
        yield from two_linears_mlp(f"{path}.ffn", width, inner)
        yield from layer_norm(f"{path}.ffn.ffn_layernorm", inner)
        yield from layer_norm(f"{path}.final_layer_norm", width)
    yield from layer_norm("layer_norm", width)


def _kosmos2_text(s: Settings) -> Named:
    return _kosmos_text(s, inner_norm=True)


def _kosmos25_text(s: Settings) -> Named:
    """No cross attention, and an embedding for what is text and what is an image."""
    yield from _kosmos_text(s.with_fields(add_cross_attention=False), inner_norm=False)
    yield from embedding("segment_emb", 2, s.size("embed_dim"))


def _kosmos25_visual(s: Settings) -> Named:
    return pix2struct_visual(s, s.size("head_dim"), s.inner, s.size("max_num_patches"))


def _kosmos2_visual(s: Settings) -> Named:
    return below("model", clip(s))


def _kosmos(text: Tower, vision: Tower) -> Architecture:
    names = {"num_attention_heads": "attention_heads", "hidden_size": "embed_dim", "num_hidden_layers": "layers"}
    text_part, vision_part = fixed("text_config", text, attribute_map=names), fixed("vision_config", vision)

    def build(s: Settings, head: Head) -> Named:
        (language, modules), (seen, visual) = text_part.of(s), vision_part.of(s)
        width = language.size("embed_dim")
        yield from below("text_model.model", modules(language))
        yield from below("text_model", head_modules(language, head, width="embed_dim"))
        yield from below("vision_model", visual(seen))
        yield from parameter("image_to_text_projection.latent_query", s.size("latent_query_num"), width)
        yield from linear("image_to_text_projection.dense", width, seen.hidden, bias=True)
        yield from _kosmos_attention("image_to_text_projection.x_attn", width)

    return composite(build)


def _bert_embeddings(s: Settings) -> Named:
    yield from embedding("embeddings.word_embeddings", s.vocab, s.hidden)
    yield from embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), s.hidden)
    yield from layer_norm("embeddings.LayerNorm", s.hidden)


def _self_attention(path: str, hidden: int, read: int) -> Named:
    """BERT's attention under its own names."""
    yield from linear(f"{path}.self.query", hidden, hidden, bias=True)
    yield from linear(f"{path}.self", hidden, read, "key", "value", bias=True)
    yield from linear(f"{path}.output.dense", hidden, hidden, bias=True)
    yield from layer_norm(f"{path}.output.LayerNorm", hidden)


def _bert(s: Settings, *, read: int | None = None) -> Named:
    """BERT's layers, which also attend to what is ``read`` where there is something."""
    yield from _bert_embeddings(s)
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        yield from _self_attention(f"{path}.attention", s.hidden, s.hidden)
        if read is not None:
            yield from _self_attention(f"{path}.crossattention", s.hidden, read)
        yield from bert_mlp(path, s.hidden, s.inner)


def _blip(s: Settings, head: Head) -> Named:
    """The bare class is the one that compares images and texts."""
    (text, _), (vision, visual) = _BLIP_TEXT_PART.of(s), _BLIP_VISION_PART.of(s)
    read = vision.hidden if text.flag("is_decoder") else None
    yield from below("vision_model", visual(vision.with_fields(qkv_bias=True)))
    if head == "none":
        yield from below("text_model", _bert(text, read=read))
        yield from linear("text_model.pooler.dense", text.hidden, text.hidden, bias=True)
        yield from linear("visual_projection", s.size("projection_dim"), vision.hidden)
        yield from linear("text_projection", s.size("projection_dim"), text.hidden)
        yield from parameter("logit_scale")
        return
    yield from below("text_decoder.bert", _bert(text, read=read))
    path = "text_decoder.cls.predictions"
    yield from linear(f"{path}.transform.dense", text.hidden, text.hidden, bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", text.hidden)
    yield from linear(f"{path}.decoder", text.vocab, text.hidden, bias=True)
    yield from parameter(f"{path}.bias", text.vocab)


def _git(s: Settings) -> Named:
    frames = s.optional_size("num_image_with_embedding")
    vision, visual = _GIT_VISION_PART.of(s)
    yield from _bert(s)
    yield from below("image_encoder.vision_model", visual(vision))
    yield from linear("visual_projection.visual_projection.0", s.hidden, vision.hidden, bias=True)
    yield from layer_norm("visual_projection.visual_projection.1", s.hidden)
    for index in range(frames or 0):
        yield from parameter(f"img_temporal_embedding.{index}", 1, 1, vision.hidden)


def _git_heads(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output="output", output_bias=True)


def blip_visual(s: Settings) -> Named:
    """The tower of BLIP and its successors."""
    patch = s.size("patch_size")
    yield from parameter("embeddings.class_embedding", 1, 1, s.hidden)
    yield from parameter("embeddings.position_embedding", 1, patches(s) + 1, s.hidden)
    yield from conv("embeddings.patch_embedding", (s.hidden, 3, patch, patch), bias=True)
    for index in range(s.layers):
        path = f"encoder.layers.{index}"
        yield from linear(f"{path}.self_attn.qkv", 3 * s.hidden, s.hidden, bias=s.flag("qkv_bias"))
        yield from linear(f"{path}.self_attn.projection", s.hidden, s.hidden, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "layer_norm1", "layer_norm2")
    yield from layer_norm("post_layernorm", s.hidden)


def _instruct_qformer(s: Settings) -> Named:
    yield from embedding("embeddings.word_embeddings", s.vocab, s.hidden)
    yield from embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), s.hidden)
    yield from layer_norm("embeddings.layernorm", s.hidden)
    yield from qformer_layers(s, reads_text=True)


def _blip2(qformer: Tower, *, bare: Part, targets: tuple[str, ...] = ()) -> Architecture:
    """``bare`` is the language model in the class without a head."""
    part = fixed("qformer_config", qformer)

    def build(s: Settings, head: Head) -> Named:
        vision, visual = _VISION.of(s)
        reading, query = part.of(s)
        text, language = (bare if head == "none" else _LANGUAGE).of(s)
        reading = reading.with_fields(encoder_hidden_size=vision.hidden)
        width = reading.hidden
        yield from parameter("query_tokens", 1, s.size("num_query_tokens"), width)
        yield from below("vision_model", visual(vision))
        yield from below("qformer", query(reading))
        # T5 calls the size of its states d_model.
        outputs = text.aliased({"hidden_size": "d_model"}).hidden
        yield from linear("language_projection", outputs, width, bias=True)
        yield from below("language_model", language(text))

    return composite(build, targets=targets)


_BLIP_TEXT_PART = fixed("text_config", Tower("blip_text_model", lambda _: iter(())))
_BLIP_VISION_PART = fixed("vision_config", Tower("blip_vision_model", blip_visual))
_GIT_VISION_PART = fixed("vision_config", Tower("git_vision_model", clip))
_VISION = fixed("vision_config", Tower("blip_2_vision_model", blip_visual))
_LANGUAGE = Part("text_config", "opt", whole_language_model)

ARCHITECTURES: Architectures = {
    "kosmos-2": _kosmos(Tower("kosmos_2_text_model", _kosmos2_text), Tower("kosmos_2_vision_model", _kosmos2_visual)),
    "kosmos-2.5": _kosmos(
        Tower("kosmos_2_5_text_model", _kosmos25_text), Tower("kosmos_2_5_vision_model", _kosmos25_visual)
    ),
    "blip": replace(composite(_blip), input_embedding="word_embeddings"),
    "git": declared(framed(_git, prefix="git.", heads=_git_heads), input_embedding="word_embeddings"),
    "blip-2": _blip2(BLIP2_QFORMER, bare=_LANGUAGE, targets=("q", "v", "q_proj", "v_proj")),
    "instructblip": _blip2(Tower("instructblip_qformer", _instruct_qformer), bare=text_part("opt")),
    "instructblipvideo": like("instructblip"),
}
