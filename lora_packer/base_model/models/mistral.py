"""Mistral's decoders, experts, and the models that see or hear."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5_23, Architectures, Build, declared, like
from lora_packer.base_model.blocks.attention import attention, grouped_attention
from lora_packer.base_model.blocks.composite import Part, Tower, composite, fixed, text_part, text_tower, with_towers
from lora_packer.base_model.blocks.experts import (
    Experts,
    fused_experts,
    local_experts,
    mixture_or_dense,
    numbered_experts,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import QUERY_VALUE, TRANSFORMER, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.hearing import RENAMED_NAMES, heard, whisper_convs
from lora_packer.base_model.blocks.latent import indexer, indexer_kinds
from lora_packer.base_model.blocks.layers import chain, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import llava_like, llava_projector, seeing, two_linears
from lora_packer.base_model.models.deepseek import deepseek_v3
from lora_packer.base_model.models.hearing_towers import WHISPER_PART
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_mistral = decoder({"self_attn": grouped_attention, "mlp": plain_mlp})


def _mixtral(s: Settings, *, experts: Experts = fused_experts, block: str = "mlp") -> Named:
    count = local_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from experts(f"{prefix}.{block}", s.hidden, s.inner, count)

    return stacked(s, layer)


def mistral3_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Mistral 3's projector, which merges neighbouring patches first."""
    merged = vision.hidden * s.size("spatial_merge_size") ** 2
    yield from norm("multi_modal_projector.norm", vision.hidden)
    yield from linear("multi_modal_projector.patch_merger.merging_layer", vision.hidden, merged)
    yield from llava_projector(s, vision, text)


def _lighton_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden = vision.hidden
    yield from norm("vision_projection.norm", hidden)
    yield from linear(
        "vision_projection.patch_merger.merging_layer", hidden, hidden * s.size("spatial_merge_size") ** 2
    )
    yield from two_linears("vision_projection", hidden, text.hidden, bias=False)


def _voxtral(_s: Settings, audio: Settings, text: Settings) -> Named:
    """Some frames side by side are as wide as the encoder's feed-forward blocks."""
    yield from two_linears("multi_modal_projector", audio.inner, text.hidden, bias=False)


def _voxtral_realtime(s: Settings, audio: Settings, text: Settings) -> Named:
    folded = audio.hidden * s.size("downsample_factor")
    yield from two_linears("multi_modal_projector", folded, text.hidden, bias=False)


def _realtime_encoder(s: Settings) -> Named:
    hidden, heads = s.hidden, s.heads
    head_dim = s.optional_size("head_dim") or hidden // heads
    yield from whisper_convs(s, hidden, "embedder.")
    for index in range(s.layers):
        path = f"layers.{index}"
        for name, module in attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=True, output_bias=True):
            yield name, module._replace(bias=not name.endswith(".k_proj"))
        for name, module in gated_mlp(f"{path}.mlp", hidden, s.inner):
            yield name, module._replace(bias=name.endswith(".down_proj"))
        yield from norm(path, hidden, "self_attn_layer_norm", "final_layer_norm")
    yield from norm("norm", hidden)


# The width between the two linears that scale the norms of Voxtral Realtime's text by the delay.
_DELAY_WIDTH = 32


