"""The later GLM-V models, and EXAONE 4.5: language models that have a definition of their own below a fused tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks import Named, attention, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import decoder, head_sizes, layer_kinds, sizes, stacked
from lora_packer.base_model.families.composite import Part, Tower, composite, fixed, with_towers
from lora_packer.base_model.families.experts import deepseek_mixture
from lora_packer.base_model.families.mla import indexer_kinds, latent_attention
from lora_packer.base_model.families.multimodal_more import ARCHITECTURES as MORE
from lora_packer.base_model.families.multimodal_qwen import (
    QWEN2_5_VISION,
    depth,
    patch_embedding,
    qwen2_5_visual,
    visual,
)
from lora_packer.base_model.families.vision import conv
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def glm_ocr_visual(s: Settings) -> Named:
    """The tower of GLM-OCR: norms on queries and keys, and no positions."""
    width, outputs, bias = s.size("hidden_size"), s.size("out_hidden_size"), s.flag("attention_bias")
    inner, head_dim = (
        s.size("intermediate_size"),
        width // s.aliased({"num_attention_heads": "num_heads"}).size("num_heads"),
    )
    yield patch_embedding(s, "patch_embed.proj", width, bias=True)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield linear(f"{path}.attn.qkv", 3 * width, width, bias=bias)
        yield linear(f"{path}.attn.proj", width, width, bias=bias)
        yield norm(f"{path}.attn.q_norm", head_dim)
        yield norm(f"{path}.attn.k_norm", head_dim)
        yield from gated_mlp(f"{path}.mlp", width, inner, bias=bias)
        yield norm(f"{path}.norm1", width)
        yield norm(f"{path}.norm2", width)
    yield linear("merger.proj", outputs, outputs)
    yield from layer_norm("merger.post_projection_norm", outputs)
    projected = s.optional_size("projection_intermediate_size") or outputs * s.size("in_channels")
    yield from gated_mlp("merger", outputs, projected)
    merge = s.size("spatial_merge_size")
    yield conv("downsample", (outputs, width, merge, merge), bias=True)
    yield norm("post_layernorm", width)


def _glm_ocr_text(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")

    def layer(prefix: str) -> Named:
        yield from attention(f"{prefix}.self_attn", hidden, *head_sizes(s))
        yield linear(f"{prefix}.mlp.gate_up_proj", 2 * inner, hidden)
        yield linear(f"{prefix}.mlp.down_proj", hidden, inner)

    return decoder(s, layer, {"post_self_attn_layernorm": hidden, "post_mlp_layernorm": hidden})


def _glm5_next_text(s: Settings) -> Named:
    """Layers of linear attention between layers of latent attention with an indexer, and hyper-connections."""
    s = s.aliased({"num_local_experts": "n_routed_experts"})
    kind = layer_kinds(
        s.names("layer_types"), lambda index: "indexed_attention" if index % 4 == 3 else "linear_attention"
    )
    sparse = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= 3 else "dense")
    shares, streams, hidden = (
        indexer_kinds(s, offset=s.count("index_skip_topk_offset")),
        s.size("hc_mult"),
        s.size("hidden_size"),
    )

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from _delta_attention(s, f"{prefix}.self_attn")
        else:
            yield from latent_attention(s, f"{prefix}.self_attn", rope=0)
            if shares(index) != "shared":
                yield from _pooling_indexer(s, f"{prefix}.self_attn.indexer")
        if sparse(index) == "sparse":
            yield from deepseek_mixture(s, f"{prefix}.mlp", s.size("n_routed_experts"))
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))
        for name in ("attn_hc", "ffn_hc"):
            weights = (2 + streams) * streams
            yield f"{prefix}.{name}.fn", Module("parameter", (weights, streams * hidden))
            yield f"{prefix}.{name}.base", Module("parameter", (weights,))
            yield f"{prefix}.{name}.scale", Module("parameter", (3,))

    return stacked(s, layer)


def _delta_attention(s: Settings, path: str) -> Named:
    """Kimi's delta attention: a delta rule whose gate differs by channel."""
    legacy = s.nested("linear_attn_config")
    hidden = s.size("hidden_size")
    head_dim = legacy.optional_size("head_dim") or s.size("linear_head_dim")
    heads = legacy.optional_size("num_heads") or s.size("linear_num_heads")
    kernel = legacy.optional_size("short_conv_kernel_size") or s.size("linear_conv_kernel_dim")
    width = heads * head_dim
    for name in ("q_proj", "k_proj", "v_proj"):
        yield linear(f"{path}.{name}", width, hidden)
    yield conv(f"{path}.conv1d", (3 * width, 1, kernel), bias=False)
    yield f"{path}.forget_gate.dt_bias", Module("parameter", (width,))
    yield f"{path}.forget_gate.A_log", Module("parameter", (heads,))
    yield linear(f"{path}.forget_gate.f_a_proj", head_dim, hidden)
    yield linear(f"{path}.forget_gate.f_b_proj", width, head_dim)
    yield linear(f"{path}.b_proj", heads, hidden)
    yield linear(f"{path}.g_a_proj", head_dim, hidden)
    yield linear(f"{path}.g_b_proj", width, head_dim)
    yield norm(f"{path}.o_norm", head_dim)
    yield linear(f"{path}.o_proj", hidden, width)


