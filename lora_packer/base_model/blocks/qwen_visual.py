"""The towers of Qwen's image-text models, which have the projector inside."""

from __future__ import annotations

from lora_packer.base_model.blocks.composite import Beside, Tower, below, fixed
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def patch_embedding(s: Settings, path: str, width: int, *, bias: bool) -> Named:
    """Return the convolution over patches of some frames."""
    frames, (height, across) = s.size("temporal_patch_size"), s.pair("patch_size")
    return conv(path, (width, s.size("in_channels"), frames, height, across), bias=bias)


def depth(s: Settings) -> int:
    """Return the number of blocks."""
    return s.aliased({"num_hidden_layers": "depth"}).size("depth")


def merged_width(s: Settings, width: int) -> int:
    """The width of the patches that one token stands for, side by side."""
    return width * s.size("spatial_merge_size") ** 2


def fused_attention(path: str, width: int) -> Named:
    """Attention with queries, keys and values in one projection."""
    yield from linear(f"{path}.qkv", 3 * width, width, bias=True)
    yield from linear(f"{path}.proj", width, width, bias=True)


def qwen2_5_visual(s: Settings) -> Named:
    """The tower of Qwen2.5-VL."""
    yield from patch_embedding(s, "patch_embed.proj", s.hidden, bias=False)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from fused_attention(f"{path}.attn", s.hidden)
        yield from plain_mlp(s, f"{path}.mlp", bias=True)
        yield from norm(path, s.hidden, "norm1", "norm2")
    yield from norm("merger.ln_q", s.hidden)
    yield from merger_mlp(s, s.hidden, s.size("out_hidden_size"))


def merger_mlp(s: Settings, width: int, outputs: int) -> Named:
    """What projects merged patches to the language model."""
    merged = merged_width(s, width)
    yield from chain("merger.mlp", (merged, merged, outputs), "0", "2", bias=True)


def qwen3_visual(s: Settings) -> Named:
    """The tower of Qwen3-VL; Qwen3.5 has no deepstack."""
    merged, outputs = merged_width(s, s.hidden), s.size("out_hidden_size")
    yield from patch_embedding(s, "patch_embed.proj", s.hidden, bias=True)
    yield from embedding("pos_embed", s.size("num_position_embeddings"), s.hidden)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from fused_attention(f"{path}.attn", s.hidden)
        yield from chain(f"{path}.mlp", (s.hidden, s.inner, s.hidden), "linear_fc1", "linear_fc2", bias=True)
        yield from layer_norm(path, s.hidden, "norm1", "norm2")
    mergers = {"merger": s.hidden}
    mergers |= {f"deepstack_merger_list.{index}": merged for index in range(deepstack(s))}
    for path, normed in mergers.items():
        yield from layer_norm(f"{path}.norm", normed)
        yield from chain(path, (merged, merged, outputs), "linear_fc1", "linear_fc2", bias=True)


def deepstack(s: Settings) -> int:
    """Return how many layers hand their features over besides the last."""
    return s.length("deepstack_visual_indexes")


def qwen3_visual_without_deepstack(s: Settings) -> Named:
    """The tower of Qwen3.5."""
    return qwen3_visual(s.with_fields(deepstack_visual_indexes=None))


def visual(tower: Tower) -> Beside:
    """The tower, which has the projector inside."""

    def beside(s: Settings, _text: Settings) -> Named:
        settings, modules = fixed("vision_config", tower).of(s)
        return below("visual", modules(settings))

    return beside