def _realtime_text(s: Settings) -> Named:
    def layer(path: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn")
        yield from plain_mlp(s, f"{path}.mlp")
        yield from chain(f"{path}.ada_rms_norm", (s.hidden, _DELAY_WIDTH, s.hidden), "linear1", "linear2")

    return stacked(s, layer)


def _realtime_part(model_type: str) -> Tower | None:
    return _REALTIME_TEXT if model_type == "voxtral_realtime_text" else text_tower(model_type)


def _large_text(s: Settings, *, scaled_rotation: bool = True) -> Named:
    """Latent attention whose layers may use an earlier one's latents, some without rotary positions."""
    indexes = indexer_kinds(s, offset=s.count("index_skip_topk_offset"))
    dense, sources = s.count("first_k_dense_replace"), s.numbers("kv_source_layers")
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= dense else "dense")
    experts = s.size("num_experts" if s.value("num_experts") is not None else "n_routed_experts")
    if "num_local_experts" in s.raw:
        experts = s.size("num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        owns = sources is None or index >= len(sources) or sources[index] == index
        yield from _large_attention(s, f"{prefix}.self_attn", rotates=_rotates(s, index), owns=owns)
        if indexes(index) != "shared":
            yield from _large_indexer(s, f"{prefix}.self_attn.indexer")
        yield from mixture_or_dense(s, f"{prefix}.mlp", experts, sparse=kind(index) == "sparse")

    yield from stacked(s, layer)
    if scaled_rotation:
        # Learned, so since transformers 5.24 a parameter: one for each frequency.
        yield from parameter("rotary_emb.alpha", (s.size("qk_rope_head_dim") + 1) // 2)


def _rotates(s: Settings, index: int) -> bool:
    listed = s.numbers("no_rope_layers")
    if listed is not None and index < len(listed):
        return bool(listed[index])
    return (index + 1) % s.size("no_rope_layer_interval") != 0


def _large_attention(s: Settings, path: str, *, rotates: bool, owns: bool) -> Named:
    bias = s.flag("attention_bias")
    rank, rope, nope = s.size("kv_lora_rank"), s.size("qk_rope_head_dim"), s.size("qk_nope_head_dim")
    value = s.size("v_head_dim")
    yield from linear(f"{path}.q_proj", s.heads * (nope + rope), s.hidden)
    if owns:
        yield from linear(f"{path}.kv_a_proj_with_mqa", rank + (rope if rotates else 0), s.hidden, bias=bias)
        yield from norm(f"{path}.kv_a_layernorm", rank)
    yield from linear(f"{path}.kv_b_proj", s.heads * (nope + (0 if rotates else rope) + value), rank)
    yield from linear(f"{path}.o_proj", s.hidden, s.heads * value, bias=bias)
    yield from _softmax_scaling(f"{path}.softmax_scaling", s.heads)


def _large_indexer(s: Settings, path: str) -> Named:
    yield from indexer(s, path, inputs=s.hidden)
    yield from layer_norm(f"{path}.q_input_norm", s.hidden)
    yield from _softmax_scaling(f"{path}.softmax_scaling", s.size("index_n_heads"))


def _softmax_scaling(path: str, heads: int) -> Named:
    yield from parameter(f"{path}.scale", heads)
    yield from parameter(f"{path}.bias", heads)


_MISTRAL3_VISION = vision_config("pixtral")
_LIGHTON_VISION = vision_config("pixtral")
_REALTIME_TEXT = Tower("voxtral_realtime_text", _realtime_text)
_LARGE_VISION = vision_config("pixtral")


def _large(text: Callable[[Settings], Named]) -> Build:
    return with_towers(
        fixed("text_config", Tower("mistral_large4_text", text)), seeing(_LARGE_VISION, mistral3_projector)
    )


ARCHITECTURES: Architectures = {
    "mistral": declared(framed(_mistral), targets=QUERY_VALUE),
    "ministral": declared(framed(_mistral, answering_prefix=TRANSFORMER)),
    "ministral3": like("mistral", {"default_targets": ()}),
    "mixtral": declared(
        framed(_mixtral),
        {TRANSFORMERS_4: framed(partial(_mixtral, experts=numbered_experts, block="block_sparse_moe"))},
        targets=QUERY_VALUE,
    ),
    "mistral3": llava_like(text_part("mistral"), _MISTRAL3_VISION, mistral3_projector, wrapped=False),
    "lighton_ocr": composite(
        with_towers(text_part("qwen3"), seeing(_LIGHTON_VISION, _lighton_projector, "vision_encoder"))
    ),
    "voxtral": heard(Part("text_config", "llama", filled=True), WHISPER_PART, _voxtral),
    "voxtral_realtime": heard(
        Part("text_config", "voxtral_realtime_text", _realtime_part, filled=True),
        fixed(
            "audio_config",
            Tower("voxtral_realtime_encoder", _realtime_encoder),
            attribute_map={**RENAMED_NAMES, "num_key_value_heads": "num_attention_heads"},
        ),
        _voxtral_realtime,
    ),
    "mistral4": declared(framed(deepseek_v3)),
    "mistral_large4": composite(
        _large(_large_text), {TRANSFORMERS_5_23: _large(partial(_large_text, scaled_rotation=False))}
    ),
    "mistral_large4_text": declared(
        framed(_large_text), {TRANSFORMERS_5_23: framed(partial(_large_text, scaled_rotation=False))}
    ),
}
