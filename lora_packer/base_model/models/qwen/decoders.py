"""Qwen's decoders, from Qwen2 to the text models of Qwen3.5."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import (
    QK_NORMS,
    biased_attention,
    gated_attention,
    grouped_attention,
    normed_attention,
    plain_attention,
)
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    fused_experts,
    linear_experts,
    number_of_experts,
    qwen_is_sparse,
    qwen_mixture,
)
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import QUERY_VALUE, TRANSFORMER, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.recurrent import delta_net
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_qwen2 = decoder({"self_attn": biased_attention, "mlp": plain_mlp})


_qwen3 = decoder({"self_attn": plain_attention, **QK_NORMS, "mlp": plain_mlp})


def qwen3_moe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    """Qwen3-MoE's decoder."""
    count = number_of_experts(s, "num_experts", "num_local_experts")
    sparse = qwen_is_sparse(s, count)

    def layer(prefix: str, index: int) -> Named:
        yield from normed_attention(s, f"{prefix}.self_attn")
        if sparse(index):
            yield from experts(f"{prefix}.mlp", s.hidden, s.size("moe_intermediate_size"), count)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _qwen2_moe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    bias, sparse = s.flag("qkv_bias"), qwen_is_sparse(s, s.count("num_experts"))

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias)
        if sparse(index):
            yield from qwen_mixture(s, f"{prefix}.mlp", experts)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def every_fourth(s: Settings) -> Callable[[int], str]:
    """Return which layers have "full_attention": as listed, else each ``full_attention_interval``-th."""
    interval = s.optional_size("full_attention_interval") or 4
    return layer_kinds(
        s.names("layer_types"), lambda index: "linear_attention" if (index + 1) % interval else "full_attention"
    )


def _qwen(s: Settings, feed_forward: Callable[[str, int], Named], *, fused: bool) -> Named:
    kind = every_fourth(s)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from delta_net(s, f"{prefix}.linear_attn", fused=fused)
        else:
            yield from gated_attention(s, f"{prefix}.self_attn")
        yield from feed_forward(f"{prefix}.mlp", index)

    return stacked(s, layer)


def _qwen3_next(s: Settings, *, experts: Experts = fused_experts) -> Named:
    sparse = qwen_is_sparse(s, s.count("num_experts"))

    def feed_forward(prefix: str, index: int) -> Named:
        if sparse(index):
            return qwen_mixture(s, prefix, experts)
        return plain_mlp(s, prefix)

    return _qwen(s, feed_forward, fused=True)


def qwen3_5(s: Settings) -> Named:
    """Qwen3.5's text decoder."""
    return _qwen(s, lambda prefix, _index: plain_mlp(s, prefix), fused=False)


def qwen3_5_moe(s: Settings) -> Named:
    """Qwen3.5-MoE's text decoder."""
    return _qwen(s, lambda prefix, _index: qwen_mixture(s, prefix), fused=False)


_qwen3_moe_frame = partial(framed, answering_prefix=TRANSFORMER)

ARCHITECTURES: Architectures = {
    "qwen2": declared(framed(_qwen2, answering_prefix=TRANSFORMER), targets=QUERY_VALUE),
    "qwen3": declared(framed(_qwen3, answering_prefix=TRANSFORMER), targets=QUERY_VALUE),
    "qwen3_moe": declared(*both_names(qwen3_moe, linear_experts, _qwen3_moe_frame)),
    "qwen2_moe": declared(*both_names(_qwen2_moe, linear_experts, framed)),
    "qwen3_next": declared(*both_names(_qwen3_next, linear_experts, partial(framed, answering_prefix=TRANSFORMER))),
    "qwen3_5_text": declared(framed(qwen3_5)),
    "qwen3_5_moe_text": declared(framed(qwen3_5_moe)),
}
