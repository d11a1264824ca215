"""The Qwen-VL family: Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5, dense and with experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4, Architecture, Build
from lora_packer.base_model.blocks import Named, attention, fused_experts, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import decoder, grouped_attention, layer_kinds, sizes, stacked
from lora_packer.base_model.families.composite import (
    TRANSFORMERS_4_51,
    Beside,
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_only,
    with_towers,
)
from lora_packer.base_model.families.vision import conv
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

# Yields the feed-forward block of one layer: (config, path, number of the layer).
FeedForward = Callable[[Settings, str, int], Named]


def patch_embedding(s: Settings, path: str, width: int, *, bias: bool) -> tuple[str, Module]:
    """Return the convolution over patches of some frames."""
    frames, (height, across) = s.size("temporal_patch_size"), s.pair("patch_size")
    return conv(path, (width, s.size("in_channels"), frames, height, across), bias=bias)


def depth(s: Settings) -> int:
    """Return the number of blocks."""
    return s.aliased({"num_hidden_layers": "depth"}).size("depth")


def _merged(s: Settings, width: int) -> int:
    """The width of the patches that one token stands for, side by side."""
    return width * s.size("spatial_merge_size") ** 2


def _fused_attention(path: str, width: int) -> Named:
    yield linear(f"{path}.qkv", 3 * width, width, bias=True)
    yield linear(f"{path}.proj", width, width, bias=True)


def _qwen2_visual(s: Settings) -> Named:
    width = s.size("embed_dim")
    yield patch_embedding(s, "patch_embed.proj", width, bias=False)
    inner = int(width * s.ratio("mlp_ratio"))
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from _fused_attention(f"{path}.attn", width)
        yield linear(f"{path}.mlp.fc1", inner, width, bias=True)
        yield linear(f"{path}.mlp.fc2", width, inner, bias=True)
        yield from layer_norm(f"{path}.norm1", width)
        yield from layer_norm(f"{path}.norm2", width)
    yield from layer_norm("merger.ln_q", width)
    yield from _merger_mlp(s, width, s.size("hidden_size"))


def qwen2_5_visual(s: Settings) -> Named:
    """The tower of Qwen2.5-VL."""
    width = s.size("hidden_size")
    yield patch_embedding(s, "patch_embed.proj", width, bias=False)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from _fused_attention(f"{path}.attn", width)
        yield from gated_mlp(f"{path}.mlp", width, s.size("intermediate_size"), bias=True)
        yield norm(f"{path}.norm1", width)
        yield norm(f"{path}.norm2", width)
    yield norm("merger.ln_q", width)
    yield from _merger_mlp(s, width, s.size("out_hidden_size"))


def _merger_mlp(s: Settings, width: int, outputs: int) -> Named:
    merged = _merged(s, width)
    yield linear("merger.mlp.0", merged, merged, bias=True)
    yield linear("merger.mlp.2", outputs, merged, bias=True)


def qwen3_visual(s: Settings) -> Named:
    """The tower of Qwen3-VL; Qwen3.5 has no deepstack."""
    width, inner = s.size("hidden_size"), s.size("intermediate_size")
    merged, outputs = _merged(s, width), s.size("out_hidden_size")
    yield patch_embedding(s, "patch_embed.proj", width, bias=True)
    yield "pos_embed", Module("embedding", (s.size("num_position_embeddings"), width))
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from _fused_attention(f"{path}.attn", width)
        yield linear(f"{path}.mlp.linear_fc1", inner, width, bias=True)
        yield linear(f"{path}.mlp.linear_fc2", width, inner, bias=True)
        yield from layer_norm(f"{path}.norm1", width)
        yield from layer_norm(f"{path}.norm2", width)
    mergers = {"merger": width}
    mergers |= {f"deepstack_merger_list.{index}": merged for index in range(_deepstack(s))}
    for path, normed in mergers.items():
        yield from layer_norm(f"{path}.norm", normed)
        yield linear(f"{path}.linear_fc1", merged, merged, bias=True)
        yield linear(f"{path}.linear_fc2", outputs, merged, bias=True)


def _deepstack(s: Settings) -> int:
    indexes = s.value("deepstack_visual_indexes")
    return len(indexes) if isinstance(indexes, list | tuple) else 0


def qwen3_visual_without_deepstack(s: Settings) -> Named:
    """The tower of Qwen3.5."""
    return qwen3_visual(Settings({**s.raw, "deepstack_visual_indexes": None}, QWEN3_VISION))


def dense_mlp(s: Settings, path: str, _index: int) -> Named:
    """A gated MLP in every layer."""
    return gated_mlp(path, s.size("hidden_size"), s.size("intermediate_size"))


def _qwen2_text(s: Settings) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads

    def layer(prefix: str) -> Named:
        yield from attention(f"{prefix}.self_attn", hidden, heads, kv_heads, hidden // heads, bias=True)
        yield from dense_mlp(s, f"{prefix}.mlp", 0)

    return decoder(s, layer)


def _normed_attention(s: Settings, path: str) -> Named:
    """Attention with a norm on the heads of q and k."""
    bias = s.flag("attention_bias")
    head_dim = s.optional_size("head_dim") or s.size("hidden_size") // s.size("num_attention_heads")
    yield from grouped_attention(s, path, bias=bias, output_bias=bias)
    yield norm(f"{path}.q_norm", head_dim)
    yield norm(f"{path}.k_norm", head_dim)


def qwen3_text(feed_forward: FeedForward) -> Callable[[Settings], Named]:
    """The language model of Qwen3-VL."""

    def modules(s: Settings) -> Named:
        def layer(prefix: str, index: int) -> Named:
            yield from _normed_attention(s, f"{prefix}.self_attn")
            yield from feed_forward(s, f"{prefix}.mlp", index)

        return stacked(s, layer)

    return modules


def _is_sparse(s: Settings, index: int) -> bool:
    return index not in s.indices("mlp_only_layers") and (index + 1) % s.size("decoder_sparse_step") == 0


def _experts(s: Settings) -> tuple[int, int, int]:
    named = s.aliased({"num_experts": "num_local_experts"})
    return s.size("hidden_size"), s.size("moe_intermediate_size"), named.size("num_experts")


def _sparse_mlp(s: Settings, path: str, index: int) -> Named:
    return fused_experts(path, *_experts(s)) if _is_sparse(s, index) else dense_mlp(s, path, index)


def _sparse_mlp_before_5(s: Settings, path: str, index: int) -> Named:
    """The same, with a linear as the router and the experts' weights the other way round."""
    if not _is_sparse(s, index):
        yield from dense_mlp(s, path, index)
        return
    hidden, intermediate, experts = _experts(s)
    yield linear(f"{path}.gate", experts, hidden)
    yield f"{path}.experts.gate_up_proj", Module("parameter", (experts, hidden, 2 * intermediate))
    yield f"{path}.experts.down_proj", Module("parameter", (experts, intermediate, hidden))


