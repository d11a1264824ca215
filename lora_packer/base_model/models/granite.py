"""IBM's Granite: decoders, experts and hybrids."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import plain_attention, sinks
from lora_packer.base_model.blocks.experts import Experts, both_names, fused_weights
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, plain_decoder, stacked
from lora_packer.base_model.blocks.layers import linear
from lora_packer.base_model.blocks.recurrent import mixer
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _granite_swa(s: Settings) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield f"{prefix}.self_attn.sinks", Module("parameter", (s.size("num_attention_heads"),))
        yield from gated_mlp(f"{prefix}.mlp", hidden, intermediate, bias=s.flag("mlp_bias"))

    return stacked(s, layer)


def granite_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts."""
    yield f"{prefix}.router.weight", Module("parameter", (count, hidden))
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def granite_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts in transformers 4."""
    yield linear(f"{prefix}.router.layer", count, hidden)
    yield f"{prefix}.input_linear.weight", Module("parameter", (count, 2 * intermediate, hidden))
    yield f"{prefix}.output_linear.weight", Module("parameter", (count, hidden, intermediate))


def granite_feed_forward(s: Settings, prefix: str, experts: Experts) -> Named:
    """Granite's routed experts, where there are any."""
    count = s.count("num_local_experts")
    if count:
        yield from experts(f"{prefix}.block_sparse_moe", s.size("hidden_size"), s.size("intermediate_size"), count)


def granite_shared(s: Settings, prefix: str) -> Named:
    """Granite's shared feed-forward block."""
    hidden, intermediate = s.size("hidden_size"), s.count("shared_intermediate_size")
    yield linear(f"{prefix}.shared_mlp.input_linear", 2 * intermediate, hidden)
    yield linear(f"{prefix}.shared_mlp.output_linear", hidden, intermediate)


def _granitemoe(s: Settings, *, experts: Experts = granite_experts, shared: bool = False) -> Named:

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from granite_feed_forward(s, prefix, experts)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _granitemoeshared(s: Settings, *, experts: Experts = granite_experts) -> Named:
    return _granitemoe(s, experts=experts, shared=s.count("shared_intermediate_size") > 0)


def _granitemoe_swa(s: Settings) -> Named:
    hidden, shared = s.size("hidden_size"), s.count("shared_intermediate_size") > 0

    def layer(prefix: str, _index: int) -> Named:
        yield sinks(s, f"{prefix}.self_attn")
        yield from plain_attention(s, f"{prefix}.self_attn")
        count, intermediate = s.size("num_local_experts"), s.size("intermediate_size")
        yield from granite_experts(f"{prefix}.block_sparse_moe", hidden, intermediate, count)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _granitemoehybrid(s: Settings, *, experts: Experts = granite_experts) -> Named:
    listed = s.aliased({"layers_block_type": "layer_types"}).names("layers_block_type")
    kind = layer_kinds(listed, lambda _index: "linear_attention")

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from mixer(s, f"{prefix}.mamba")
        else:
            yield from plain_attention(s, f"{prefix}.self_attn")
        yield from granite_feed_forward(s, prefix, experts)
        yield from granite_shared(s, prefix)

    return stacked(s, layer)


ARCHITECTURES: Mapping[str, Architecture] = {
    "granite": declared(framed(plain_decoder)),
    "granite_swa": declared(framed(_granite_swa)),
    "granitemoe": declared(*both_names(_granitemoe, granite_experts_before_5, framed)),
    "granitemoeshared": declared(*both_names(_granitemoeshared, granite_experts_before_5, framed)),
    "granitemoe_swa": declared(framed(_granitemoe_swa)),
    "granitemoehybrid": declared(*both_names(_granitemoehybrid, granite_experts_before_5, framed)),
}
