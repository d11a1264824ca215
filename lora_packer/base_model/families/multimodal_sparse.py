"""Models that see and whose language models are mixtures of experts: Aria, MiniMax-M3, Step 3.7 and Mistral 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4, Architecture
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import (
    declared,
    fields_by_layer,
    grouped_attention,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.composite import Part, Tower, composite, fixed, text_only, with_towers
from lora_packer.base_model.families.experts import deepseek_mixture
from lora_packer.base_model.families.mla import deepseek_v3, indexer_kinds
from lora_packer.base_model.families.multimodal import mistral3_projector, seeing
from lora_packer.base_model.families.multimodal_qwen import patch_embedding
from lora_packer.base_model.families.text_experts import ARCHITECTURES as TEXT
from lora_packer.base_model.families.vision import (
    clip_layers,
    conv,
    patch_conv,
    patches,
    siglip_body,
    tower_sizes,
    vision_config,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _aria_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Queries that attend to the patches: as many as the largest image needs."""
    width, hidden, path = vision.size("hidden_size"), text.size("hidden_size"), "multi_modal_projector"
    yield f"{path}.query", Module("parameter", (_aria_queries(s), width))
    for name in ("q_proj", "k_proj", "v_proj"):
        yield linear(f"{path}.cross_attn.{name}", width, width)
    yield f"{path}.cross_attn.multihead_attn.in_proj_weight", Module("parameter", (3 * width, width))
    yield f"{path}.cross_attn.multihead_attn.in_proj_bias", Module("parameter", (3 * width,))
    yield linear(f"{path}.cross_attn.multihead_attn.out_proj", width, width, bias=True)
    yield linear(f"{path}.cross_attn.linear", width, width, bias=True)
    for name in ("cross_attn.layer_norm", "cross_attn.layer_norm_kv", "layer_norm"):
        yield from layer_norm(f"{path}.{name}", width)
    yield linear(f"{path}.feed_forward.linear_in", hidden, width)
    yield linear(f"{path}.feed_forward.linear_out", hidden, hidden)


def _aria_queries(s: Settings) -> int:
    named = s.optional_size("max_value_projector_patch_to_query_dict")
    if named is not None:
        return named
    counts = s.value("projector_patch_to_query_dict")
    listed = list(counts.values()) if isinstance(counts, Mapping) and counts else [128, 256]
    return max(s.with_fields(projector_patch_to_query_dict=listed).sizes("projector_patch_to_query_dict"))


