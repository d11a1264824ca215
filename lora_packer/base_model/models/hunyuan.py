"""Tencent's Hunyuan: decoders, experts, and the model that sees."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared, like
from lora_packer.base_model.blocks.attention import attention, head_norm, head_sizes, normed_attention, plain_attention
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, with_towers
from lora_packer.base_model.blocks.experts import (
    Experts,
    aliased_experts,
    both_names,
    deepseek_experts,
    fused_weights,
    mixture_or_dense,
    number_of_experts,
    routed_experts,
    separate_linears,
    sparse_after,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import aliased, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import indexer, latent_attention
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.residual import hyper_connections, merged_streams
from lora_packer.base_model.blocks.towers import patch_conv
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_hunyuan = decoder(
    {
        "self_attn": plain_attention,
        "mlp": plain_mlp,
        "self_attn.query_layernorm": head_norm,
        "self_attn.key_layernorm": head_norm,
    }
)


def _hunyuan_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from linear(f"{prefix}.gate.wg", count, hidden)
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def _hunyuan_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from linear(f"{prefix}.gate.wg", count, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count)


def _hunyuan_v1_moe(s: Settings, *, experts: Experts = _hunyuan_experts) -> Named:
    head_dim = head_sizes(s)[2]
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn", head_dim, "query_layernorm", "key_layernorm")
        yield from experts(f"{prefix}.mlp", s.hidden, s.inner, count)
        yield from plain_mlp(s, f"{prefix}.mlp.shared_mlp")

    return stacked(s, layer)


def _hy_v3(s: Settings) -> Named:
    """Hunyuan 3's decoder."""
    kind, bias = sparse_after(s, 1), s.flag("mlp_bias")
    shared = s.size("moe_intermediate_size") * s.count("num_shared_experts") or s.inner
    count = aliased_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from normed_attention(s, f"{prefix}.self_attn")
        if kind(index) == "sparse":
            yield from routed_experts(s, f"{prefix}.mlp", count)
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, shared, bias=bias)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp", bias=bias)

    return stacked(s, layer)


def _hy_v4(s: Settings) -> Named:
    """Hunyuan 4's decoder: gated latent attention with sinks, and hyper-connections around each block."""
    streams = s.size("hc_mult")
    count = deepseek_experts(s)
    feeds = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    indexed = layer_kinds(s.names("indexer_types"), lambda index: "full" if index == 0 or index % 4 == 1 else "shared")

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from parameter(f"{path}.sinks", s.heads)
        yield from latent_attention(s, path)
        yield from linear(f"{path}.gate_proj", s.heads * s.size("v_head_dim"), s.hidden)
        if indexed(index) != "shared":
            yield from indexer(s, f"{path}.indexer")
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, sparse=feeds(index) == "sparse")
        yield from hyper_connections(prefix, s.hidden, streams, mixes=False)

    yield from stacked(s, layer)
    yield from merged_streams(s.hidden, streams)


def _hunyuan_text(s: Settings) -> Named:
    head_dim = head_sizes(s)[2]

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn", head_dim, "query_layernorm", "key_layernorm")
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _hunyuan_visual(s: Settings) -> Named:
    s = s.aliased({"attention_heads": "num_attention_heads"})
    hidden, inner, heads = s.hidden, s.inner, s.heads
    head_dim = s.optional_size("head_dim") or hidden // heads
    yield from patch_conv(s, "embeddings.patch_embedding", bias=True)
    positions = (s.size("max_image_size") // s.size("patch_size")) ** 2 + 1
    yield from embedding("embeddings.position_embedding", positions, hidden)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from attention(f"{path}.self_attn", hidden, heads, heads, head_dim, bias=True, output_bias=True)
        yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
        yield from layer_norm(path, hidden, "layer_norm1", "layer_norm2")


def _hunyuan_merger(_s: Settings, vision: Settings, text: Settings) -> Named:
    merge = vision.size("spatial_merge_size")
    path = "vision_tower.patch_merger"
    yield from conv(f"{path}.proj_conv", (2 * vision.hidden, vision.hidden, merge, merge), bias=True)
    yield from conv(f"{path}.proj_out", (4 * vision.hidden, 2 * vision.hidden, 1, 1), bias=True)
    yield from linear(f"{path}.mlp", text.hidden, 4 * vision.hidden, bias=True)
    yield from parameter(f"{path}.image_newline", 4 * vision.hidden)
    for name in ("image_begin", "image_end", "image_sep"):
        yield from parameter(f"{path}.{name}", text.hidden)
    yield from norm(f"{path}.before_rms", vision.hidden)
    yield from norm(f"{path}.after_rms", text.hidden)


def _hy_v4_merger(_s: Settings, vision: Settings, _text: Settings) -> Named:
    path, merge, outputs = (
        "vision_tower.patch_merger",
        vision.size("spatial_merge_size"),
        vision.size("out_hidden_size"),
    )
    merged = vision.hidden * merge**2
    yield from conv(f"{path}.proj_conv", (merged, vision.hidden, merge, merge), bias=True)
    yield from conv(f"{path}.proj_out", (outputs, merged, 1, 1), bias=True)
    yield from parameter(f"{path}.image_newline", outputs)
    yield from norm(f"{path}.before_rms", vision.hidden)


ARCHITECTURES: Architectures = {
    "hunyuan_v1_dense": declared(framed(_hunyuan)),
    "hunyuan_v1_moe": declared(*both_names(_hunyuan_v1_moe, _hunyuan_experts_before_5, framed)),
    "hy_v3": declared(framed(_hy_v3)),
    "hy_v4": declared(framed(_hy_v4)),
    "hunyuan_vl": composite(
        with_towers(
            fixed(
                "text_config",
                Tower("hunyuan_vl_text", _hunyuan_text),
                flat=True,
                attribute_map={"attention_head_dim": "head_dim", "org_vocab_size": "vocab_size"},
            ),
            seeing(fixed("vision_config", Tower("hunyuan_vl_vision", _hunyuan_visual)), _hunyuan_merger),
        ),
        flat_text=True,
    ),
    "hunyuan_vl_text": declared(
        aliased(framed(_hunyuan_text), {"attention_head_dim": "head_dim", "org_vocab_size": "vocab_size"})
    ),
    "hy_v4_vl_text": like("hy_v4"),
    "hy_v4_vl": composite(
        with_towers(
            fixed("text_config", Tower("hy_v4_vl_text", _hy_v4)),
            seeing(fixed("vision_config", Tower("hy_v4_vl_vision", _hunyuan_visual)), _hy_v4_merger),
        )
    ),
}
