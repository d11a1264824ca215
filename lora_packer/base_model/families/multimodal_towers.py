"""Models whose towers and language models are both their own: Molmo 2, ERNIE 4.5 VL and Hunyuan-VL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks import Named, attention, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import (
    decoder,
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.composite import Tower, below, composite, fixed, with_towers
from lora_packer.base_model.families.multimodal import seeing
from lora_packer.base_model.families.multimodal_qwen import depth
from lora_packer.base_model.families.vision import conv, patch_conv, tower_sizes
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _molmo_text(s: Settings) -> Named:
    s = s.aliased({"qkv_bias": "attention_bias"})
    heads, kv_heads, head_dim = head_sizes(s)
    per_head = s.value("qk_norm_type") == "qwen3"

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        query, key = (head_dim, head_dim) if per_head else (heads * head_dim, kv_heads * head_dim)
        yield from qk_norms(f"{prefix}.self_attn", query, key)
        yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"))

    rows = s.size("vocab_size") + s.count("additional_vocab_size")
    for path, module in decoder(s, layer):
        # The head does not predict the additional tokens.
        yield embedding(path, rows, s.size("hidden_size")) if path == "embed_tokens" else (path, module)


def _molmo_attention(s: Settings, path: str, inputs: int) -> Named:
    bias, (heads, kv_heads, head_dim) = s.flag("attention_bias"), head_sizes(s)
    yield linear(f"{path}.q_proj", heads * head_dim, inputs, bias=bias)
    yield linear(f"{path}.k_proj", kv_heads * head_dim, inputs, bias=bias)
    yield linear(f"{path}.v_proj", kv_heads * head_dim, inputs, bias=bias)
    yield linear(f"{path}.o_proj", s.size("hidden_size"), heads * head_dim, bias=bias)


def _molmo_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    patch = s.size("image_patch_size" if "image_patch_size" in s.raw else "patch_size")
    yield "positional_embedding", Module("parameter", (_molmo_positions(s, patch), hidden))
    yield linear("patch_embedding", hidden, s.size("num_channels") * patch**2, bias=True)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield from _molmo_attention(s, f"{path}.self_attn", hidden)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.layer_norm1", hidden)
        yield from layer_norm(f"{path}.layer_norm2", hidden)


def _molmo_positions(s: Settings, patch: int) -> int:
    named = "image_num_pos" if "image_num_pos" in s.raw else "num_position_embeddings"
    height, width = s.pair("image_default_input_size" if "image_default_input_size" in s.raw else "image_size")
    return s.optional_size(named) or (height // patch) * (width // patch)


def _molmo_beside(s: Settings, _text: Settings) -> Named:
    legacy = s.value("vit_config")
    whole = s if s.value("vision_config") is not None or legacy is None else s.with_fields(vision_config=legacy)
    vision, visual = _MOLMO_VISION_PART.of(whole)
    adapter, _ = _MOLMO_ADAPTER_PART.of(s)
    read = _read_layers(adapter)
    if legacy is not None:
        # Layers above the last one that is read are left out.
        layers = vision.size("num_hidden_layers")
        vision = vision.with_fields(num_hidden_layers=max(layer % layers for layer in read) + 1)
    yield from below("vision_tower", visual(vision))
    hidden, inner, bias = adapter.size("hidden_size"), adapter.size("intermediate_size"), adapter.flag("mlp_bias")
    path = "multi_modal_projector"
    yield from _molmo_attention(adapter, f"{path}.image_pooling_2d", hidden * len(read))
    yield linear(f"{path}.image_projector.gate_proj", inner, hidden, bias=bias)
    yield linear(f"{path}.image_projector.up_proj", inner, hidden, bias=bias)
    yield linear(f"{path}.image_projector.down_proj", adapter.size("text_hidden_size"), inner)


def _read_layers(adapter: Settings) -> list[int]:
    """The tower's layers that the adapter reads. Raises InputError."""
    layers = adapter.value("vit_layers" if "vit_layers" in adapter.raw else "vision_feature_layer") or [24, 18]
    if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
        raise InputError(
            "the base config's vision_feature_layer is not a list of whole numbers.",
            hint="Use the base model's own config.json.",
        )
    return list(layers)


def _ernie_text(s: Settings) -> Named:
    s = s.aliased({"num_experts": "moe_num_experts"})
    hidden, bias = s.size("hidden_size"), s.flag("use_bias")
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        if kind(index) == "sparse":
            yield from _ernie_experts(s, f"{prefix}.mlp", hidden, bias=bias)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=bias)

    return stacked(s, layer)


def _ernie_experts(s: Settings, path: str, hidden: int, *, bias: bool) -> Named:
    """Experts for text and experts for images, of sizes of their own, and shared ones."""
    experts, shared = s.size("moe_num_experts"), s.count("moe_num_shared_experts")
    for_text, for_images = s.pair("moe_intermediate_size")
    for name, inner in (("text_moe", for_text), ("vision_moe", for_images)):
        yield f"{path}.{name}.gate.weight", Module("parameter", (experts, hidden))
        yield f"{path}.{name}.gate.moe_statics.e_score_correction_bias", Module("parameter", (1, experts))
        yield f"{path}.{name}.experts.gate_up_proj", Module("parameter", (experts, 2 * inner, hidden))
        yield f"{path}.{name}.experts.down_proj", Module("parameter", (experts, hidden, inner))
    if shared:
        yield from gated_mlp(f"{path}.shared_experts", hidden, for_text * shared, bias=bias)


