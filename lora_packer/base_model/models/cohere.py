"""Cohere's Command models and the Aya, with and without towers."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared, like
from lora_packer.base_model.blocks.attention import head_sizes, plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, fixed, text_part
from lora_packer.base_model.blocks.experts import fused_experts, sparse_after
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, decoder, framed, stacked
from lora_packer.base_model.blocks.hearing import conformer
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.projectors import llava_like, seeing_inside
from lora_packer.base_model.blocks.qwen_visual import qwen3_visual
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _cohere(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        if s.flag("use_qk_norm"):
            yield from parameter(f"{prefix}.self_attn.q_norm.weight", heads, head_dim)
            yield from parameter(f"{prefix}.self_attn.k_norm.weight", kv_heads, head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=("input_layernorm",))


_cohere2 = decoder({"self_attn": plain_attention, "mlp": plain_mlp}, ("input_layernorm",))


def _cohere2_moe(s: Settings) -> Named:
    inner = s.inner
    kind = sparse_after(s, s.count("first_k_dense_replace"))

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        if kind(index) == "dense":
            yield from gated_mlp(f"{prefix}.mlp", s.hidden, s.optional_size("prefix_dense_intermediate_size") or inner)
            return
        yield from fused_experts(f"{prefix}.mlp", s.hidden, inner, s.size("num_experts"))
        shared = s.count("num_shared_experts")
        if shared:
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, inner * shared)

    return stacked(s, layer, norms=("input_layernorm",))


def _aya(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.hidden * s.size("downsample_factor") ** 2
    width = s.optional_size("alignment_intermediate_size") or text.hidden
    yield from layer_norm("multi_modal_projector.layernorm", folded)
    yield from linear("multi_modal_projector.linear_1", width, folded, bias=True)
    yield from linear("multi_modal_projector.linear_2", text.hidden, width // 2, bias=True)


def _cohere2_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.hidden * s.size("downsample_factor") ** 2
    width = s.size("alignment_intermediate_size")
    yield from linear("multi_modal_projector.linear_1", width, folded, bias=True)
    yield from linear("multi_modal_projector.linear_2", text.hidden, width // 2, bias=True)


_HEARING = fixed("encoder_config", Tower("parakeet_encoder", conformer))._replace(filled=True)


def _asr(s: Settings, head: Head) -> Named:
    """A conformer and a decoder that reads it, with heads over words."""
    before = "" if head == "none" else "model."
    hearing, encoder = _HEARING.of(s)

    def layer(path: str, _index: int) -> Named:
        for name in ("self_attn", "encoder_attn"):
            yield from plain_attention(s, f"{path}.{name}")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, *LAYER_NORMS, "final_layernorm")

    yield from below(f"{before}encoder", encoder(hearing))
    yield from below(f"{before}decoder", stacked(s, layer, norms=(), kind=layer_norm))
    yield from embedding(f"{before}decoder.pos_emb", s.size("max_position_embeddings"), s.hidden)
    yield from layer_norm(f"{before}decoder.embedding_layernorm", s.hidden)
    yield from linear(f"{before}decoder.proj", s.hidden, hearing.hidden, bias=True)
    if head != "none":
        yield from linear("proj_out", s.vocab, s.hidden, bias=True)


ARCHITECTURES: Architectures = {
    "cohere_asr": declared(_asr, encoder_decoder=True),
    "cohere": declared(framed(_cohere)),
    "cohere2": declared(framed(_cohere2)),
    "cohere_compass_text": like("cohere2"),
    "cohere2_moe": declared(framed(_cohere2_moe)),
    "aya_vision": llava_like(text_part("cohere2"), vision_config("siglip_vision_model"), _aya),
    "cohere2_vision": llava_like(text_part("cohere2"), vision_config("siglip_vision_model"), _cohere2_projector),
    "cohere_compass": seeing_inside("cohere_compass_text", Tower("cohere_compass_vision", qwen3_visual)),
}
