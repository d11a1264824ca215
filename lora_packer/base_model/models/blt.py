"""The Byte Latent Transformer: bytes are read into patches, and a model runs over those."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.attention import attention, qk_norms
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, framed
from lora_packer.base_model.blocks.layers import embedding, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _blt(s: Settings) -> Named:
    """Byte Latent Transformer: an encoder and a decoder of bytes around a decoder of patches."""
    encoder, decoder, patches = (s.nested(f"{name}_config") for name in ("encoder", "decoder", "global"))
    yield embedding("local_encoder.embed_tokens", encoder.size("vocab_size"), encoder.size("hidden_size"))
    yield from _blt_coder(encoder, "local_encoder", encoder.size("hidden_size"))
    yield from _blt_layers(patches, "global_transformer")
    joined = encoder.size("hidden_size") * s.size("cross_attn_k")
    if joined != patches.size("hidden_size"):
        yield linear("global_transformer.token_embedding_projection", patches.size("hidden_size"), joined)
    yield from _blt_coder(decoder, "local_decoder", decoder.size("hidden_size_global"))
    yield norm("local_decoder.norm", decoder.size("hidden_size"))
    groups = len(s.numbers("encoder_hash_byte_group_size") or range(3, 9))
    rows = s.size("encoder_hash_byte_group_vocab") * s.size("encoder_hash_byte_group_nb_functions") * groups
    yield embedding("encoder_hash_tok_embedding", rows, encoder.size("hidden_size"))
    if s.flag("patch_in_forward"):
        patcher = s.nested("patcher_config")
        hidden, vocab = patcher.size("hidden_size"), patcher.size("vocab_size")
        yield embedding("patcher.embed_tokens", vocab, hidden)
        yield from _blt_layers(patcher, "patcher")
        yield norm("patcher.norm", hidden)
        yield linear("patcher.lm_head", vocab, hidden)


def _blt_layers(s: Settings, prefix: str) -> Named:
    hidden = s.size("hidden_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"{prefix}.layers.{index}"
        yield from _blt_attention(s, f"{path}.self_attn")
        yield from gated_mlp(f"{path}.mlp", hidden, s.optional_size("intermediate_size") or int(8 * hidden / 3))
        for name in LAYER_NORMS:
            yield norm(f"{path}.{name}", hidden)


def _blt_coder(s: Settings, prefix: str, inwards: int) -> Named:
    """Layers of bytes, the cross attention to patches and what projects those."""
    hidden = s.size("hidden_size")
    yield from _blt_layers(s, prefix)
    yield linear(f"{prefix}.patch_embedding_projection", hidden * s.size("cross_attn_k"), inwards)
    for index in range(s.size("num_hidden_layers") if s.flag("cross_attn_all_layers") else 1):
        path = f"{prefix}.cross_attn_layers.{index}"
        yield from _blt_attention(s, path)
        yield from qk_norms(path, hidden, hidden)


def _blt_attention(s: Settings, prefix: str) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    return attention(prefix, hidden, heads, s.count("num_key_value_heads") or heads, hidden // heads)


def _blt_head(s: Settings, head: Head) -> Named:
    if head == "causal-lm":
        yield linear("lm_head", s.size("vocab_size"), s.nested("decoder_config").size("hidden_size"))


ARCHITECTURES: Mapping[str, Architecture] = {"blt": declared(framed(_blt, heads=_blt_head))}
