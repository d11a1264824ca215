"""T5Gemma: encoders and decoders made of Gemma's layers."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import Architectures, Build, Head, declared
from lora_packer.base_model.blocks.attention import attention, head_sizes
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.layers import embedding, linear, norm, parameter
from lora_packer.base_model.models.gemma.towers import gemma3_projector
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _gemma_side(s: Settings, crossed: int | None, *, normed: bool = False) -> Named:
    """One side; ``crossed`` is the width of what its cross attention reads, or None where it has none."""
    heads, kv_heads, head_dim = head_sizes(s)
    bias = s.flag("attention_bias")
    norms = ["pre_self_attn_layernorm", "post_self_attn_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    norms += [] if crossed is None else ["pre_cross_attn_layernorm", "post_cross_attn_layernorm"]
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from norm("norm", s.hidden)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from attention(f"{path}.self_attn", s.hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        if normed:
            yield from norm(f"{path}.self_attn", head_dim, "q_norm", "k_norm")
        if crossed is not None:
            width = kv_heads * head_dim
            yield from linear(f"{path}.cross_attn.q_proj", heads * head_dim, s.hidden, bias=bias)
            yield from linear(f"{path}.cross_attn", width, crossed, "k_proj", "v_proj", bias=bias)
            yield from linear(f"{path}.cross_attn.o_proj", s.hidden, heads * head_dim, bias=bias)
        yield from plain_mlp(s, f"{path}.mlp")
        yield from norm(path, s.hidden, *norms)


def _t5gemma_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    yield from below("encoder", _gemma_side(encoder, None))
    yield from below("decoder", _gemma_side(decoder, encoder.hidden))


def _t5gemma2_side(s: Settings) -> Named:
    """Its embedding has one vector more, for the end of an image (modeling_t5gemma2.py)."""
    yield from _gemma_side(s, None, normed=True)
    yield from parameter("embed_tokens.eoi_embedding", s.hidden)


def _t5gemma2_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    text = encoder.nested("text_config")
    vision, tower = vision_config("siglip_vision_model").of(encoder)
    yield from below("encoder.text_model", _t5gemma2_side(text))
    yield from below("encoder.vision_tower", tower(vision))
    yield from below("encoder", gemma3_projector(encoder, vision, text))
    yield from below("decoder", _t5gemma2_side(decoder))


def _gemma_frame(sides: Callable[[Settings], Named]) -> Build:
    def build(s: Settings, head: Head) -> Named:
        for path, module in sides(s):
            yield path if head == "none" else f"model.{path}", module
        decoder = s.nested("decoder")
        if head in ("causal-lm", "seq2seq"):
            yield from linear("lm_head.out_proj", decoder.vocab, decoder.hidden)
        elif head != "none":
            yield from linear("score.out_proj", s.labels(), decoder.hidden, bias=True)

    return build


ARCHITECTURES: Architectures = {
    "t5gemma": declared(_gemma_frame(_t5gemma_sides), encoder_decoder=True),
    "t5gemma2": declared(
        _gemma_frame(_t5gemma2_sides), input_embedding="text_model.embed_tokens", encoder_decoder=True
    ),
}
