"""T5Gemma: encoders and decoders made of Gemma's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_packer.base_model.architecture import Architecture, Build, Head, declared
from lora_packer.base_model.blocks.attention import attention, head_sizes, qk_norms
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.layers import embedding, linear, norm
from lora_packer.base_model.models.gemma_towers import gemma3_projector
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _gemma_side(s: Settings, crossed: int | None, *, normed: bool = False) -> Named:
    """One side; ``crossed`` is the width of what its cross attention reads, or None where it has none."""
    hidden, (heads, kv_heads, head_dim) = s.size("hidden_size"), head_sizes(s)
    bias = s.flag("attention_bias")
    norms = ["pre_self_attn_layernorm", "post_self_attn_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    norms += [] if crossed is None else ["pre_cross_attn_layernorm", "post_cross_attn_layernorm"]
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    yield norm("norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield from attention(f"{path}.self_attn", hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
        if normed:
            yield from qk_norms(f"{path}.self_attn", head_dim, head_dim)
        if crossed is not None:
            width = kv_heads * head_dim
            yield linear(f"{path}.cross_attn.q_proj", heads * head_dim, hidden, bias=bias)
            yield linear(f"{path}.cross_attn.k_proj", width, crossed, bias=bias)
            yield linear(f"{path}.cross_attn.v_proj", width, crossed, bias=bias)
            yield linear(f"{path}.cross_attn.o_proj", hidden, heads * head_dim, bias=bias)
        yield from gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size"))
        for name in norms:
            yield norm(f"{path}.{name}", hidden)


def _t5gemma_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    yield from below("encoder", _gemma_side(encoder, None))
    yield from below("decoder", _gemma_side(decoder, encoder.size("hidden_size")))


def _t5gemma2_sides(s: Settings) -> Named:
    encoder, decoder = s.nested("encoder"), s.nested("decoder")
    text = encoder.nested("text_config")
    vision, tower = vision_config("siglip_vision_model").of(encoder)
    yield from below("encoder.text_model", _gemma_side(text, None, normed=True))
    yield from below("encoder.vision_tower", tower(vision))
    yield from below("encoder", gemma3_projector(encoder, vision, text))
    yield from below("decoder", _gemma_side(decoder, None, normed=True))


def _gemma_frame(sides: Callable[[Settings], Named]) -> Build:
    def build(s: Settings, head: Head) -> Named:
        for path, module in sides(s):
            yield path if head == "none" else f"model.{path}", module
        decoder = s.nested("decoder")
        if head in ("causal-lm", "seq2seq"):
            yield linear("lm_head.out_proj", decoder.size("vocab_size"), decoder.size("hidden_size"))
        elif head != "none":
            yield linear("score.out_proj", s.labels(), decoder.size("hidden_size"), bias=True)

    return build


ARCHITECTURES: Mapping[str, Architecture] = {
    "t5gemma": declared(_gemma_frame(_t5gemma_sides), encoder_decoder=True),
    "t5gemma2": declared(
        _gemma_frame(_t5gemma2_sides), input_embedding="text_model.embed_tokens", encoder_decoder=True
    ),
}
