"""Towers that see: CLIP, SigLIP, Pixtral, InternViT and their kind."""

from __future__ import annotations

from lora_packer.base_model.blocks.feed_forward import plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def patches(s: Settings) -> int:
    """Return the number of patches of a square image."""
    return (s.size("image_size") // s.size("patch_size")) ** 2


def clip_layers(s: Settings, prefix: str = "encoder.layers") -> Named:
    """The layers of CLIP and of those that copied them."""
    for index in range(s.layers):
        path = f"{prefix}.{index}"
        yield from linear(f"{path}.self_attn", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "out_proj", bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "layer_norm1", "layer_norm2")


def short_layers(s: Settings) -> Named:
    """The same layers under shorter names, one level higher."""
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from linear(f"{path}.attn", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "proj", bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "norm1", "norm2")


def patch_conv(s: Settings, path: str, *, bias: bool) -> Named:
    """Return the convolution over square patches."""
    patch = s.size("patch_size")
    return conv(path, (s.hidden, s.size("num_channels"), patch, patch), bias=bias)


def clip(s: Settings) -> Named:
    """CLIP's tower."""
    yield from parameter("embeddings.class_embedding", s.hidden)
    yield from patch_conv(s, "embeddings.patch_embedding", bias=False)
    yield from embedding("embeddings.position_embedding", patches(s) + 1, s.hidden)
    yield from layer_norm("pre_layrnorm", s.hidden)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", s.hidden)


def clip_text(s: Settings) -> Named:
    """CLIP's encoder of text, which SigLIP's is too but for its head."""
    yield from embedding("embeddings.token_embedding", s.vocab, s.hidden)
    yield from embedding("embeddings.position_embedding", s.size("max_position_embeddings"), s.hidden)
    yield from clip_layers(s)
    yield from layer_norm("final_layer_norm", s.hidden)


def siglip_body(s: Settings) -> Named:
    """SigLIP without its pooling head."""
    yield from patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield from embedding("embeddings.position_embedding", patches(s), s.hidden)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", s.hidden)


def _pooling_head(s: Settings) -> Named:
    """SigLIP's attention pooling (torch.nn.MultiheadAttention holds q, k and v in one parameter)."""
    yield from parameter("head.probe", 1, 1, s.hidden)
    yield from parameter("head.attention.in_proj_weight", 3 * s.hidden, s.hidden)
    yield from parameter("head.attention.in_proj_bias", 3 * s.hidden)
    yield from linear("head.attention.out_proj", s.hidden, s.hidden, bias=True)
    yield from layer_norm("head.layernorm", s.hidden)
    yield from chain("head.mlp", (s.hidden, s.inner, s.hidden), "fc1", "fc2", bias=True)


def siglip(s: Settings) -> Named:
    """SigLIP's tower, with its pooling head where there is one."""
    yield from siglip_body(s)
    if s.flag("vision_use_head"):
        yield from _pooling_head(s)


def siglip2(s: Settings) -> Named:
    """SigLIP 2's tower, which takes patches of any grid."""
    inputs = s.size("num_channels") * s.size("patch_size") ** 2
    yield from linear("embeddings.patch_embedding", s.hidden, inputs, bias=True)
    yield from embedding("embeddings.position_embedding", s.size("num_patches"), s.hidden)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", s.hidden)
    if s.flag("vision_use_head"):
        yield from _pooling_head(s)


def pixtral(s: Settings) -> Named:
    """Pixtral's tower."""
    yield from patch_conv(s, "patch_conv", bias=False)
    yield from norm("ln_pre", s.hidden)
    for index in range(s.layers):
        path = f"transformer.layers.{index}"
        yield from linear(f"{path}.attention", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "o_proj")
        yield from plain_mlp(s, f"{path}.feed_forward")
        yield from norm(path, s.hidden, "attention_norm", "ffn_norm")


def internvl(s: Settings) -> Named:
    """InternViT, InternVL's tower."""
    (height, width), (down, right) = s.pair("image_size"), s.pair("patch_size")
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    if s.flag("use_mask_token"):
        yield from parameter("embeddings.mask_token", 1, 1, s.hidden)
    if s.flag("use_absolute_position_embeddings"):
        positions = (height // down) * (width // right) + 1
        yield from parameter("embeddings.position_embeddings", 1, positions, s.hidden)
    patch = (s.hidden, s.size("num_channels"), down, right)
    yield from conv("embeddings.patch_embeddings.projection", patch, bias=True)
    layer_kind = layer_norm if s.value("norm_type") == "layer_norm" else norm
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        yield from parameter(f"{path}.lambda_1", s.hidden)
        yield from parameter(f"{path}.lambda_2", s.hidden)
        yield from linear(
            f"{path}.attention", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", bias=s.flag("attention_bias")
        )
        yield from linear(f"{path}.attention.projection_layer", s.hidden, s.hidden, bias=True)
        if s.flag("use_qk_norm"):
            yield from norm(f"{path}.attention", s.hidden, "q_norm", "k_norm")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_kind(f"{path}.layernorm_before", s.hidden)
        yield from layer_kind(f"{path}.layernorm_after", s.hidden)
    if not s.flag("use_mean_pooling"):
        yield from layer_norm("layernorm", s.hidden)


def pix2struct_visual(s: Settings, head_dim: int, inner: int, positions: int) -> Named:
    """The tower of Pix2Struct, which KOSMOS-2.5 has too."""
    yield from linear("embeddings.patch_projection", s.hidden, s.size("patch_embed_hidden_size"), bias=True)
    yield from embedding("embeddings.row_embedder", positions, s.hidden)
    yield from embedding("embeddings.column_embedder", positions, s.hidden)
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        yield from linear(f"{path}.attention", s.heads * head_dim, s.hidden, "query", "key", "value")
        yield from linear(f"{path}.attention.output", s.hidden, s.heads * head_dim)
        yield from linear(f"{path}.mlp", inner, s.hidden, "wi_0", "wi_1")
        yield from linear(f"{path}.mlp.wo", s.hidden, inner)
        yield from norm(path, s.hidden, "pre_mlp_layer_norm", "pre_attention_layer_norm")
    yield from norm("layernorm", s.hidden)


def scaled_layers(s: Settings, inner: int) -> Named:
    """CLIP's layers under BEiT's names, each with two scales."""
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from parameter(f"{path}.lambda_1", s.hidden)
        yield from parameter(f"{path}.lambda_2", s.hidden)
        yield from linear(f"{path}.self_attn", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "out_proj", bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, inner)
        yield from layer_norm(path, s.hidden, "layernorm_before", "layernorm_after")


def fused_tower(s: Settings, inner: int, last: str = "norm") -> Named:
    """SigLIP as timm has it: queries, keys and values in one, and the positions a parameter."""
    yield from patch_conv(s, "patch_embed.proj", bias=True)
    yield from parameter("pos_embed", 1, patches(s), s.hidden)
    for index in range(s.layers):
        path = f"blocks.{index}"
        yield from layer_norm(path, s.hidden, "norm1", "norm2")
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, inner)
    yield from layer_norm(last, s.hidden)


def latent_pooling(s: Settings, inner: int) -> Named:
    """timm's pooling by attention, behind such a tower."""
    yield from parameter("attn_pool.latent", 1, 1, s.hidden)
    yield from linear("attn_pool.q", s.hidden, s.hidden, bias=True)
    yield from linear("attn_pool.kv", 2 * s.hidden, s.hidden, bias=True)
    yield from linear("attn_pool.proj", s.hidden, s.hidden, bias=True)
    yield from layer_norm("attn_pool.norm", s.hidden)
    yield from two_linears_mlp("attn_pool.mlp", s.hidden, inner)


def intern_vit(s: Settings) -> Named:
    """InternViT as its own repositories have it: queries, keys and values in one, and two scales in each layer."""
    kind = layer_norm if s.value("norm_type") == "layer_norm" else norm
    yield from parameter("embeddings.class_embedding", 1, 1, s.hidden)
    yield from patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield from parameter("embeddings.position_embedding", 1, patches(s) + 1, s.hidden)
    for index in range(s.layers):
        path = f"encoder.layers.{index}"
        yield from parameter(f"{path}.ls1", s.hidden)
        yield from parameter(f"{path}.ls2", s.hidden)
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=s.flag("qkv_bias"))
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=True)
        if s.flag("qk_normalization"):
            yield from norm(f"{path}.attn", s.hidden, "q_norm", "k_norm")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from kind(path, s.hidden, "norm1", "norm2")