def _gated_attention(s: Settings, path: str) -> Named:
    """Attention whose q_proj yields an output gate as well."""
    bias, hidden, heads = s.flag("attention_bias"), s.size("hidden_size"), s.size("num_attention_heads")
    head_dim, kv_heads = s.size("head_dim"), s.size("num_key_value_heads")
    yield linear(f"{path}.q_proj", 2 * heads * head_dim, hidden, bias=bias)
    yield linear(f"{path}.k_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{path}.v_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{path}.o_proj", hidden, heads * head_dim, bias=bias)
    yield norm(f"{path}.q_norm", head_dim)
    yield norm(f"{path}.k_norm", head_dim)


def _delta_net(s: Settings, path: str) -> Named:
    """Linear attention by a gated delta rule."""
    hidden, heads, head_dim = s.size("hidden_size"), s.size("linear_num_value_heads"), s.size("linear_value_head_dim")
    values = heads * head_dim
    mixed = 2 * s.size("linear_num_key_heads") * s.size("linear_key_head_dim") + values
    yield f"{path}.dt_bias", Module("parameter", (heads,))
    yield f"{path}.A_log", Module("parameter", (heads,))
    yield conv(f"{path}.conv1d", (mixed, 1, s.size("linear_conv_kernel_dim")), bias=False)
    yield norm(f"{path}.norm", head_dim)
    yield linear(f"{path}.in_proj_qkv", mixed, hidden)
    yield linear(f"{path}.in_proj_z", values, hidden)
    yield linear(f"{path}.in_proj_b", heads, hidden)
    yield linear(f"{path}.in_proj_a", heads, hidden)
    yield linear(f"{path}.out_proj", hidden, values)


