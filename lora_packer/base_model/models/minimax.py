"""MiniMax's decoders of experts, and the model that sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_4, Architectures, declared
from lora_packer.base_model.blocks.attention import grouped_attention, head_sizes, qk_norms
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, text_only, text_part, with_towers
from lora_packer.base_model.blocks.experts import (
    Experts,
    fused_experts,
    local_experts,
    number_of_experts,
    numbered_experts,
)
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.qwen_visual import patch_embedding
from lora_packer.base_model.blocks.towers import clip_layers
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _minimax_m2(s: Settings) -> Named:
    count = local_experts(s)
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", heads * head_dim, kv_heads * head_dim)
        yield from fused_experts(f"{prefix}.mlp", s.hidden, s.inner, count)

    return stacked(s, layer)


def _minimax_m3(s: Settings) -> Named:
    """MiniMax-M3's decoder: some layers choose what they attend to; feed-forward blocks are fused."""
    head_dim, older = head_sizes(s)[2], s.nested("sparse_attention_config")
    sparse_attention, sparse_experts = older.numbers("sparse_attention_freq"), s.numbers("moe_layer_freq")
    attends = layer_kinds(s.names("layer_types"), _chosen(sparse_attention, ("full_attention", "minimax_m3_sparse"), 0))
    feeds = layer_kinds(s.names("mlp_layer_types"), _chosen(sparse_experts, ("dense", "sparse"), 1))
    heads = older.optional_size("sparse_num_index_heads") or s.size("index_n_heads")
    size = older.optional_size("sparse_index_dim") or s.size("index_head_dim")

    def fused(prefix: str, inner: int) -> Named:
        yield from linear(f"{prefix}.gate_up_proj", 2 * inner, s.hidden)
        yield from linear(f"{prefix}.down_proj", s.hidden, inner)

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from grouped_attention(s, path)
        yield from norm(path, head_dim, "q_norm", "k_norm")
        if attends(index) == "minimax_m3_sparse":
            yield from linear(f"{path}.indexer.q_proj", heads * size, s.hidden)
            yield from linear(f"{path}.indexer.k_proj", size, s.hidden)
            yield from norm(f"{path}.indexer", size, "q_norm", "k_norm")
        if feeds(index) == "sparse":
            count = number_of_experts(s, "num_local_experts", "num_experts")
            yield from fused_experts(f"{prefix}.mlp", s.hidden, s.inner, count)
            yield from fused(f"{prefix}.mlp.shared_experts", s.count("shared_intermediate_size"))
        else:
            yield from fused(f"{prefix}.mlp", s.size("dense_intermediate_size"))

    return stacked(s, layer)


def _chosen(flags: tuple[int, ...] | None, kinds: tuple[str, str], default: int) -> Callable[[int], str]:
    """Return what kind a layer is by older configs, which have a zero or a one for each."""
    return lambda index: kinds[bool(flags[index]) if flags and index < len(flags) else default]


def _minimax(s: Settings, *, experts: Experts = fused_experts, block: str = "mlp") -> Named:
    """MiniMax-01's decoder: lightning attention on every other layer."""
    heads, _, head_dim = head_sizes(s)
    count = number_of_experts(s, "num_local_experts", "num_experts")
    kind = layer_kinds(s.names("layer_types"), lambda index: "linear_attention" if index % 2 else "full_attention")

    def layer(prefix: str, index: int) -> Named:
        path, width = f"{prefix}.self_attn", heads * head_dim
        if kind(index) == "linear_attention":
            yield from norm(f"{path}.norm", width)
            yield from linear(f"{path}.qkv_proj", 3 * width, s.hidden)
            yield from linear(f"{path}.out_proj", s.hidden, width)
            yield from linear(f"{path}.output_gate", width, s.hidden)
        else:
            yield from grouped_attention(s, path)
        yield from experts(f"{prefix}.{block}", s.hidden, s.inner, count)

    return stacked(s, layer)


def _minimax_visual(s: Settings) -> Named:
    channels = s.with_fields(in_channels=s.size("num_channels"))
    yield from patch_embedding(channels, "embeddings.proj", s.hidden, bias=False)
    yield from layer_norm("pre_layrnorm", s.hidden)
    yield from clip_layers(s, "layers")


def _minimax_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """Two linears for each patch, and two for the patches that are merged."""
    width = s.size("projector_hidden_size")
    merged = text.hidden * vision.size("spatial_merge_size") ** 2
    for name, inputs in (("linear", vision.hidden), ("merge_linear", merged)):
        yield from linear(f"multi_modal_projector.{name}_1", width, inputs, bias=True)
        yield from linear(f"multi_modal_projector.{name}_2", text.hidden, width, bias=True)


_MINIMAX_TEXT = text_part("minimax_m3_vl_text")

ARCHITECTURES: Architectures = {
    "minimax_m2": declared(framed(_minimax_m2)),
    "minimax_m3_vl_text": declared(framed(_minimax_m3)),
    "minimax": declared(
        framed(_minimax),
        {TRANSFORMERS_4: framed(partial(_minimax, experts=numbered_experts, block="block_sparse_moe"))},
    ),
    "minimax_m3_vl": composite(
        with_towers(
            _MINIMAX_TEXT,
            seeing(fixed("vision_config", Tower("minimax_m3_vl_vision", _minimax_visual)), _minimax_projector),
        ),
        {TEXT_ONLY: text_only(_MINIMAX_TEXT)},
    ),
}
