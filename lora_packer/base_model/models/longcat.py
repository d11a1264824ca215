"""LongCat-Flash: two attentions in each layer, and experts beside them."""

from __future__ import annotations

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, declared
from lora_packer.base_model.blocks.experts import Experts, deepseek_experts, separate_linears
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _longcat_flash(s: Settings, *, experts: Experts, layers: int) -> Named:
    """LongCat-Flash's decoder: each layer has two attentions, two dense blocks and experts beside them."""
    s = s.aliased({"intermediate_size": "ffn_hidden_size", "moe_intermediate_size": "expert_ffn_hidden_size"})
    hidden, routed = s.hidden, deepseek_experts(s)
    every = routed + s.count("zero_expert_num")

    def layer(prefix: str, _index: int) -> Named:
        yield from experts(f"{prefix}.mlp.experts", hidden, s.size("moe_intermediate_size"), routed)
        yield from linear(f"{prefix}.mlp.router.classifier", every, hidden, bias=s.flag("router_bias"))
        for half in range(2):
            yield from latent_attention(s, f"{prefix}.self_attn.{half}", query=s.optional_size("qk_head_dim"))
            yield from gated_mlp(f"{prefix}.mlps.{half}", hidden, s.inner)
            yield from norm(f"{prefix}.input_layernorm.{half}", hidden)
            yield from norm(f"{prefix}.post_attention_layernorm.{half}", hidden)

    return stacked(s, layer, norms=(), layers=layers)


def _longcat_layers(s: Settings) -> int:
    """transformers 5 counts halves of layers where ``num_hidden_layers`` is given; 4 always read ``num_layers``."""
    halves = s.optional_size("num_hidden_layers")
    return halves // 2 if halves else s.size("num_layers")


def _longcat_experts(s: Settings) -> Experts:
    """The experts, of which those without an effect have a row in one of the two parameters only."""

    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        every = count + s.count("zero_expert_num")
        yield from parameter(f"{prefix}.gate_up_proj", every, 2 * intermediate, hidden)
        yield from parameter(f"{prefix}.down_proj", count, hidden, intermediate)

    return experts


ARCHITECTURES: Architectures = {
    "longcat_flash": declared(
        framed(lambda s: _longcat_flash(s, experts=_longcat_experts(s), layers=_longcat_layers(s))),
        {TRANSFORMERS_4: framed(lambda s: _longcat_flash(s, experts=separate_linears, layers=s.size("num_layers")))},
    )
}