def _qwen3_5_text(feed_forward: FeedForward) -> Callable[[Settings], Named]:
    def modules(s: Settings) -> Named:
        interval = s.size("full_attention_interval")
        kind = layer_kinds(
            s.names("layer_types"), lambda index: "linear_attention" if (index + 1) % interval else "full_attention"
        )

        def layer(prefix: str, index: int) -> Named:
            if kind(index) == "linear_attention":
                yield from _delta_net(s, f"{prefix}.linear_attn")
            else:
                yield from _gated_attention(s, f"{prefix}.self_attn")
            yield from feed_forward(s, f"{prefix}.mlp", index)

        return stacked(s, layer)

    return modules


def _shared_and_fused(s: Settings, path: str, _index: int) -> Named:
    hidden = s.size("hidden_size")
    yield from fused_experts(path, *_experts(s))
    yield from gated_mlp(f"{path}.shared_expert", hidden, s.size("shared_expert_intermediate_size"))
    yield linear(f"{path}.shared_expert_gate", 1, hidden)


def visual(tower: Tower) -> Beside:
    """The tower, which has the projector inside."""

    def beside(s: Settings, _text: Settings) -> Named:
        settings, modules = fixed("vision_config", tower).of(s)
        return below("visual", modules(settings))

    return beside


def before_4_52(build: Build) -> Build:
    """The names of Qwen2-VL and Qwen2.5-VL before transformers 4.52; the bare class was the language model's then."""
    return renamed(build, ("model.language_model.", "model."), ("model.visual.", "visual."), ("language_model.", ""))


def _flat(text: Mapping[str, Any], tower: Tower) -> Architecture:
    part = fixed("text_config", Tower(text, _qwen2_text), flat=True)
    build = with_towers(part, visual(tower))
    return composite({}, build, {TRANSFORMERS_4_51: before_4_52(build)}, flat_text=True)


def _qwen3_vl(text: Tower, older: Tower | None = None) -> Architecture:
    beside = visual(Tower(QWEN3_VISION, qwen3_visual))
    dialects = {} if older is None else {TRANSFORMERS_4: with_towers(fixed("text_config", older), beside)}
    return composite({}, with_towers(fixed("text_config", text), beside), dialects)


def _qwen3_5(text: Tower) -> Architecture:
    part = fixed("text_config", text)
    build = with_towers(part, visual(Tower(QWEN3_VISION, qwen3_visual_without_deepstack)))
    return composite({}, build, {TEXT_ONLY: text_only(part)})


QWEN3_VISION: dict[str, Any] = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 3584,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
_OLDER_VISION = {**QWEN3_VISION, "depth": 32, "patch_size": 14}
_QWEN2_VL = {**_OLDER_VISION, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4}
QWEN2_5_VISION = {**_OLDER_VISION, "hidden_size": 3584, "intermediate_size": 3420}
_QWEN2_TEXT = sizes(152064, 8192, 29568, 80, 64, 8)
_QWEN3_MOE = sizes(151936, 2048, 5632, 24, 16, 16, decoder_sparse_step=1, moe_intermediate_size=1408, num_experts=60)
_LINEAR: dict[str, Any] = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "full_attention_interval": 4,
}
_QWEN3_5 = Tower(sizes(248320, 4096, 12288, 32, 16, 4, **_LINEAR), _qwen3_5_text(dense_mlp))
_QWEN3_5_EXPERTS = {"moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "num_experts": 256}
_QWEN3_5_MOE = Tower(sizes(248320, 2048, 0, 40, 16, 2, **_LINEAR, **_QWEN3_5_EXPERTS), _qwen3_5_text(_shared_and_fused))

ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen2_vl": _flat(_QWEN2_TEXT, Tower(_QWEN2_VL, _qwen2_visual)),
    "qwen2_5_vl": _flat(_QWEN2_TEXT, Tower(QWEN2_5_VISION, qwen2_5_visual)),
    "qwen3_vl": _qwen3_vl(Tower(sizes(151936, 4096, 22016, 32, 32, 32, head_dim=128), qwen3_text(dense_mlp))),
    "qwen3_vl_moe": _qwen3_vl(
        Tower(_QWEN3_MOE, qwen3_text(_sparse_mlp)), Tower(_QWEN3_MOE, qwen3_text(_sparse_mlp_before_5))
    ),
    "qwen3_5": _qwen3_5(_QWEN3_5),
    "qwen3_5_moe": _qwen3_5(_QWEN3_5_MOE),
}
