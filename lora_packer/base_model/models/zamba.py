"""Zamba and Zamba2: Mamba mixers around a few shared attention blocks."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import chain, depthwise, linear, norm, parameter
from lora_packer.base_model.blocks.recurrent import mamba_2
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _zamba2(s: Settings) -> Named:
    """Zamba2's decoder: mixers, some preceded by one of a few attention blocks that the layers share."""
    bias = s.flag("add_bias_linear")
    listed = (
        s.filled("layers_block_type", "layer_types").aliased({"layer_types": "layers_block_type"}).names("layer_types")
    )
    kind = layer_kinds(listed, lambda _index: "linear_attention")
    layers = len(listed or ())
    numbers = {index: number for number, index in enumerate(i for i in range(layers) if kind(i) == "hybrid")}

    def mixer(prefix: str) -> Named:
        inner, states = s.size("mamba_expand") * s.hidden, s.size("mamba_ngroups") * s.size("mamba_d_state")
        heads, kernel = s.size("n_mamba_heads"), s.size("mamba_d_conv")
        yield from mamba_2(f"{prefix}.mamba", s.hidden, inner, heads, states, kernel, bias=bias)
        yield from norm(f"{prefix}.input_layernorm", s.hidden)

    def layer(prefix: str, index: int) -> Named:
        if index not in numbers:
            yield from mixer(prefix)
            return
        yield from linear(f"{prefix}.linear", s.hidden, s.hidden)
        yield from mixer(f"{prefix}.mamba_decoder")
        yield from _zamba2_shared(s, f"{prefix}.shared_transformer", numbers[index], len(numbers))

    return stacked(s, layer, norms=(), last_norm="final_layernorm", layers=layers)


def _zamba2_shared(s: Settings, prefix: str, number: int, hybrids: int) -> Named:
    """A shared attention block; each layer that uses it has adapters of its own in it."""
    bias = s.flag("add_bias_linear")
    kv_heads = s.optional_size("num_key_value_heads") or s.heads
    width = s.optional_size("attention_hidden_size") or 2 * s.hidden
    head_dim = s.aliased({"head_dim": "attention_head_dim"}).optional_size("head_dim") or 2 * s.hidden // s.heads
    intermediate, blocks = s.optional_size("intermediate_size") or 4 * s.hidden, s.size("num_mem_blocks")
    for name, count in (("q", s.heads), ("k", kv_heads), ("v", kv_heads)):
        yield from linear(f"{prefix}.self_attn.{name}_proj", count * head_dim, width)
    yield from linear(f"{prefix}.self_attn.o_proj", s.hidden, s.heads * head_dim)
    yield from linear(f"{prefix}.feed_forward.gate_up_proj", 2 * intermediate, s.hidden, bias=bias)
    yield from linear(f"{prefix}.feed_forward.down_proj", s.hidden, intermediate, bias=bias)
    adapters = [("feed_forward.gate_up_proj", s.hidden, 2 * intermediate)]
    if s.flag("use_shared_attention_adapter"):
        adapters += [(f"self_attn.linear_{name}", width, width) for name in ("q", "k", "v")]
    for place in range(number % blocks, hybrids, blocks):
        for path, inwards, outwards in adapters:
            yield from chain(
                f"{prefix}.{path}_adapter_list.{place}", (inwards, s.size("adapter_rank"), outwards), "0", "1"
            )
    yield from norm(f"{prefix}.input_layernorm", width)
    yield from norm(f"{prefix}.pre_ff_layernorm", s.hidden)


def _zamba(s: Settings) -> Named:
    """Zamba's decoder: Mamba mixers of several heads, some preceded by a transformer that the layers share."""
    s = s.aliased({"layer_types": "layers_block_type", "head_dim": "attention_head_dim"})
    hidden, listed = s.hidden, s.names("layer_types")
    period, offset = s.size("attn_layer_period"), s.count("attn_layer_offset")

    def derived(index: int) -> str:
        hybrid = index == 2 or (index > 2 and (index - 3) % period == offset)
        return "hybrid" if hybrid else "linear_attention"

    kind = layer_kinds(listed, derived)
    heads, kv_heads = s.heads, s.size("num_key_value_heads")
    wide = s.optional_size("attention_hidden_size") or 2 * hidden
    head_dim = s.optional_size("head_dim") or 2 * hidden // heads

    def mixer(prefix: str) -> Named:
        yield from _zamba_mixer(s, f"{prefix}.mamba")
        yield from norm(f"{prefix}.input_layernorm", hidden)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) != "hybrid":
            yield from mixer(prefix)
            return
        shared = f"{prefix}.shared_transf"
        for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield from linear(f"{shared}.self_attn.{name}", count * head_dim, wide)
        yield from linear(f"{shared}.self_attn.o_proj", hidden, heads * head_dim)
        yield from gated_mlp(f"{shared}.feed_forward", hidden, s.inner)
        yield from norm(f"{shared}.input_layernorm", wide)
        yield from norm(f"{shared}.pre_ff_layernorm", hidden)
        yield from linear(f"{prefix}.linear", hidden, hidden)
        yield from mixer(f"{prefix}.mamba_decoder")

    return stacked(s, layer, norms=(), last_norm="final_layernorm")


def _zamba_mixer(s: Settings, prefix: str) -> Named:
    heads, state = s.size("n_mamba_heads"), s.size("mamba_d_state")
    inner, bias = s.size("mamba_expand") * s.hidden, s.flag("mamba_proj_bias")
    rank = -(-s.hidden // 16) if s.value("mamba_dt_rank") == "auto" else s.size("mamba_dt_rank")
    width = inner // heads
    for name, shape in (
        ("x_proj_weight", (heads, rank + 2 * state, width)),
        ("dt_proj_weight", (heads, width, rank)),
        ("dt_proj_bias", (heads, width)),
        ("A_log", (heads, width, state)),
        ("D", (heads, width)),
    ):
        yield from parameter(f"{prefix}.{name}", *shape)
    yield from depthwise(f"{prefix}.conv1d", inner, s.size("mamba_d_conv"), bias=s.flag("mamba_conv_bias"))
    yield from linear(f"{prefix}.in_proj", 2 * inner, s.hidden, bias=bias)
    yield from linear(f"{prefix}.out_proj", s.hidden, inner, bias=bias)


ARCHITECTURES: Architectures = {"zamba2": declared(framed(_zamba2)), "zamba": declared(framed(_zamba))}
