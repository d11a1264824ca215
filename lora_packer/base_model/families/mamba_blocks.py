"""Decoders whose layers are of several kinds around Mamba-2 mixers: Nemotron-H and Zamba2."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, linear, norm
from lora_packer.base_model.families.common import (
    grouped_attention,
    layer_kinds,
    stacked,
)
from lora_packer.base_model.families.experts import (
    number_of_experts,
)
from lora_packer.base_model.families.mamba import mamba_2
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError
from lora_packer.redact import escape

_NEMOTRON_BLOCKS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}


def _nemotron_blocks(s: Settings) -> tuple[str, ...]:
    """Return the kind of each layer; older configs have ``hybrid_override_pattern``, one letter for a layer."""
    listed, pattern = s.aliased({"layer_types": "layers_block_type"}).names("layer_types"), ""
    if listed is None:
        pattern = s.value("hybrid_override_pattern")
        if not isinstance(pattern, str) or not set(pattern) <= _NEMOTRON_BLOCKS.keys():
            raise InputError(
                f"the base config's hybrid_override_pattern is {escape(repr(pattern), 60)}; "
                "it has to consist of the letters M, E, * and -.",
                hint="Use the base model's own config.json.",
            )
        listed = tuple(_NEMOTRON_BLOCKS[letter] for letter in pattern)
    return listed


def nemotron_h(s: Settings) -> Named:
    """Nemotron-H's decoder: each layer is one mixer, attention, feed-forward block or mixture of experts."""
    blocks = _nemotron_blocks(s)
    kind = layer_kinds(blocks, lambda _index: "mlp")

    def layer(prefix: str, index: int) -> Named:
        return _NEMOTRON_LAYERS.get(kind(index), _nemotron_feed_forward)(s, f"{prefix}.mixer")

    return stacked(s, layer, norms=("norm",), embedding="embeddings", last_norm="norm_f", layers=len(blocks))


def _nemotron_mixer(s: Settings, prefix: str) -> Named:
    heads = s.size("mamba_num_heads")
    s = s.aliased({"mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_conv_bias": "use_conv_bias"})
    return mamba_2(
        prefix,
        s.size("hidden_size"),
        heads * s.size("mamba_head_dim"),
        heads,
        s.size("mamba_n_groups") * s.size("ssm_state_size"),
        s.size("mamba_d_conv"),
        bias=s.flag("use_bias"),
        conv_bias=s.flag("mamba_conv_bias"),
    )


def _nemotron_attention(s: Settings, prefix: str) -> Named:
    return grouped_attention(s, prefix)


def _nemotron_feed_forward(s: Settings, prefix: str) -> Named:
    return _up_down(s, prefix, s.size("intermediate_size"))


def _up_down(s: Settings, prefix: str, intermediate: int) -> Named:
    hidden, bias = s.size("hidden_size"), s.flag("mlp_bias")
    yield linear(f"{prefix}.up_proj", intermediate, hidden, bias=bias)
    yield linear(f"{prefix}.down_proj", hidden, intermediate, bias=bias)


def _nemotron_experts(s: Settings, prefix: str) -> Named:
    hidden, latent, bias = s.size("hidden_size"), s.optional_size("moe_latent_size"), s.flag("mlp_bias")
    count, intermediate = number_of_experts(s, "n_routed_experts", "num_local_experts"), s.size("moe_intermediate_size")
    yield f"{prefix}.gate.weight", Module("parameter", (count, hidden))
    yield f"{prefix}.experts.up_proj", Module("parameter", (count, intermediate, latent or hidden))
    yield f"{prefix}.experts.down_proj", Module("parameter", (count, latent or hidden, intermediate))
    yield from _up_down(s, f"{prefix}.shared_experts", s.size("moe_shared_expert_intermediate_size"))
    if latent:
        yield linear(f"{prefix}.fc1_latent_proj", latent, hidden, bias=bias)
        yield linear(f"{prefix}.fc2_latent_proj", hidden, latent, bias=bias)


_NEMOTRON_LAYERS = {
    "linear_attention": _nemotron_mixer,
    "full_attention": _nemotron_attention,
    "moe": _nemotron_experts,
    "mlp": _nemotron_feed_forward,
}


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


ARCHITECTURES: Mapping[str, Architecture] = {
    "nemotron_h": Architecture(
        {
            "vocab_size": 131072,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 21504,
            "ssm_state_size": 128,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "n_groups": 8,
            "conv_kernel": 4,
            "use_conv_bias": True,
            "n_routed_experts": 8,
            "moe_intermediate_size": 7688,
            "moe_shared_expert_intermediate_size": 7688,
            "hybrid_override_pattern": "ME*-",
        },
        {TRANSFORMERS_5: framed(nemotron_h)},
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        input_embedding="embeddings",
    ),
    "zamba2": Architecture(
        {
            "vocab_size": 32000,
            "hidden_size": 2560,
            "mamba_d_state": 64,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "num_attention_heads": 32,
            "num_mem_blocks": 1,
            "adapter_rank": 128,
        },
        {TRANSFORMERS_5: framed(_zamba2)},
        (),
    ),
}
