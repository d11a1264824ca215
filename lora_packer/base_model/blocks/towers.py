"""Towers that see: CLIP, SigLIP, Pixtral, InternViT and their kind."""

from __future__ import annotations

from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm, scale_norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def patches(s: Settings) -> int:
    """Return the number of patches of a square image."""
    return (s.size("image_size") // s.size("patch_size")) ** 2


def clip_layers(s: Settings, prefix: str = "encoder.layers") -> Named:
    """The layers of CLIP and of those that copied them."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"{prefix}.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{path}.self_attn.{name}", hidden, hidden, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", hidden, intermediate)
        yield from layer_norm(f"{path}.layer_norm1", hidden)
        yield from layer_norm(f"{path}.layer_norm2", hidden)


def patch_conv(s: Settings, path: str, *, bias: bool) -> tuple[str, Module]:
    """Return the convolution over square patches."""
    patch = s.size("patch_size")
    return conv(path, (s.size("hidden_size"), s.size("num_channels"), patch, patch), bias=bias)


def clip(s: Settings) -> Named:
    """CLIP's tower."""
    hidden = s.size("hidden_size")
    yield "embeddings.class_embedding", Module("parameter", (hidden,))
    yield patch_conv(s, "embeddings.patch_embedding", bias=False)
    yield "embeddings.position_embedding", Module("embedding", (patches(s) + 1, hidden))
    yield from layer_norm("pre_layrnorm", hidden)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", hidden)


def siglip_body(s: Settings) -> Named:
    """SigLIP without its pooling head."""
    hidden = s.size("hidden_size")
    yield patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield "embeddings.position_embedding", Module("embedding", (patches(s), hidden))
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", hidden)


def _pooling_head(s: Settings) -> Named:
    """SigLIP's attention pooling (torch.nn.MultiheadAttention holds q, k and v in one parameter)."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    yield "head.probe", Module("parameter", (1, 1, hidden))
    yield "head.attention.in_proj_weight", Module("parameter", (3 * hidden, hidden))
    yield "head.attention.in_proj_bias", Module("parameter", (3 * hidden,))
    yield linear("head.attention.out_proj", hidden, hidden, bias=True)
    yield from layer_norm("head.layernorm", hidden)
    yield linear("head.mlp.fc1", intermediate, hidden, bias=True)
    yield linear("head.mlp.fc2", hidden, intermediate, bias=True)


def siglip(s: Settings) -> Named:
    """SigLIP's tower, with its pooling head where there is one."""
    yield from siglip_body(s)
    if s.flag("vision_use_head"):
        yield from _pooling_head(s)


def siglip2(s: Settings) -> Named:
    """SigLIP 2's tower, which takes patches of any grid."""
    hidden = s.size("hidden_size")
    inputs = s.size("num_channels") * s.size("patch_size") ** 2
    yield linear("embeddings.patch_embedding", hidden, inputs, bias=True)
    yield "embeddings.position_embedding", Module("embedding", (s.size("num_patches"), hidden))
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", hidden)
    if s.flag("vision_use_head"):
        yield from _pooling_head(s)


def pixtral(s: Settings) -> Named:
    """Pixtral's tower."""
    hidden = s.size("hidden_size")
    yield patch_conv(s, "patch_conv", bias=False)
    yield norm("ln_pre", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"transformer.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield linear(f"{path}.attention.{name}", hidden, hidden)
        yield from gated_mlp(f"{path}.feed_forward", hidden, s.size("intermediate_size"))
        yield norm(f"{path}.attention_norm", hidden)
        yield norm(f"{path}.ffn_norm", hidden)


def internvl(s: Settings) -> Named:
    """InternViT, InternVL's tower."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    (height, width), (down, right) = s.pair("image_size"), s.pair("patch_size")
    yield "embeddings.cls_token", Module("parameter", (1, 1, hidden))
    if s.flag("use_mask_token"):
        yield "embeddings.mask_token", Module("parameter", (1, 1, hidden))
    if s.flag("use_absolute_position_embeddings"):
        positions = (height // down) * (width // right) + 1
        yield "embeddings.position_embeddings", Module("parameter", (1, positions, hidden))
    patch = (hidden, s.size("num_channels"), down, right)
    yield conv("embeddings.patch_embeddings.projection", patch, bias=True)
    layer_kind = layer_norm if s.value("norm_type") == "layer_norm" else scale_norm
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        yield f"{path}.lambda_1", Module("parameter", (hidden,))
        yield f"{path}.lambda_2", Module("parameter", (hidden,))
        for name in ("q_proj", "k_proj", "v_proj"):
            yield linear(f"{path}.attention.{name}", hidden, hidden, bias=s.flag("attention_bias"))
        yield linear(f"{path}.attention.projection_layer", hidden, hidden, bias=True)
        if s.flag("use_qk_norm"):
            yield norm(f"{path}.attention.q_norm", hidden)
            yield norm(f"{path}.attention.k_norm", hidden)
        yield from two_linears_mlp(f"{path}.mlp", hidden, intermediate)
        yield from layer_kind(f"{path}.layernorm_before", hidden)
        yield from layer_kind(f"{path}.layernorm_after", hidden)
    if not s.flag("use_mean_pooling"):
        yield from layer_norm("layernorm", hidden)


def pix2struct_visual(s: Settings, head_dim: int, inner: int, positions: int) -> Named:
    """The tower of Pix2Struct, which KOSMOS-2.5 has too."""
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    yield linear("embeddings.patch_projection", hidden, s.size("patch_embed_hidden_size"), bias=True)
    yield embedding("embeddings.row_embedder", positions, hidden)
    yield embedding("embeddings.column_embedder", positions, hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield linear(f"{path}.attention.{name}", heads * head_dim, hidden)
        yield linear(f"{path}.attention.output", hidden, heads * head_dim)
        yield linear(f"{path}.mlp.wi_0", inner, hidden)
        yield linear(f"{path}.mlp.wi_1", inner, hidden)
        yield linear(f"{path}.mlp.wo", hidden, inner)
        yield norm(f"{path}.pre_mlp_layer_norm", hidden)
        yield norm(f"{path}.pre_attention_layer_norm", hidden)
    yield norm("layernorm", hidden)


def scaled_layers(s: Settings, inner: int) -> Named:
    """CLIP's layers under BEiT's names, each with two scales."""
    hidden = s.size("hidden_size")
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield f"{path}.lambda_1", Module("parameter", (hidden,))
        yield f"{path}.lambda_2", Module("parameter", (hidden,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{path}.self_attn.{name}", hidden, hidden, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
        yield from layer_norm(f"{path}.layernorm_before", hidden)
        yield from layer_norm(f"{path}.layernorm_after", hidden)
