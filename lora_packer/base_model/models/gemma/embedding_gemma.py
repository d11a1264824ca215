"""EmbeddingGemma 2, an encoder with Gemma 4's towers, whose full attention is wider than its sliding one."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import attention, qk_norms
from lora_packer.base_model.blocks.composite import composite, text_part, with_towers
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, fields_by_layer, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import linear, norm
from lora_packer.base_model.models.gemma.gemma4 import gemma4_beside
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_NORMS = (*LAYER_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _text(s: Settings) -> Named:
    """Each layer has inputs of its own beside the stream (PLE); what comes out is projected."""
    period, own, bias = (
        s.size("sliding_window_pattern"),
        s.size("hidden_size_per_layer_input"),
        s.flag("attention_bias"),
    )
    kind = layer_kinds(
        s.names("layer_types"), lambda at: "sliding_attention" if (at + 1) % period else "full_attention"
    )
    wide = {"head_dim": s.value("global_head_dim"), "num_key_value_heads": s.value("num_global_key_value_heads")}
    saved = fields_by_layer(s)

    def layer(path: str, index: int) -> Named:
        full = index == s.layers - 1 or kind(index) == "full_attention"
        fields = saved.get(index, {}) if saved is not None else wide if full else {}
        at = s.with_fields(**fields)
        size, kv_heads = at.size("head_dim"), at.size("num_key_value_heads")
        yield from attention(f"{path}.self_attn", s.hidden, s.heads, kv_heads, size, bias=bias, output_bias=bias)
        yield from qk_norms(f"{path}.self_attn", size, size)
        yield from plain_mlp(s, f"{path}.mlp")
        yield from linear(f"{path}.ple_block.per_layer_input_gate", own, s.hidden)
        yield from linear(f"{path}.ple_block.per_layer_projection", s.hidden, own)
        yield from norm(f"{path}.ple_block.post_per_layer_input_norm", s.hidden)

    yield from stacked(s, layer, norms=_NORMS)
    yield from linear("ple.per_layer_model_projection", s.layers * own, s.hidden)
    yield from norm("ple.per_layer_projection_norm", own)
    yield from linear("embedding_projection", s.size("embedding_dim"), s.hidden)


ARCHITECTURES: Architectures = {
    "embedding_gemma2": composite(with_towers(text_part("embedding_gemma2_text"), gemma4_beside)),
    "embedding_gemma2_text": declared(framed(_text)),
}