def _pooling_indexer(s: Settings, path: str) -> Named:
    """The indexer of DeepSeek's sparse attention, over keys that are pooled."""
    hidden, heads, size = s.size("hidden_size"), s.size("index_n_heads"), s.size("index_head_dim")
    yield linear(f"{path}.wq_b", heads * size, s.size("q_lora_rank"))
    yield linear(f"{path}.wk", size, hidden)
    yield from layer_norm(f"{path}.k_norm", size)
    yield linear(f"{path}.weights_proj", heads, hidden)
    yield f"{path}.index_kpool_compress_ape", Module("parameter", (s.size("index_kpool"), size))
    yield f"{path}.index_kpool_compress_gate", Module("parameter", (size, hidden))


def _exaone_visual(s: Settings) -> Named:
    """The tower of Qwen2.5-VL, with fewer heads of keys and values."""
    named = s.aliased({"num_attention_heads": "num_heads"})
    width, heads = s.size("hidden_size"), named.size("num_heads")
    keys = s.size("num_key_value_heads") * (width // heads)
    for path, module in qwen2_5_visual(s):
        fused = path.endswith(".attn.qkv")
        yield linear(path, width // heads * heads + 2 * keys, width, bias=True) if fused else (path, module)


GLM_OCR_VISION: dict[str, Any] = {
    "depth": 24,
    "hidden_size": 1024,
    "attention_bias": True,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 1536,
    "intermediate_size": 4096,
}
_EXAONE_VISION = {**QWEN2_5_VISION, "num_heads": 16, "num_key_value_heads": 8, "out_hidden_size": 3584}
_EXAONE_TEXT = Part("text_config", "exaone4", aliases={"exaone4_5_text": "exaone4"})
_GLM5_NEXT = sizes(
    154880,
    4096,
    12288,
    45,
    64,
    64,
    moe_intermediate_size=2048,
    n_shared_experts=1,
    n_routed_experts=288,
    kv_lora_rank=512,
    q_lora_rank=1536,
    v_head_dim=256,
    qk_nope_head_dim=256,
    index_head_dim=128,
    index_n_heads=32,
    index_kpool=16,
    index_skip_topk_offset=2,
    linear_head_dim=128,
    linear_num_heads=64,
    linear_conv_kernel_dim=4,
    hc_mult=4,
)
_GLM5_VISION = {**GLM_OCR_VISION, "projection_intermediate_size": 10240}
_GLM5_TEXT = fixed("text_config", Tower(_GLM5_NEXT, _glm5_next_text), flat=True)
_GLM_OCR_TEXT = fixed("text_config", Tower(sizes(59392, 1024, 4096, 16, 16, 8), _glm_ocr_text))

ARCHITECTURES: Mapping[str, Architecture] = {
    "glm_ocr": composite({}, with_towers(_GLM_OCR_TEXT, visual(Tower(GLM_OCR_VISION, glm_ocr_visual)))),
    "glm5_next": composite({}, with_towers(_GLM5_TEXT, visual(Tower(_GLM5_VISION, glm_ocr_visual))), flat_text=True),
    "glm46v": MORE["glm4v"],
    "glmga": MORE["glm4v"],
    "exaone4_5": composite({}, with_towers(_EXAONE_TEXT, visual(Tower(_EXAONE_VISION, _exaone_visual)))),
}
