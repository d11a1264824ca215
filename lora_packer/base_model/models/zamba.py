"""Zamba and Zamba2: Mamba mixers around a few shared attention blocks."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import depthwise, linear, norm
from lora_packer.base_model.blocks.recurrent import mamba_2
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _zamba2(s: Settings) -> Named:
    """Zamba2's decoder: mixers, some preceded by one of a few attention blocks that the layers share."""
    hidden, bias = s.size("hidden_size"), s.flag("add_bias_linear")
    listed = s.aliased({"layer_types": "layers_block_type"}).names("layer_types")
    hybrids = (6, 12, 18, 24, 30, 36, 42, 47, 51)
    kind = layer_kinds(listed, lambda index: "hybrid" if index in hybrids else "linear_attention")
    layers = len(listed) if listed else 54
    numbers = {index: number for number, index in enumerate(i for i in range(layers) if kind(i) == "hybrid")}

    def mixer(prefix: str) -> Named:
        inner, states = s.size("mamba_expand") * hidden, s.size("mamba_ngroups") * s.size("mamba_d_state")
        heads, kernel = s.size("n_mamba_heads"), s.size("mamba_d_conv")
        yield from mamba_2(f"{prefix}.mamba", hidden, inner, heads, states, kernel, bias=bias)
        yield norm(f"{prefix}.input_layernorm", hidden)

    def layer(prefix: str, index: int) -> Named:
        if index not in numbers:
            yield from mixer(prefix)
            return
        yield linear(f"{prefix}.linear", hidden, hidden)
        yield from mixer(f"{prefix}.mamba_decoder")
        yield from _zamba2_shared(s, f"{prefix}.shared_transformer", numbers[index], len(numbers))

    return stacked(s, layer, norms=(), last_norm="final_layernorm", layers=layers)


def _zamba2_shared(s: Settings, prefix: str, number: int, hybrids: int) -> Named:
    """A shared attention block; each layer that uses it has adapters of its own in it."""
    hidden, bias, heads = s.size("hidden_size"), s.flag("add_bias_linear"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    width = s.optional_size("attention_hidden_size") or 2 * hidden
    head_dim = s.aliased({"head_dim": "attention_head_dim"}).optional_size("head_dim") or 2 * hidden // heads
    intermediate, blocks = s.optional_size("intermediate_size") or 4 * hidden, s.size("num_mem_blocks")
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        yield linear(f"{prefix}.self_attn.{name}_proj", count * head_dim, width)
    yield linear(f"{prefix}.self_attn.o_proj", hidden, heads * head_dim)
    yield linear(f"{prefix}.feed_forward.gate_up_proj", 2 * intermediate, hidden, bias=bias)
    yield linear(f"{prefix}.feed_forward.down_proj", hidden, intermediate, bias=bias)
    adapters = [("feed_forward.gate_up_proj", hidden, 2 * intermediate)]
    if s.flag("use_shared_attention_adapter"):
        adapters += [(f"self_attn.linear_{name}", width, width) for name in ("q", "k", "v")]
    for place in range(number % blocks, hybrids, blocks):
        for path, inwards, outwards in adapters:
            yield linear(f"{prefix}.{path}_adapter_list.{place}.0", s.size("adapter_rank"), inwards)
            yield linear(f"{prefix}.{path}_adapter_list.{place}.1", outwards, s.size("adapter_rank"))
    yield norm(f"{prefix}.input_layernorm", width)
    yield norm(f"{prefix}.pre_ff_layernorm", hidden)


def _zamba(s: Settings) -> Named:
    """Zamba's decoder: Mamba mixers of several heads, some preceded by a transformer that the layers share."""
    s = s.aliased({"layer_types": "layers_block_type", "head_dim": "attention_head_dim"})
    hidden, listed = s.size("hidden_size"), s.names("layer_types")
    period, offset = s.size("attn_layer_period"), s.count("attn_layer_offset")

    def derived(index: int) -> str:
        hybrid = index == 2 or (index > 2 and (index - 3) % period == offset)
        return "hybrid" if hybrid else "linear_attention"

    kind = layer_kinds(listed, derived)
    heads, kv_heads = s.size("num_attention_heads"), s.size("num_key_value_heads")
    wide = s.optional_size("attention_hidden_size") or 2 * hidden
    head_dim = s.optional_size("head_dim") or 2 * hidden // heads

    def mixer(prefix: str) -> Named:
        yield from _zamba_mixer(s, f"{prefix}.mamba")
        yield norm(f"{prefix}.input_layernorm", hidden)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) != "hybrid":
            yield from mixer(prefix)
            return
        shared = f"{prefix}.shared_transf"
        for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{shared}.self_attn.{name}", count * head_dim, wide)
        yield linear(f"{shared}.self_attn.o_proj", hidden, heads * head_dim)
        yield from gated_mlp(f"{shared}.feed_forward", hidden, s.size("intermediate_size"))
        yield norm(f"{shared}.input_layernorm", wide)
        yield norm(f"{shared}.pre_ff_layernorm", hidden)
        yield linear(f"{prefix}.linear", hidden, hidden)
        yield from mixer(f"{prefix}.mamba_decoder")

    return stacked(s, layer, norms=(), last_norm="final_layernorm")


def _zamba_mixer(s: Settings, prefix: str) -> Named:
    hidden, heads, state = s.size("hidden_size"), s.size("n_mamba_heads"), s.size("mamba_d_state")
    inner, bias = s.size("mamba_expand") * hidden, s.flag("mamba_proj_bias")
    rank = -(-hidden // 16) if s.value("mamba_dt_rank") == "auto" else s.size("mamba_dt_rank")
    width = inner // heads
    for name, shape in (
        ("x_proj_weight", (heads, rank + 2 * state, width)),
        ("dt_proj_weight", (heads, width, rank)),
        ("dt_proj_bias", (heads, width)),
        ("A_log", (heads, width, state)),
        ("D", (heads, width)),
    ):
        yield f"{prefix}.{name}", Module("parameter", shape)
    yield depthwise(f"{prefix}.conv1d", inner, s.size("mamba_d_conv"), bias=s.flag("mamba_conv_bias"))
    yield linear(f"{prefix}.in_proj", 2 * inner, hidden, bias=bias)
    yield linear(f"{prefix}.out_proj", hidden, inner, bias=bias)


ARCHITECTURES: Mapping[str, Architecture] = {"zamba2": declared(framed(_zamba2)), "zamba": declared(framed(_zamba))}
