"""Moonshine, which writes what is said, and the one that does so while it is said: an encoder of samples, a decoder."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.attention import attention, head_sizes, plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, fixed
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# transformers' ``attribute_map``: what has no side in its name is the decoder's.
_NAMES = {
    "num_key_value_heads": "decoder_num_key_value_heads",
    "num_attention_heads": "decoder_num_attention_heads",
    "num_hidden_layers": "decoder_num_hidden_layers",
}


def _side(s: Settings, side: str) -> Named:
    heads = s.size(f"{side}_num_attention_heads")
    kv_heads = s.optional_size(f"{side}_num_key_value_heads") or heads
    # The size of a head that a config may set besides goes for both sides.
    head_dim = s.optional_size("head_dim") or s.hidden // s.heads
    decodes, bias = side == "decoder", s.flag("attention_bias")
    for index in range(s.size(f"{side}_num_hidden_layers")):
        path = f"{side}.layers.{index}"
        for name in ("self_attn", "encoder_attn") if decodes else ("self_attn",):
            yield from attention(f"{path}.{name}", s.hidden, heads, kv_heads, head_dim, bias=bias)
        yield from linear(f"{path}.mlp.fc1", s.inner * (2 if decodes else 1), s.hidden, bias=True)
        yield from linear(f"{path}.mlp.fc2", s.hidden, s.inner, bias=True)
        yield from norm(path, s.hidden, "input_layernorm", "post_attention_layernorm")
        if decodes:
            yield from norm(f"{path}.final_layernorm", s.hidden)


def _moonshine_sides(s: Settings) -> Named:
    yield from conv("encoder.conv1", (s.hidden, 1, 127), bias=False)
    yield from conv("encoder.conv2", (2 * s.hidden, s.hidden, 7), bias=True)
    yield from conv("encoder.conv3", (s.hidden, 2 * s.hidden, 3), bias=True)
    yield from layer_norm("encoder.groupnorm", s.hidden)
    yield from _side(s, "encoder")
    yield from norm("encoder.layer_norm", s.hidden)
    yield from embedding("decoder.embed_tokens", s.vocab, s.hidden)
    yield from _side(s, "decoder")
    yield from norm("decoder.norm", s.hidden)


def _moonshine(raw: Settings, head: Head) -> Named:
    s = raw.aliased(_NAMES)
    for path, module in _moonshine_sides(s):
        yield path if head == "none" else f"model.{path}", module
    if head != "none":
        yield from linear("proj_out", s.vocab, s.hidden)


def _streaming_encoder(s: Settings) -> Named:
    """Frames of samples, whose norms are held by modules of their own."""
    sampled = s.ratio("sample_rate") * s.ratio("frame_ms") / 1000.0
    yield from parameter("embedder.comp.log_k")
    yield from conv("embedder.conv1", (2 * s.hidden, s.hidden, 5), bias=True)
    yield from conv("embedder.conv2", (s.hidden, 2 * s.hidden, 5), bias=True)
    yield from linear("embedder.linear", s.hidden, round(sampled))
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from plain_attention(s, f"{path}.self_attn")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from parameter(f"{path}.input_layernorm.gamma", s.hidden)
        yield from parameter(f"{path}.post_attention_layernorm.gamma", s.hidden)
    yield from parameter("final_norm.gamma", s.hidden)


def _streaming_decoder(s: Settings, heard: int) -> Named:
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    for index in range(s.layers):
        path = f"layers.{index}"
        for name in ("self_attn", "encoder_attn"):
            yield from attention(f"{path}.{name}", s.hidden, heads, kv_heads, head_dim, bias=bias)
        yield from linear(f"{path}.mlp.fc1", 2 * s.inner, s.hidden, bias=True)
        yield from linear(f"{path}.mlp.fc2", s.hidden, s.inner, bias=True)
        yield from norm(path, s.hidden, "input_layernorm", "post_attention_layernorm", "final_layernorm")
    yield from norm("norm", s.hidden)
    yield from embedding("pos_emb", s.size("max_position_embeddings"), heard)
    if heard != s.hidden:
        yield from linear("proj", s.hidden, heard)


_STREAMING_ENCODER = fixed("encoder_config", Tower("moonshine_streaming_encoder", _streaming_encoder))


def _streaming(s: Settings, head: Head) -> Named:
    before, (sound, modules) = "" if head == "none" else "model.", _STREAMING_ENCODER.of(s)
    yield from below(f"{before}encoder", modules(sound))
    yield from below(f"{before}decoder", _streaming_decoder(s, sound.hidden))
    if head != "none":
        yield from linear("proj_out", s.vocab, s.hidden)


ARCHITECTURES: Architectures = {
    "moonshine": declared(_moonshine, encoder_decoder=True),
    "moonshine_streaming": declared(_streaming, encoder_decoder=True),
}