def _minimax_visual(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    channels = s.with_fields(in_channels=s.size("num_channels"))
    yield patch_embedding(channels, "embeddings.proj", hidden, bias=False)
    yield from layer_norm("pre_layrnorm", hidden)
    yield from clip_layers(s, "layers")


def _minimax_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Two linears for each patch, and two for the patches that are merged."""
    hidden, width = text.size("hidden_size"), s.size("projector_hidden_size")
    merged = hidden * vision.size("spatial_merge_size") ** 2
    for name, inputs in (("linear", vision.size("hidden_size")), ("merge_linear", merged)):
        yield linear(f"multi_modal_projector.{name}_1", width, inputs, bias=True)
        yield linear(f"multi_modal_projector.{name}_2", hidden, width, bias=True)


def _step_text(s: Settings) -> Named:
    """Gated attention, with other numbers of heads in sliding layers, and experts from the fourth layer on."""
    hidden, head_dim, bias = s.size("hidden_size"), s.size("head_dim"), s.flag("attention_bias")
    attends = layer_kinds(s.names("layer_types"), lambda _: "full_attention")
    kind, mlp_bias = _step_kinds(s), s.flag("mlp_bias")
    by_layer = {} if "per_layer_config" in s.raw and s.value("per_layer_config") is None else fields_by_layer(s)

    def layer(prefix: str, index: int) -> Named:
        saved = None if by_layer is None else by_layer.get(index, {})
        heads = _step_heads(s, saved, sliding=attends(index) == "sliding_attention")
        own = s.with_fields(num_attention_heads=heads)
        yield from grouped_attention(own, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield linear(f"{prefix}.self_attn.g_proj", heads, hidden)
        if kind(index) == "sparse":
            yield from fused_experts(
                f"{prefix}.mlp", hidden, s.size("moe_intermediate_size"), s.size("n_routed_experts")
            )
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, s.size("share_expert_dim"), bias=mlp_bias)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=mlp_bias)

    return stacked(s, layer)


def _step_kinds(s: Settings) -> Callable[[int], str]:
    """Which layers have experts: listed by kind, by number, or as numbers between commas."""
    listed, named = s.names("mlp_layer_types"), s.value("moe_layers_enum")
    if listed is not None or named is None:
        return layer_kinds(listed, lambda index: "sparse" if index >= 3 else "dense")
    if isinstance(named, str):
        numbers = frozenset(number.strip() for number in named.split(","))
    else:
        numbers = frozenset(str(number) for number in s.indices("moe_layers_enum"))
    return lambda index: "sparse" if str(index) in numbers else "dense"


def _step_heads(s: Settings, saved: Mapping[str, Any] | None, *, sliding: bool) -> int:
    """The number of heads: as saved for the layer, or that of sliding layers."""
    if saved is not None:
        return Settings(saved, {}).optional_size("num_attention_heads") or s.size("num_attention_heads")
    if not sliding:
        return s.size("num_attention_heads")
    other = s.nested("attention_other_setting").optional_size("num_attention_heads")
    return s.optional_size("num_sliding_attention_heads") or other or s.size("num_attention_heads")


def _step_visual(s: Settings) -> Named:
    s = s.aliased({"width": "hidden_size", "layers": "num_hidden_layers"})
    hidden, inner = s.size("hidden_size"), int(s.size("hidden_size") * s.ratio("mlp_ratio"))
    yield patch_conv(s, "embeddings.patch_embedding", bias=False)
    yield "embeddings.position_embedding", Module("embedding", (patches(s), hidden))
    yield from layer_norm("pre_layernorm", hidden)
    yield from scaled_layers(s, inner)
    yield conv("downsampler1", (2 * hidden, hidden, 3, 3), bias=True)
    yield conv("downsampler2", (4 * hidden, 2 * hidden, 3, 3), bias=True)


def scaled_layers(s: Settings, inner: int) -> Named:
    """CLIP's layers under BEiT's names, each with two scales."""
    hidden = s.size("hidden_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield f"{path}.lambda_1", Module("parameter", (hidden,))
        yield f"{path}.lambda_2", Module("parameter", (hidden,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{path}.self_attn.{name}", hidden, hidden, bias=True)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.layernorm_before", hidden)
        yield from layer_norm(f"{path}.layernorm_after", hidden)


def _step_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden = vision.aliased({"width": "hidden_size"}).size("hidden_size")
    yield linear("multi_modal_projector", text.size("hidden_size"), 4 * hidden, bias=s.flag("projector_bias"))


def _large_text(s: Settings) -> Named:
    """Latent attention whose layers may use an earlier one's latents, some without rotary positions."""
    hidden = s.size("hidden_size")
    indexer = indexer_kinds(s, offset=s.count("index_skip_topk_offset"))
    dense, sources = s.count("first_k_dense_replace"), s.numbers("kv_source_layers")
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= dense else "dense")
    experts = s.size("num_experts" if s.value("num_experts") is not None else "n_routed_experts")
    if "num_local_experts" in s.raw:
        experts = s.size("num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        owns = sources is None or index >= len(sources) or sources[index] == index
        yield from _large_attention(s, f"{prefix}.self_attn", rotates=_rotates(s, index), owns=owns)
        if indexer(index) != "shared":
            yield from _large_indexer(s, f"{prefix}.self_attn.indexer")
        if kind(index) == "sparse":
            yield from deepseek_mixture(s, f"{prefix}.mlp", experts)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _rotates(s: Settings, index: int) -> bool:
    listed = s.numbers("no_rope_layers")
    if listed is not None and index < len(listed):
        return bool(listed[index])
    return (index + 1) % s.size("no_rope_layer_interval") != 0


def _large_attention(s: Settings, path: str, *, rotates: bool, owns: bool) -> Named:
    hidden, heads, bias = s.size("hidden_size"), s.size("num_attention_heads"), s.flag("attention_bias")
    rank, rope, nope = s.size("kv_lora_rank"), s.size("qk_rope_head_dim"), s.size("qk_nope_head_dim")
    value = s.size("v_head_dim")
    yield linear(f"{path}.q_proj", heads * (nope + rope), hidden)
    if owns:
        yield linear(f"{path}.kv_a_proj_with_mqa", rank + (rope if rotates else 0), hidden, bias=bias)
        yield norm(f"{path}.kv_a_layernorm", rank)
    yield linear(f"{path}.kv_b_proj", heads * (nope + (0 if rotates else rope) + value), rank)
    yield linear(f"{path}.o_proj", hidden, heads * value, bias=bias)
    yield from _softmax_scaling(f"{path}.softmax_scaling", heads)


def _large_indexer(s: Settings, path: str) -> Named:
    hidden, heads, size = s.size("hidden_size"), s.size("index_n_heads"), s.size("index_head_dim")
    yield linear(f"{path}.wq_b", heads * size, hidden)
    yield linear(f"{path}.wk", size, hidden)
    yield from layer_norm(f"{path}.k_norm", size)
    yield linear(f"{path}.weights_proj", heads, hidden)
    yield from layer_norm(f"{path}.q_input_norm", hidden)
    yield from _softmax_scaling(f"{path}.softmax_scaling", heads)


def _softmax_scaling(path: str, heads: int) -> Named:
    yield f"{path}.scale", Module("parameter", (heads,))
    yield f"{path}.bias", Module("parameter", (heads,))


def _aria() -> Architecture:
    tower = Tower(tower_sizes(1152, 3072, 12, 16, 32, 224), siglip_body)
    beside = seeing(Part("vision_config", "idefics3_vision", {"idefics3_vision": tower}.get), _aria_projector)
    text, before_5 = Part("text_config", "aria_text"), TEXT["aria_text"].dialects[TRANSFORMERS_4]
    older = fixed("text_config", Tower(TEXT["aria_text"].defaults, lambda s: before_5(s, "none")))
    dialects = {TEXT_ONLY: text_only(text), TRANSFORMERS_4: with_towers(older, beside)}
    return composite({}, with_towers(text, beside), dialects)


_MINIMAX_TEXT = Part("text_config", "minimax_m3_vl_text")
_MINIMAX_VISION = tower_sizes(1280, 5120, 32, 16, 14, 2016, temporal_patch_size=2, spatial_merge_size=2)
_STEP = sizes(
    128815,
    4096,
    11264,
    45,
    64,
    8,
    head_dim=128,
    moe_intermediate_size=1280,
    n_routed_experts=288,
    share_expert_dim=1280,
)
_STEP_TEXT = fixed(
    "text_config",
    Tower(_STEP, _step_text),
    attribute_map={
        "moe_num_experts": "n_routed_experts",
        "num_attention_groups": "num_key_value_heads",
        "share_expert_dims": "share_expert_dim",
    },
)
_STEP_VISION = tower_sizes(1536, 0, 47, 16, 14, 728, mlp_ratio=8960 / 1536)
_LATENT: dict[str, Any] = {"qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "v_head_dim": 128, "n_shared_experts": 1}
_MISTRAL4 = sizes(
    131072,
    4096,
    12288,
    36,
    32,
    32,
    moe_intermediate_size=2048,
    n_routed_experts=128,
    kv_lora_rank=256,
    q_lora_rank=1024,
    first_k_dense_replace=0,
    **_LATENT,
)
_LARGE = sizes(
    204800,
    6144,
    24576,
    72,
    64,
    64,
    moe_intermediate_size=6144,
    n_routed_experts=128,
    kv_lora_rank=512,
    index_head_dim=128,
    index_n_heads=32,
    first_k_dense_replace=1,
    index_skip_topk_offset=2,
    no_rope_layer_interval=4,
    **_LATENT,
)
_LARGE_VISION = vision_config("pixtral", tower_sizes(2048, 6144, 30, 16, 14, 1540))

ARCHITECTURES: Mapping[str, Architecture] = {
    "aria": _aria(),
    "minimax_m3_vl": composite(
        {"projector_hidden_size": 6144},
        with_towers(
            _MINIMAX_TEXT,
            seeing(fixed("vision_config", Tower(_MINIMAX_VISION, _minimax_visual)), _minimax_projector),
        ),
        {TEXT_ONLY: text_only(_MINIMAX_TEXT)},
    ),
    "step3p7": composite(
        {},
        with_towers(
            _STEP_TEXT,
            seeing(fixed("vision_config", Tower(_STEP_VISION, _step_visual)), _step_projector, "vision_model"),
        ),
    ),
    "mistral4": declared(_MISTRAL4, deepseek_v3),
    "mistral_large4": composite(
        {"vision_feature_layer": -1, "spatial_merge_size": 2},
        with_towers(fixed("text_config", Tower(_LARGE, _large_text)), seeing(_LARGE_VISION, mistral3_projector)),
    ),
}
