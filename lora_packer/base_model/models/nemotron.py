"""NVIDIA's Nemotron and Nemotron-H, whose layers are of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.experts import deepseek_experts
from lora_packer.base_model.blocks.frames import TRANSFORMER, framed, layer_kinds, stacked, ungated_decoder
from lora_packer.base_model.blocks.layers import layer_norm, linear
from lora_packer.base_model.blocks.recurrent import mamba_2
from lora_packer.base_model.module import Module, Named
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
    count, intermediate = deepseek_experts(s), s.size("moe_intermediate_size")
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

ARCHITECTURES: Mapping[str, Architecture] = {
    "nemotron": declared(framed(partial(ungated_decoder, kind=layer_norm), answering_prefix=TRANSFORMER)),
    "nemotron_h": declared(
        framed(nemotron_h), targets=("q_proj", "k_proj", "v_proj", "o_proj"), input_embedding="embeddings"
    ),
}
