"""Decoders of grouped-query attention whose routed experts stand beside a shared one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, Head, framed, head_modules
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, linear
from lora_packer.base_model.families.common import (
    grouped_attention,
    head_sizes,
    layer_kinds,
    qk_norms,
    sizes,
    stacked,
)
from lora_packer.base_model.families.experts import (
    Experts,
    both_names,
    deepseek_mixture,
    fused_weights,
    number_of_experts,
    parameter_routed_experts,
    separate_linears,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def first_dense(s: Settings) -> Callable[[int], str]:
    """Return which layers are "sparse": those in ``mlp_layer_types``, else all after ``first_k_dense_replace``."""
    dense = s.count("first_k_dense_replace")
    return layer_kinds(s.names("mlp_layer_types"), lambda index: "dense" if index < dense else "sparse")


def _glm4_moe(
    s: Settings, *, experts: Experts = fused_experts, normed: bool | None = None, output_bias: bool = False
) -> Named:
    """GLM-4.5's decoder and its relatives: ``normed`` says whether queries and keys have norms."""
    bias, dense, head_dim = s.flag("attention_bias"), s.count("first_k_dense_replace"), head_sizes(s)[2]
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias and output_bias)
        if s.flag("use_qk_norm") if normed is None else normed:
            yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        if index >= dense:
            yield from deepseek_mixture(s, f"{prefix}.mlp", count, experts)
        else:
            yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"))

    return stacked(s, layer)


def _dots1(s: Settings, *, experts: Experts = fused_experts) -> Named:
    return _glm4_moe(s, experts=experts, normed=True, output_bias=True)


def _solar_open(s: Settings) -> Named:
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        yield from deepseek_mixture(s, f"{prefix}.mlp", count)

    return stacked(s, layer)


def _exaone_moe(s: Settings) -> Named:
    kind, head_dim, hidden = first_dense(s), head_sizes(s)[2], s.size("hidden_size")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        if kind(index) == "sparse":
            yield from deepseek_mixture(s, f"{prefix}.mlp", s.size("num_experts"), shared="num_shared_experts")
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))

    return stacked(s, layer)


def _afmoe(s: Settings) -> Named:
    bias, (heads, _, head_dim), hidden = s.flag("attention_bias"), head_sizes(s), s.size("hidden_size")
    dense, count, intermediate = s.count("num_dense_layers"), s.size("num_experts"), s.size("moe_intermediate_size")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim)
        yield linear(f"{prefix}.self_attn.gate_proj", heads * head_dim, hidden)
        if index < dense:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"))
            return
        yield linear(f"{prefix}.mlp.router.gate", count, hidden)
        yield f"{prefix}.mlp.expert_bias", Module("parameter", (count,))
        yield from fused_weights(f"{prefix}.mlp.experts", hidden, intermediate, count)
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, intermediate * s.size("num_shared_experts"))

    norms = ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
    return stacked(s, layer, norms=norms)


def _ernie_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from fused_experts(prefix, hidden, intermediate, count)
    yield f"{prefix}.gate.moe_statics.e_score_correction_bias", Module("parameter", (1, count))


def _ernie4_5_moe_before_5(s: Settings) -> Named:
    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        yield linear(f"{prefix}.gate", count, hidden)
        yield f"{prefix}.moe_statics.e_score_correction_bias", Module("parameter", (1, count))
        yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count, bias=s.flag("use_bias"))

    return _ernie4_5_moe(s, experts=experts)


def _ernie4_5_moe(s: Settings, *, experts: Experts = _ernie_experts) -> Named:
    bias, hidden, intermediate = s.flag("use_bias"), s.size("hidden_size"), s.size("moe_intermediate_size")
    count = number_of_experts(s, "moe_num_experts", "num_experts")
    start, interval = s.count("moe_layer_start_index"), s.size("moe_layer_interval")
    end = s.size("num_hidden_layers") if s.value("moe_layer_end_index") == -1 else s.count("moe_layer_end_index")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        if (index + 1) % interval or not start <= index <= end:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=bias)
            return
        yield from experts(f"{prefix}.mlp", hidden, intermediate, count)
        shared = s.count("moe_num_shared_experts")
        if shared:
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, intermediate * shared, bias=bias)

    return stacked(s, layer)


def _hunyuan_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield linear(f"{prefix}.gate.wg", count, hidden)
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def _hunyuan_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield linear(f"{prefix}.gate.wg", count, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count)


def _hunyuan_v1_moe(s: Settings, *, experts: Experts = _hunyuan_experts) -> Named:
    bias, head_dim = s.flag("attention_bias"), head_sizes(s)[2]
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from qk_norms(f"{prefix}.self_attn", head_dim, head_dim, ("query_layernorm", "key_layernorm"))
        yield from experts(f"{prefix}.mlp", hidden, intermediate, count)
        yield from gated_mlp(f"{prefix}.mlp.shared_mlp", hidden, intermediate)

    return stacked(s, layer)


def _ernie_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("use_bias"))


_ernie_frame = partial(framed, heads=_ernie_head)

ARCHITECTURES: Mapping[str, Architecture] = {
    "glm4_moe": Architecture(
        sizes(
            151552,
            4096,
            10944,
            46,
            96,
            8,
            moe_intermediate_size=1408,
            n_routed_experts=128,
            n_shared_experts=1,
            first_k_dense_replace=1,
        ),
        both_names(_glm4_moe, parameter_routed_experts, framed),
        (),
    ),
    "dots1": Architecture(
        sizes(152064, 4608, 10944, 62, 32, 32, moe_intermediate_size=1408),
        both_names(_dots1, parameter_routed_experts, framed),
        (),
    ),
    "solar_open": Architecture(
        sizes(
            196608,
            4096,
            0,
            48,
            64,
            8,
            head_dim=128,
            moe_intermediate_size=1280,
            n_routed_experts=128,
            n_shared_experts=1,
        ),
        {TRANSFORMERS_5: framed(_solar_open)},
        (),
    ),
    "exaone_moe": Architecture(
        sizes(
            102400,
            4096,
            16384,
            32,
            32,
            32,
            moe_intermediate_size=1024,
            num_experts=64,
            num_shared_experts=1,
            first_k_dense_replace=1,
        ),
        {TRANSFORMERS_5: framed(_exaone_moe)},
        (),
    ),
    "afmoe": Architecture(
        sizes(
            200192,
            2048,
            6144,
            32,
            16,
            None,
            head_dim=128,
            moe_intermediate_size=1408,
            num_experts=64,
            num_shared_experts=2,
            num_dense_layers=1,
        ),
        {TRANSFORMERS_5: framed(_afmoe)},
        (),
    ),
    "ernie4_5_moe": Architecture(
        sizes(
            103424,
            2560,
            12288,
            28,
            20,
            4,
            moe_intermediate_size=1536,
            moe_num_experts=64,
            moe_num_shared_experts=2,
            moe_layer_start_index=1,
            moe_layer_end_index=-1,
            moe_layer_interval=1,
        ),
        {TRANSFORMERS_5: _ernie_frame(_ernie4_5_moe), TRANSFORMERS_4: _ernie_frame(_ernie4_5_moe_before_5)},
        (),
    ),
    "hunyuan_v1_moe": Architecture(
        sizes(290943, 4096, 11008, 32, 32, None, num_experts=1),
        both_names(_hunyuan_v1_moe, _hunyuan_experts_before_5, framed),
        (),
    ),
}
