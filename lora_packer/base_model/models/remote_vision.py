"""Models that see, whose code is in their own repositories, each around a whole language model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architectures,
    Build,
    Head,
    Proof,
    like,
    remote,
)
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.composite import Part, Tower, below, fixed, whole_language_model
from lora_packer.base_model.blocks.layers import chain, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.towers import intern_vit, patches
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture

_INTERN_VIT = fixed("vision_config", Tower("intern_vit_6b", intern_vit))


# Yields what joins the tower to the language model: from the merged width and the language model's config.
Joins = Callable[[int, Settings], Named]


def _two_linears(merged: int, text: Settings) -> Named:
    return chain("mlp1", (merged, text.hidden, text.hidden), "1", "3", bias=True)


def _wide_linears(merged: int, text: Settings) -> Named:
    return chain("mlp1", (merged, text.inner, text.hidden), "1", "3")


def _internvl_chat(dialect: str, joins: Joins = _two_linears) -> Build:
    """InternVL 1.2 to 3.5 before their transfer to transformers: the tower, two linears, and the language model."""
    language = Part("llm_config", "llama", partial(whole_language_model, dialect=dialect))

    def build(s: Settings, _head: Head) -> Named:
        if s.count("use_backbone_lora") or s.count("use_llm_lora"):
            raise UnknownArchitecture(
                "there is no proven definition for an InternVL with LoRA in itself (use_llm_lora, use_backbone_lora).",
                hint="Give the config of the base model before training, in which both are 0.",
            )
        vision, visual = _INTERN_VIT.of(s)
        text, decoder = language.of(s)
        yield from below("vision_model", visual(vision))
        merged = vision.hidden * int(1 / s.ratio("downsample_ratio")) ** 2
        yield from layer_norm("mlp1.0", merged)
        yield from joins(merged, text)
        yield from below("language_model", decoder(text))

    return build


def _molmo(s: Settings, _head: Head) -> Named:
    """Molmo's first: an OLMo with gate and value in one, CLIP's tower, and pooling by attention over two of its layers.

    Its embedding is two parameters of a class of its own: the tokens, and those that it has for images.
    """
    heads, kv_heads, _ = head_sizes(s)
    head_dim, inner = s.hidden // heads, s.inner // 2
    rows = s.optional_size("embedding_size") or s.vocab
    yield from parameter("model.transformer.wte.embedding", rows, s.hidden)
    yield from parameter("model.transformer.wte.new_embedding", s.size("additional_vocab_size"), s.hidden)
    for index in range(s.layers):
        path = f"model.transformer.blocks.{index}"
        yield from norm(path, s.hidden, "attn_norm", "ff_norm")
        yield from linear(f"{path}.att_proj", (heads + 2 * kv_heads) * head_dim, s.hidden, bias=s.flag("qkv_bias"))
        yield from linear(f"{path}.attn_out", s.hidden, s.hidden)
        if s.flag("attention_layer_norm"):
            yield from norm(f"{path}.q_norm", s.hidden)
            yield from norm(f"{path}.k_norm", kv_heads * head_dim)
        yield from linear(f"{path}.ff_proj", 2 * inner, s.hidden)
        yield from linear(f"{path}.ff_out", s.hidden, inner)
    yield from norm("model.transformer.ln_f", s.hidden)
    if not s.flag("weight_tying"):
        yield from linear("model.transformer.ff_out", rows, s.hidden)
    yield from below("model.vision_backbone", _molmo_visual(Settings({}, "molmo.vision_backbone"), s.hidden, inner))


def _molmo_visual(s: Settings, hidden: int, inner: int) -> Named:
    """The tower, whose config stands in the code alone."""
    width, read = s.hidden, s.size("layers_read")
    yield from parameter("image_vit.class_embedding", width)
    yield from parameter("image_vit.positional_embedding", patches(s) + 1, width)
    yield from linear("image_vit.patch_embedding", width, s.size("num_channels") * s.size("patch_size") ** 2)
    yield from layer_norm("image_vit.pre_ln", width)
    for index in range(s.layers):
        path = f"image_vit.transformer.resblocks.{index}"
        yield from linear(f"{path}.attention", width, width, "wq", "wk", "wv", "wo", bias=True)
        yield from chain(f"{path}.feed_forward", (width, s.inner, width), "w1", "w2", bias=True)
        yield from layer_norm(path, width, "attention_norm", "ffn_norm")
    yield from linear("image_pooling_2d", width, read * width, "wq", "wk", "wv", bias=True)
    yield from linear("image_pooling_2d.wo", width, width, bias=True)
    yield from linear("image_projector", inner, width, "w1", "w3")
    yield from linear("image_projector.w2", hidden, inner)
    yield from parameter("pad_embed", 2, read * width)


_NVLM = Proof("read", "vllm/model_executor/models/nvlm_d.py (vllm 0.33.0), with that of the language model")
_H2OVL = Proof("read", "vllm/model_executor/models/h2ovl.py (vllm 0.33.0), with that of the language model")

ARCHITECTURES: Architectures = {
    "NVLM_D": remote(
        _internvl_chat(TRANSFORMERS_5, _wide_linears),
        _NVLM,
        text_config="llm_config",
        classes={"NVLM_D": "causal-lm"},
    ),
    "h2ovl_chat": like(
        "internvl_chat", {"proof": _H2OVL, "defaults": "internvl_chat", "classes": {"H2OVLChatModel": "causal-lm"}}
    ),
    "molmo": remote(
        _molmo,
        Proof("read", "vllm/model_executor/models/molmo.py (vllm 0.33.0)"),
        input_embedding="wte.embedding",
        vocabulary=("embedding_size", "vocab_size"),
    ),
    "internvl_chat": remote(
        _internvl_chat(TRANSFORMERS_5),
        Proof(
            "read",
            "vllm/model_executor/models/internvl.py and intern_vit.py (vllm 0.33.0), with that of the language model",
        ),
        {TRANSFORMERS_4: _internvl_chat(TRANSFORMERS_4)},
        text_config="llm_config",
        classes={"InternVLChatModel": "causal-lm"},
    ),
}
