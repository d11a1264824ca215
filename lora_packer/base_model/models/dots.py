"""The dots models: experts, and a model of notes that sees and hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_5, Architectures, Head, Proof, declared, remote
from lora_packer.base_model.blocks.composite import Part, Tower, below, composite, fixed, text_only, with_towers
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    deepseek_experts,
    fused_experts,
    parameter_routed_experts,
    sparse_layers,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import fields_by_layer, framed, head_modules, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import indexer, latent_attention
from lora_packer.base_model.blocks.layers import chain, conv, layer_norm, linear, norm
from lora_packer.base_model.blocks.towers import patch_conv
from lora_packer.base_model.models.glm import glm4_moe
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES as REGISTRY
from lora_packer.base_model.settings import Settings


def _dots1(s: Settings, *, experts: Experts = fused_experts) -> Named:
    return glm4_moe(s, experts=experts, normed=True, output_bias=True)


_SLIDING = ("num_attention_heads", "q_lora_rank", "kv_lora_rank", "head_dim", "qk_nope_head_dim", "v_head_dim")


def _dots3_note(s: Settings) -> Named:
    """dots.note's decoder: sliding layers have sizes of their own, the others an indexer."""
    feeds = sparse_layers(s)
    attends, indexes = _dots3_layers(s)
    shared = s.aliased({"moe_shared_expert_intermediate_size": "shared_experts_intermediate_size"})
    shared_inner = shared.size("moe_shared_expert_intermediate_size") * s.size("n_shared_experts")
    count, inner = deepseek_experts(s), s.size("moe_intermediate_size")
    saved, sliding = fields_by_layer(s), _sliding_fields(s)

    def fields(index: int) -> Mapping[str, Any]:
        if saved is not None:
            return saved.get(index, {})
        return sliding if attends(index) == "sliding_attention" else {}

    def layer(prefix: str, index: int) -> Named:
        path, kind, own = f"{prefix}.self_attn", attends(index), s.with_fields(**fields(index))
        yield from latent_attention(own, path)
        yield from norm(f"{path}.k_rope_only_layernorm", own.size("qk_rope_head_dim"))
        yield from linear(f"{path}.g_proj", own.heads, s.hidden)
        if kind in indexes:
            yield from indexer(own, f"{path}.indexer")
        if feeds(index) == "sparse":
            yield from fused_experts(f"{prefix}.mlp", s.hidden, inner, count)
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, shared_inner)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _dots3_layers(s: Settings) -> tuple[Callable[[int], str], tuple[str, ...]]:
    """Return the kind of each layer, and which kinds have an indexer.

    With ``use_dsa`` "full" and "indexed" mean the same; a config saved with ``per_layer_config`` says what it means.
    """
    slides = s.value("use_sliding_window") is not False
    uses = s.value("use_dsa") if "use_dsa" in s.raw or "per_layer_config" in s.raw else True
    full = "full_attention" if uses is False else "indexed_attention"
    attends = layer_kinds(
        s.names("layer_types"), lambda index: full if not slides or index < 2 or index % 4 == 1 else "sliding_attention"
    )
    if uses is None:
        return attends, ("indexed_attention",)
    return attends, ("indexed_attention", "full_attention") if uses else ()


def _sliding_fields(s: Settings) -> Mapping[str, Any]:
    """The fields that sliding layers have in place of the config's own."""
    own = {name: s.value(f"swa_{name}") for name in _SLIDING}
    rope = s.optional_size("swa_qk_rope_head_dim") or s.size("swa_head_dim") - s.size("swa_qk_nope_head_dim")
    return {**own, "qk_rope_head_dim": rope}


# What a layer is, by its number.
Kind = Callable[[int], str]
# How many experts the layers of the tower have by default; -1: a dense block.
_PYRAMID = (*(-1 for _ in range(25)), *range(4, 65, 4), 64)