def _ernie_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield linear("patch_embed.proj", hidden, s.size("in_channels") * s.size("patch_size") ** 2)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield linear(f"{path}.attn.qkv", 3 * hidden, hidden, bias=True)
        yield linear(f"{path}.attn.proj", hidden, hidden, bias=True)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.norm1", hidden)
        yield from layer_norm(f"{path}.norm2", hidden)
    yield from layer_norm("ln", hidden)


def _ernie_resampler(_s: Settings, vision: Settings, text: Settings) -> Named:
    """Folds neighbours in space, then in time, into one token."""
    space = vision.size("hidden_size") * vision.size("spatial_merge_size") ** 2
    for name, inputs in (("spatial_linear", space), ("temporal_linear", space * vision.size("temporal_merge_size"))):
        yield linear(f"resampler_model.{name}.fc1", space, inputs, bias=True)
        yield linear(f"resampler_model.{name}.fc2", space, space, bias=True)
        yield from layer_norm(f"resampler_model.{name}.ln", space)
    yield linear("resampler_model.mlp", text.size("hidden_size"), space, bias=True)
    yield norm("resampler_model.after_norm", text.size("hidden_size"))


def _hunyuan_text(s: Settings) -> Named:
    bias, (_, _, head_dim) = s.flag("attention_bias"), head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim, ("query_layernorm", "key_layernorm"))
        yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"))

    return decoder(s, layer)


def _hunyuan_visual(s: Settings) -> Named:
    s = s.aliased({"attention_heads": "num_attention_heads"})
    hidden, inner, heads = s.size("hidden_size"), s.size("intermediate_size"), s.size("num_attention_heads")
    head_dim = s.optional_size("head_dim") or hidden // heads
    yield patch_conv(s, "embeddings.patch_embedding", bias=True)
    positions = (s.size("max_image_size") // s.size("patch_size")) ** 2 + 1
    yield embedding("embeddings.position_embedding", positions, hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield from attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=True, output_bias=True)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.layer_norm1", hidden)
        yield from layer_norm(f"{path}.layer_norm2", hidden)


def _hunyuan_merger(_s: Settings, vision: Settings, text: Settings) -> Named:
    hidden, outputs, merge = vision.size("hidden_size"), text.size("hidden_size"), vision.size("spatial_merge_size")
    path = "vision_tower.patch_merger"
    yield conv(f"{path}.proj_conv", (2 * hidden, hidden, merge, merge), bias=True)
    yield conv(f"{path}.proj_out", (4 * hidden, 2 * hidden, 1, 1), bias=True)
    yield linear(f"{path}.mlp", outputs, 4 * hidden, bias=True)
    yield f"{path}.image_newline", Module("parameter", (4 * hidden,))
    for name in ("image_begin", "image_end", "image_sep"):
        yield f"{path}.{name}", Module("parameter", (outputs,))
    yield norm(f"{path}.before_rms", hidden)
    yield norm(f"{path}.after_rms", outputs)


_MOLMO_VISION = tower_sizes(
    1152, 4304, 25, 16, 14, [378, 378], num_key_value_heads=16, head_dim=72, attention_bias=True
)
_MOLMO_ADAPTER: dict[str, Any] = {
    "hidden_size": 1152,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "attention_bias": True,
    "intermediate_size": 18944,
    "text_hidden_size": 3584,
    "mlp_bias": False,
}
_MOLMO_TEXT = sizes(151936, 4096, 12288, 36, 32, 8, head_dim=128, additional_vocab_size=128, qk_norm_type="qwen3")
_MOLMO_VISION_PART = fixed("vision_config", Tower(_MOLMO_VISION, _molmo_visual))
_MOLMO_ADAPTER_PART = fixed("adapter_config", Tower(_MOLMO_ADAPTER, lambda _: iter(())))
_ERNIE_TEXT = sizes(
    103424,
    2560,
    12288,
    28,
    20,
    4,
    moe_intermediate_size=[1536, 512],
    moe_num_experts=64,
    moe_num_shared_experts=2,
)
_ERNIE_VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_merge_size": 2,
    "intermediate_size": 5120,
}
_HUNYUAN_TEXT = sizes(290943, 4096, 11008, 32, 32, None)
_HUNYUAN_VISION = tower_sizes(1152, 4304, 27, 16, 16, 0, max_image_size=2048, spatial_merge_size=2)

ARCHITECTURES: Mapping[str, Architecture] = {
    "molmo2": composite({}, with_towers(fixed("text_config", Tower(_MOLMO_TEXT, _molmo_text)), _molmo_beside)),
    "ernie4_5_vl_moe": composite(
        {},
        with_towers(
            fixed("text_config", Tower(_ERNIE_TEXT, _ernie_text)),
            seeing(fixed("vision_config", Tower(_ERNIE_VISION, _ernie_visual)), _ernie_resampler),
        ),
    ),
    "hunyuan_vl": composite(
        {},
        with_towers(
            fixed(
                "text_config",
                Tower(_HUNYUAN_TEXT, _hunyuan_text),
                flat=True,
                attribute_map={"attention_head_dim": "head_dim", "org_vocab_size": "vocab_size"},
            ),
            seeing(fixed("vision_config", Tower(_HUNYUAN_VISION, _hunyuan_visual)), _hunyuan_merger),
        ),
        flat_text=True,
    ),
}
