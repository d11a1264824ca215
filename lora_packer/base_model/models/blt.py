"""The Byte Latent Transformer: bytes are read into patches, and a model runs over those."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, framed
from lora_packer.base_model.blocks.layers import embedding, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _blt(s: Settings) -> Named:
    """Byte Latent Transformer: an encoder and a decoder of bytes around a decoder of patches."""
    encoder, decoder, patches = (s.nested(f"{name}_config") for name in ("encoder", "decoder", "global"))
    yield from embedding("local_encoder.embed_tokens", encoder.vocab, encoder.hidden)
    yield from _blt_coder(encoder, "local_encoder", encoder.hidden)
    yield from _blt_layers(patches, "global_transformer")
    joined = encoder.hidden * s.size("cross_attn_k")
    if joined != patches.hidden:
        yield from linear("global_transformer.token_embedding_projection", patches.hidden, joined)
    yield from _blt_coder(decoder, "local_decoder", decoder.size("hidden_size_global"))
    yield from norm("local_decoder.norm", decoder.hidden)
    groups = len(s.numbers("encoder_hash_byte_group_size") or range(3, 9))
    rows = s.size("encoder_hash_byte_group_vocab") * s.size("encoder_hash_byte_group_nb_functions") * groups
    yield from embedding("encoder_hash_tok_embedding", rows, encoder.hidden)
    if s.flag("patch_in_forward"):
        patcher = s.nested("patcher_config")
        hidden, vocab = patcher.hidden, patcher.vocab
        yield from embedding("patcher.embed_tokens", vocab, hidden)
        yield from _blt_layers(patcher, "patcher")
        yield from norm("patcher.norm", hidden)
        yield from linear("patcher.lm_head", vocab, hidden)


def _blt_layers(s: Settings, prefix: str) -> Named:
    for index in range(s.layers):
        path = f"{prefix}.layers.{index}"
        yield from _blt_attention(s, f"{path}.self_attn")
        yield from gated_mlp(f"{path}.mlp", s.hidden, s.optional_size("intermediate_size") or int(8 * s.hidden / 3))
        yield from norm(path, s.hidden, *LAYER_NORMS)


def _blt_coder(s: Settings, prefix: str, inwards: int) -> Named:
    """Layers of bytes, the cross attention to patches and what projects those."""
    yield from _blt_layers(s, prefix)
    yield from linear(f"{prefix}.patch_embedding_projection", s.hidden * s.size("cross_attn_k"), inwards)
    for index in range(s.layers if s.flag("cross_attn_all_layers") else 1):
        path = f"{prefix}.cross_attn_layers.{index}"
        yield from _blt_attention(s, path)
        yield from norm(path, s.hidden, "q_norm", "k_norm")


def _blt_attention(s: Settings, prefix: str) -> Named:
    return attention(prefix, s.hidden, s.heads, s.count("num_key_value_heads") or s.heads, s.hidden // s.heads)


def _blt_head(s: Settings, head: Head) -> Named:
    if head == "causal-lm":
        yield from linear("lm_head", s.vocab, s.nested("decoder_config").hidden)


ARCHITECTURES: Architectures = {"blt": declared(framed(_blt, heads=_blt_head))}
