"""Decoders of grouped-query attention and a gated MLP, in the frame that llama has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks import Named, attention, gated_mlp, linear
from lora_packer.base_model.families.common import (
    QUERY_VALUE,
    TRANSFORMER,
    declared,
    decoder,
    grouped_attention,
    head_sizes,
    sizes,
)
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


def _gemma(s: Settings) -> Named:
    bias = s.flag("attention_bias")
    return dense(s, bias=bias, output_bias=bias)


def _gemma2(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _gemma3_text(s: Settings) -> Named:
    bias, hidden, head_dim = s.flag("attention_bias"), s.size("hidden_size"), s.size("head_dim")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    norms |= {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _qwen2(s: Settings) -> Named:
    return dense(s, bias=True)


def _qwen3(s: Settings) -> Named:
    bias, head_dim = s.flag("attention_bias"), s.size("head_dim")
    norms = {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _hunyuan(s: Settings) -> Named:
    bias, (_, _, head_dim) = s.flag("attention_bias"), head_sizes(s)
    norms = {"self_attn.query_layernorm": head_dim, "self_attn.key_layernorm": head_dim}
    return dense(s, bias=bias, output_bias=bias, norms=norms)


def _hyperclovax(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"post_norm1": hidden, "post_norm2": hidden} if s.flag("use_post_norm") else {}
    return dense(s, bias=bias, output_bias=bias, mlp_bias=s.flag("mlp_bias"), norms=norms)


def _cwm(s: Settings) -> Named:
    return dense(s, mlp_bias=s.flag("mlp_bias"))


def _ernie(s: Settings) -> Named:
    bias = s.flag("use_bias")
    return dense(s, bias=bias, output_bias=bias, mlp_bias=bias)


def _seed_oss(s: Settings) -> Named:
    output_bias = s.flag("attention_out_bias")
    return dense(s, bias=s.flag("attention_bias"), output_bias=output_bias, mlp_bias=s.flag("mlp_bias"))


def _helium(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str) -> Named:
        # The output projection is square, whatever the size of a head.
        for path, module in attention(f"{prefix}.self_attn", hidden, *head_sizes(s), bias=s.flag("attention_bias")):
            yield linear(path, hidden, hidden) if path.endswith(".o_proj") else (path, module)
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias"))

    return decoder(s, layer)


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": declared(
        sizes(32000, 4096, 11008, 32, 32, None), _llama, targets=QUERY_VALUE, answering_prefix=TRANSFORMER
    ),
    "granite": declared(sizes(32000, 4096, 11008, 32, 32, None), _llama),
    "internlm3": declared(
        sizes(128512, 4096, 10240, 48, 32, 2, head_dim=128),
        _llama,
        aliases={"qkv_bias": "attention_bias", "bias": "mlp_bias"},
    ),
    "iquestcoder": declared(sizes(76800, 5120, 27648, 80, 40, 8, head_dim=128), _llama),
    "smollm3": declared(sizes(128256, 2048, 11008, 36, 16, 4), _llama, answering_prefix=TRANSFORMER),
    "hyperclovax": declared(sizes(32000, 4096, 11008, 32, 32, None, use_post_norm=True), _hyperclovax),
    "mistral": declared(sizes(32000, 4096, 14336, 32, 32, 8), _mistral, targets=QUERY_VALUE),
    "ministral": declared(sizes(32000, 4096, 14336, 32, 32, 8), _mistral, answering_prefix=TRANSFORMER),
    "ministral3": declared(sizes(131072, 4096, 14336, 34, 32, 8, head_dim=128), _mistral),
    "cwm": declared(sizes(128256, 6144, 21504, 64, 48, 8, head_dim=128), _cwm),
    "qwen2": declared(
        sizes(151936, 4096, 22016, 32, 32, 32), _qwen2, targets=QUERY_VALUE, answering_prefix=TRANSFORMER
    ),
    "qwen3": declared(
        sizes(151936, 4096, 22016, 32, 32, 32, head_dim=128),
        _qwen3,
        targets=QUERY_VALUE,
        answering_prefix=TRANSFORMER,
    ),
    "hunyuan_v1_dense": declared(sizes(290943, 4096, 11008, 32, 32, None), _hunyuan),
    "gemma": declared(sizes(256000, 3072, 24576, 28, 16, 16, head_dim=256), _gemma, targets=QUERY_VALUE),
    "gemma2": declared(sizes(256000, 2304, 9216, 26, 8, 4, head_dim=256), _gemma2, targets=QUERY_VALUE),
    "gemma3_text": declared(sizes(262208, 2304, 9216, 26, 8, 4, head_dim=256), _gemma3_text, targets=QUERY_VALUE),
    "ernie4_5": declared(sizes(103424, 1024, 3072, 18, 16, 2, head_dim=128), _ernie),
    "seed_oss": declared(
        sizes(155136, 4096, 27648, 64, 80, 8, head_dim=128, attention_bias=True),
        _seed_oss,
        answering_prefix=TRANSFORMER,
    ),
    "helium": declared(sizes(48000, 2560, 7040, 24, 20, 20, head_dim=128), _helium),
}
