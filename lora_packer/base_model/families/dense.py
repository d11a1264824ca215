"""Decoders of grouped-query attention and a gated MLP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, framed
from lora_packer.base_model.blocks import Named, gated_mlp
from lora_packer.base_model.families.common import TRANSFORMER, decoder, grouped_attention, sizes
from lora_packer.base_model.settings import Settings


def dense(
    s: Settings,
    *,
    bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    norms: Mapping[str, int] = MappingProxyType({}),
) -> Named:
    """A decoder of grouped-query attention and a gated MLP."""

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=output_bias)
        yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"), bias=mlp_bias)

    return decoder(s, layer, norms)


def _llama(s: Settings) -> Named:
    bias = s.flag("attention_bias")
    return dense(s, bias=bias, output_bias=bias, mlp_bias=s.flag("mlp_bias"))


def _mistral(s: Settings) -> Named:
    return dense(s)


def _qwen2(s: Settings) -> Named:
    return dense(s, bias=True)


def _qwen3(s: Settings) -> Named:
    bias, head_dim = s.flag("attention_bias"), s.size("head_dim")
    norms = {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _gemma2(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        sizes(32000, 4096, 11008, 32, 32, None), {TRANSFORMERS_5: framed(_llama, answering_prefix=TRANSFORMER)}
    ),
    "mistral": Architecture(sizes(32000, 4096, 14336, 32, 32, 8), {TRANSFORMERS_5: framed(_mistral)}),
    "qwen2": Architecture(
        sizes(151936, 4096, 22016, 32, 32, 32), {TRANSFORMERS_5: framed(_qwen2, answering_prefix=TRANSFORMER)}
    ),
    "qwen3": Architecture(
        sizes(151936, 4096, 22016, 32, 32, 32, head_dim=128),
        {TRANSFORMERS_5: framed(_qwen3, answering_prefix=TRANSFORMER)},
    ),
    "gemma2": Architecture(sizes(256000, 2304, 9216, 26, 8, 4, head_dim=256), {TRANSFORMERS_5: framed(_gemma2)}),
}