def _dots3_visual(s: Settings) -> Named:
    """Blocks of which the upper ones have experts, more the higher they are."""
    s = s.aliased({"embed_dim": "hidden_size", "num_heads": "num_attention_heads", "use_bias": "attention_bias"})
    hidden, inner, bias = s.hidden, s.inner, s.flag("attention_bias")
    head_dim = hidden // s.heads
    merge = s.size("adapter_merge_size")
    folded = s.size("adapter_in_dim")
    kind, experts = _dots3_experts(s)
    yield from patch_conv(s, "patch_embed.proj", bias=True)
    yield from norm("patch_embed.norm", hidden)
    for index in range(s.layers):
        path = f"blocks.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * hidden, hidden, bias=bias)
        yield from linear(f"{path}.attn.proj", hidden, hidden, bias=bias)
        yield from norm(f"{path}.attn", head_dim, "q_norm", "k_norm")
        if kind(index) == "sparse":
            count = experts.get(index, s.size("num_local_experts"))
            yield from fused_experts(f"{path}.mlp", hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from gated_mlp(f"{path}.mlp", hidden, inner, bias=s.flag("mlp_bias"))
        yield from norm(path, hidden, "norm1", "norm2")
    yield from norm("norm", hidden)
    merged = folded * merge**2
    yield from layer_norm("merger.ln_q", folded)
    yield from chain("merger.mlp", (merged, merged, s.size("adapter_out_dim")), "0", "2", bias=True)


def _dots3_experts(s: Settings) -> tuple[Kind, Mapping[int, int]]:
    """What each layer is, and the numbers of experts of single layers."""
    listed, pyramid = s.names("mlp_layer_types"), s.value("pyramid_num_routed")
    default = _PYRAMID if listed is None else ()
    counts = pyramid if isinstance(pyramid, list | tuple) else default
    experts = {index: count for index, count in enumerate(counts) if type(count) is int and count > 0}
    if counts:
        listed = tuple("sparse" if index in experts else "dense" for index in range(len(counts)))
    if "per_layer_config" in s.raw:
        named = {index: Settings(fields, {}) for index, fields in (fields_by_layer(s) or {}).items()}
        experts = {i: own.size("num_local_experts") for i, own in named.items() if own.value("num_local_experts")}
    return layer_kinds(listed, lambda _: "dense"), experts


def _audio(s: Settings) -> Named:
    """Whisper with a gated feed-forward block; older configs have its fields in a config of their own."""
    older = s.nested("whisper_config").raw
    s = s.with_fields(**{name: older[legacy] for legacy, name in _WHISPER.items() if legacy in older})
    hidden, inner, bias = s.hidden, s.inner, s.flag("attention_bias")
    width = hidden // s.heads * s.heads
    channels = s.size("downsample_hidden_size")
    for index, inputs in enumerate((1, channels, channels)):
        yield from conv(f"conv_stem.convs.{index}", (channels, inputs, 3, 3), bias=True)
    folded = s.optional_size("conv_output_size") or channels * ((s.size("feature_size") + 7) // 8)
    yield from linear("conv_stem.conv_out", hidden, folded)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from linear(f"{path}.self_attn.q_proj", width, hidden, bias=bias)
        yield from linear(f"{path}.self_attn.k_proj", hidden, hidden)
        yield from linear(f"{path}.self_attn.v_proj", width, hidden, bias=bias)
        yield from linear(f"{path}.self_attn.o_proj", hidden, width, bias=bias)
        yield from linear(f"{path}.mlp.gate_up_proj", 2 * inner, hidden, bias=True)
        yield from linear(f"{path}.mlp.down_proj", hidden, inner, bias=True)
        yield from norm(path, hidden, "input_layernorm", "post_attention_layernorm")
    yield from norm("layer_norm", hidden)
    s = s.aliased({"whisper_adapter_in_dim": "adapter_input_size", "adapter_output_size": "adapter_out_dim"})
    outputs = s.aliased({"whisper_adapter_out_dim": "adapter_out_dim"}).size("adapter_out_dim")
    yield from layer_norm("adapter.norm", s.size("adapter_input_size"))
    yield from chain("adapter", (s.size("adapter_input_size"), outputs, outputs), "fc1", "fc2", bias=True)


def _dots3_beside(s: Settings, _text: Settings) -> Named:
    for name, part in (("vision_tower", _VISION_PART), ("audio_tower", _AUDIO_PART)):
        settings, modules = part.of(s)
        yield from below(name, modules(settings))


# What Whisper's config calls the fields.
_WHISPER = {
    "d_model": "hidden_size",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_layers": "num_hidden_layers",
    "encoder_ffn_dim": "intermediate_size",
    "num_mel_bins": "feature_size",
}
_VISION_PART = fixed("vision_config", Tower("dots3_note_vision_encoder", _dots3_visual))
_AUDIO_PART = fixed("audio_config", Tower("dots3_note_audio_encoder", _audio))
_TEXT = Part("text_config", "dots3_note_text", flat=True)


def _dots_ocr(s: Settings) -> Named:
    """dots.ocr as its own repository has it: Qwen 2's decoder."""
    return REGISTRY["qwen2"].dialects[TRANSFORMERS_5](s, "none")


def _dots_ocr_beside(s: Settings, head: Head) -> Named:
    """The head, and the tower beside the decoder."""
    yield from head_modules(s, head)
    yield from below("vision_tower", _dots_ocr_visual(s.nested("vision_config")))


def _dots_ocr_visual(s: Settings) -> Named:
    width, patch, bias = s.size("embed_dim"), s.size("patch_size"), s.flag("use_bias")
    yield from conv("patch_embed.patchifier.proj", (width, s.size("num_channels"), patch, patch), bias=True)
    yield from norm("patch_embed.patchifier.norm", width)
    for index in range(s.layers):
        path = f"blocks.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * width, width, bias=bias)
        yield from linear(f"{path}.attn.proj", width, width, bias=bias)
        yield from linear(f"{path}.mlp", s.inner, width, "fc1", "fc3", bias=bias)
        yield from linear(f"{path}.mlp.fc2", width, s.inner, bias=bias)
        yield from norm(path, width, "norm1", "norm2")
    if s.flag("post_norm"):
        yield from norm("post_trunk_norm", width)
    merged = width * s.size("spatial_merge_size") ** 2
    yield from layer_norm("merger.ln_q", width)
    yield from chain("merger.mlp", (merged, merged, s.hidden), "0", "2", bias=True)


ARCHITECTURES: Architectures = {
    "dots_ocr": remote(
        framed(_dots_ocr, heads=_dots_ocr_beside),
        Proof("read", "vllm/model_executor/models/dots_ocr.py (vllm 0.33.0)"),
    ),
    "dots1": declared(*both_names(_dots1, parameter_routed_experts, framed)),
    "dots3_note_text": declared(framed(_dots3_note)),
    "dots3_note": composite(with_towers(_TEXT, _dots3_beside), {TEXT_ONLY: text_only(_TEXT)}, flat_text=True),
}
