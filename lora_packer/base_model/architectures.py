"""The base model architectures whose modules are known: one short definition each.

A definition yields the decoder's modules without the ``model.`` prefix; ``load.py`` puts it and the head around it.
Defaults are those of transformers' config classes at v5.23.0
(https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models/<type>/configuration_<type>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lora_packer.base_model.blocks import Named, attention, fused_experts, gated_mlp, norm, separate_experts
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

# The module names of transformers 5, and the older ones where they differ.
TRANSFORMERS_5 = "transformers-5"
TRANSFORMERS_4 = "transformers-4"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model type.

    Attributes:
        defaults: what transformers' config class has for absent fields.
        decoder: dialect name -> the function that yields the decoder's modules; the first is transformers 5.
        default_targets: what PEFT targets where ``target_modules`` is null
            (peft/utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING).
        question_answering_prefix: the decoder's prefix in the question answering class, which some types name
            differently from all their other classes (``base_model_prefix`` in the modelling file).
    """

    defaults: Mapping[str, Any]
    decoder: Mapping[str, Callable[[Settings], Named]]
    default_targets: tuple[str, ...] = ("q_proj", "v_proj")
    question_answering_prefix: str = "model."


def _attention(s: Settings, prefix: str, *, bias: bool = False, output_bias: bool = False) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    head_dim = s.optional_size("head_dim") or hidden // heads
    return attention(prefix, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=output_bias)


def _frame(s: Settings, layer: Callable[[str], Named], norms: Mapping[str, int] = MappingProxyType({})) -> Named:
    """The embedding, the numbered layers, each with its two norms and those in ``norms``, and the last norm."""
    hidden = s.size("hidden_size")
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden, **norms}
    yield "embed_tokens", Module("embedding", (s.size("vocab_size"), hidden))
    for index in range(s.size("num_hidden_layers")):
        yield from layer(f"layers.{index}")
        for name, size in norms.items():
            yield norm(f"layers.{index}.{name}", size)
    yield norm("norm", hidden)


def _dense(
    s: Settings,
    *,
    bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    norms: Mapping[str, int] = MappingProxyType({}),
) -> Named:
    """A decoder of grouped-query attention and a gated MLP."""

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn", bias=bias, output_bias=output_bias)
        yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"), bias=mlp_bias)

    return _frame(s, layer, norms)


def _llama(s: Settings) -> Named:
    bias = s.flag("attention_bias")
    return _dense(s, bias=bias, output_bias=bias, mlp_bias=s.flag("mlp_bias"))


def _mistral(s: Settings) -> Named:
    return _dense(s)


def _qwen2(s: Settings) -> Named:
    return _dense(s, bias=True)


def _qwen3(s: Settings) -> Named:
    bias, head_dim = s.flag("attention_bias"), s.size("head_dim")
    norms = {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    return _dense(s, bias=bias, output_bias=bias, norms=norms)


def _gemma2(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    return _dense(s, bias=bias, output_bias=bias, norms=norms)


def _mixtral(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from fused_experts(f"{prefix}.mlp", *_expert_sizes(s))

    return _frame(s, layer)


def _mixtral_before_5(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from separate_experts(f"{prefix}.block_sparse_moe", *_expert_sizes(s), names=("w1", "w2", "w3"))

    return _frame(s, layer)


def _expert_sizes(s: Settings) -> tuple[int, int, int]:
    return s.size("hidden_size"), s.size("intermediate_size"), s.size("num_local_experts")


def _sizes(
    vocab: int, hidden: int, intermediate: int, layers: int, heads: int, kv: int | None, **more: Any
) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        **more,
    }


_TRANSFORMER = "transformer."

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        _sizes(32000, 4096, 11008, 32, 32, None),
        {TRANSFORMERS_5: _llama},
        question_answering_prefix=_TRANSFORMER,
    ),
    "mistral": Architecture(_sizes(32000, 4096, 14336, 32, 32, 8), {TRANSFORMERS_5: _mistral}),
    "qwen2": Architecture(
        _sizes(151936, 4096, 22016, 32, 32, 32), {TRANSFORMERS_5: _qwen2}, question_answering_prefix=_TRANSFORMER
    ),
    "qwen3": Architecture(
        _sizes(151936, 4096, 22016, 32, 32, 32, head_dim=128),
        {TRANSFORMERS_5: _qwen3},
        question_answering_prefix=_TRANSFORMER,
    ),
    "gemma2": Architecture(_sizes(256000, 2304, 9216, 26, 8, 4, head_dim=256), {TRANSFORMERS_5: _gemma2}),
    "mixtral": Architecture(
        _sizes(32000, 4096, 14336, 32, 32, 8, num_local_experts=8),
        {TRANSFORMERS_5: _mixtral, TRANSFORMERS_4: _mixtral_before_5},
    ),
}
