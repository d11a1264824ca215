"""Decoders of multi-head latent attention: DeepSeek and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, framed, only_for
from lora_packer.base_model.blocks import Named, fused_experts, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import layer_kinds, sizes, stacked
from lora_packer.base_model.families.experts import (
    Experts,
    both_names,
    deepseek_mixture,
    number_of_experts,
    parameter_routed_experts,
    separate_linears,
)
from lora_packer.base_model.families.moe_shared import first_dense
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def latent_attention(s: Settings, prefix: str, *, rope: int | None = None, query: int | None = None) -> Named:
    """Multi-head latent attention; without ``q_lora_rank`` the queries are projected at once.

    ``rope`` and ``query`` are the sizes of a head's rotated part and of its queries, where a type has its own rule.
    """
    hidden, heads, bias = s.size("hidden_size"), s.size("num_attention_heads"), s.flag("attention_bias")
    nope, value = s.size("qk_nope_head_dim"), s.size("v_head_dim")
    rope = s.size("qk_rope_head_dim") if rope is None else rope
    rank, key_rank, query = s.optional_size("q_lora_rank"), s.size("kv_lora_rank"), query or nope + rope
    if rank is None:
        yield linear(f"{prefix}.q_proj", heads * query, hidden)
    else:
        yield linear(f"{prefix}.q_a_proj", rank, hidden, bias=bias)
        yield norm(f"{prefix}.q_a_layernorm", rank)
        yield linear(f"{prefix}.q_b_proj", heads * query, rank)
    yield linear(f"{prefix}.kv_a_proj_with_mqa", key_rank + rope, hidden, bias=bias)
    yield norm(f"{prefix}.kv_a_layernorm", key_rank)
    yield linear(f"{prefix}.kv_b_proj", heads * (nope + value), key_rank)
    yield linear(f"{prefix}.o_proj", hidden, heads * value, bias=bias)


def _layered(
    s: Settings,
    attention: Callable[[str, int], Named],
    kind: Callable[[int], str],
    count: int,
    experts: Experts = fused_experts,
    *,
    bias: bool = False,
) -> Named:
    """Layers of an attention and either experts ("sparse") or a dense feed-forward block."""

    def layer(prefix: str, index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", index)
        if kind(index) == "sparse":
            yield from deepseek_mixture(s, f"{prefix}.mlp", count, experts, bias=bias)
        else:
            yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"), bias=bias)

    return stacked(s, layer)


def deepseek_v3(s: Settings, *, experts: Experts = fused_experts) -> Named:
    """DeepSeek-V3's decoder, which Kimi-K2 has too."""
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")
    return _layered(s, _attends(s), _from_layer(s), count, experts)


def _deepseek_v2(s: Settings, *, experts: Experts = fused_experts) -> Named:
    count = number_of_experts(s, "n_routed_experts", "num_experts")
    return _layered(s, _attends(s), _from_layer(s), count, experts, bias=s.flag("mlp_bias"))


def _deepseek_v2_before_5(s: Settings) -> Named:
    return _deepseek_v2(s, experts=partial(parameter_routed_experts, bias=s.flag("mlp_bias")))


def _from_layer(s: Settings) -> Callable[[int], str]:
    dense = s.count("first_k_dense_replace")
    return lambda index: "sparse" if index >= dense else "dense"


def _attends(s: Settings, rope: int | None = None) -> Callable[[str, int], Named]:
    return lambda prefix, _index: latent_attention(s, prefix, rope=rope)


def _glm4_moe_lite(s: Settings) -> Named:
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")
    rope = s.aliased({"head_dim": "qk_rope_head_dim"}).size("head_dim")
    return _layered(s, _attends(s, rope), kind, count)


def _deepseek_v32(s: Settings) -> Named:
    return _indexed(s, lambda _index: "full")


def _glm_moe_dsa(s: Settings) -> Named:
    """GLM-5's decoder: some layers take over the indexer of an earlier one."""
    return _indexed(s, indexer_kinds(s, offset=s.count("index_skip_topk_offset")))


def indexer_kinds(s: Settings, *, offset: int) -> Callable[[int], str]:
    """Return whether a layer has an indexer of its own ("full") or takes over an earlier one ("shared")."""
    frequency = s.count("index_topk_freq") or 1
    listed, pattern = s.names("indexer_types"), s.value("index_topk_pattern")
    if listed is None and isinstance(pattern, str):
        listed = tuple("shared" if letter == "S" else "full" for letter in pattern)
    elif listed is None:
        listed = s.names("index_topk_pattern")

    def derived(index: int) -> str:
        return "shared" if max(index - offset + 1, 0) % frequency else "full"

    return layer_kinds(listed, derived)


def _indexed(s: Settings, indexer: Callable[[int], str]) -> Named:
    hidden, heads, size = s.size("hidden_size"), s.size("index_n_heads"), s.size("index_head_dim")
    count = s.optional_size("num_experts") or number_of_experts(s, "n_routed_experts", "num_local_experts")

    def attention(prefix: str, index: int) -> Named:
        yield from latent_attention(s, prefix)
        if indexer(index) != "shared":
            yield linear(f"{prefix}.indexer.wq_b", heads * size, s.size("q_lora_rank"))
            yield linear(f"{prefix}.indexer.wk", size, hidden)
            yield from layer_norm(f"{prefix}.indexer.k_norm", size)
            yield linear(f"{prefix}.indexer.weights_proj", heads, hidden)

    return _layered(s, attention, first_dense(s), count)


def _deepseek_v4(s: Settings) -> Named:
    """DeepSeek-V4's decoder: compressed keys and values, and hyper-connections around each block."""
    s = s.aliased({"intermediate_size": "moe_intermediate_size"})
    hidden, heads, head_dim, rank = (
        s.size(name) for name in ("hidden_size", "num_attention_heads", "head_dim", "q_lora_rank")
    )
    groups, group_rank, mult = s.size("o_groups"), s.size("o_lora_rank"), s.size("hc_mult")
    count = number_of_experts(s, "n_routed_experts", "num_local_experts")
    kind, rates = _compression(s), s.nested("compress_rates")

    def attention(prefix: str, compression: str) -> Named:
        yield f"{prefix}.sinks", Module("parameter", (heads,))
        yield linear(f"{prefix}.q_a_proj", rank, hidden)
        yield norm(f"{prefix}.q_a_norm", rank)
        yield linear(f"{prefix}.q_b_proj", heads * head_dim, rank)
        yield linear(f"{prefix}.kv_proj", head_dim, hidden)
        yield norm(f"{prefix}.kv_norm", head_dim)
        yield linear(f"{prefix}.o_a_proj", groups * group_rank, heads * head_dim // groups)
        yield linear(f"{prefix}.o_b_proj", hidden, groups * group_rank)
        if compression == "heavily_compressed_attention":
            rate = s.optional_size("compress_rate_hca") or rates.size(compression)
            yield from _compressor(f"{prefix}.compressor", hidden, head_dim, head_dim, rate)
        elif compression == "compressed_sparse_attention":
            rate = s.optional_size("compress_rate_csa") or rates.size(compression)
            path, size = f"{prefix}.compressor", s.size("index_head_dim")
            yield from _compressor(path, hidden, 2 * head_dim, head_dim, rate)
            yield from _compressor(f"{path}.indexer", hidden, 2 * size, size, rate)
            yield linear(f"{path}.indexer.q_b_proj", s.size("index_n_heads") * size, rank)
            yield linear(f"{path}.indexer.scorer.weights_proj", s.size("index_n_heads"), hidden)

    def layer(prefix: str, index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", kind(index))
        yield from fused_experts(f"{prefix}.mlp", hidden, s.size("intermediate_size"), count)
        yield from gated_mlp(
            f"{prefix}.mlp.shared_experts", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias")
        )
        for block in ("attn_hc", "ffn_hc"):
            yield f"{prefix}.{block}.fn", Module("parameter", ((2 + mult) * mult, mult * hidden))
            yield f"{prefix}.{block}.base", Module("parameter", ((2 + mult) * mult,))
            yield f"{prefix}.{block}.scale", Module("parameter", (3,))

    yield from stacked(s, layer)
    yield "hc_head.hc_fn", Module("parameter", (mult, mult * hidden))
    yield "hc_head.hc_base", Module("parameter", (mult,))
    yield "hc_head.hc_scale", Module("parameter", (1,))


def _compressor(prefix: str, hidden: int, width: int, size: int, rate: int) -> Named:
    yield f"{prefix}.position_bias", Module("parameter", (rate, width))
    yield linear(f"{prefix}.kv_proj", width, hidden)
    yield linear(f"{prefix}.gate_proj", width, hidden)
    yield norm(f"{prefix}.kv_norm", size)


def _compression(s: Settings) -> Callable[[int], str]:
    """Return how each layer compresses; older configs have ``compress_ratios``."""
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    listed, ratios = s.names("layer_types"), s.value("compress_ratios")
    if listed is None and isinstance(ratios, list):
        listed = tuple(kinds.get(ratio, "") for ratio in ratios if type(ratio) is int)
    return layer_kinds(listed, lambda index: kinds[4] if index > 2 and index % 2 else kinds[128])


def _longcat_flash(s: Settings, *, experts: Experts, layers: int) -> Named:
    """LongCat-Flash's decoder: each layer has two attentions, two dense blocks and experts beside them."""
    s = s.aliased({"intermediate_size": "ffn_hidden_size", "moe_intermediate_size": "expert_ffn_hidden_size"})
    hidden, routed = s.size("hidden_size"), number_of_experts(s, "n_routed_experts", "num_local_experts")
    every = routed + s.count("zero_expert_num")

    def layer(prefix: str, _index: int) -> Named:
        yield from experts(f"{prefix}.mlp.experts", hidden, s.size("moe_intermediate_size"), routed)
        yield linear(f"{prefix}.mlp.router.classifier", every, hidden, bias=s.flag("router_bias"))
        for half in range(2):
            yield from latent_attention(s, f"{prefix}.self_attn.{half}", query=s.optional_size("qk_head_dim"))
            yield from gated_mlp(f"{prefix}.mlps.{half}", hidden, s.size("intermediate_size"))
            yield norm(f"{prefix}.input_layernorm.{half}", hidden)
            yield norm(f"{prefix}.post_attention_layernorm.{half}", hidden)

    return stacked(s, layer, norms=(), layers=layers)


def _longcat_layers(s: Settings) -> int:
    """transformers 5 counts halves of layers where ``num_hidden_layers`` is given; 4 always read ``num_layers``."""
    halves = s.optional_size("num_hidden_layers")
    return halves // 2 if halves else s.size("num_layers")


def _longcat_experts(s: Settings) -> Experts:
    """The experts, of which those without an effect have a row in one of the two parameters only."""

    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        every = count + s.count("zero_expert_num")
        yield f"{prefix}.gate_up_proj", Module("parameter", (every, 2 * intermediate, hidden))
        yield f"{prefix}.down_proj", Module("parameter", (count, hidden, intermediate))

    return experts


_DEEPSEEK_V3_CLASSES = tuple(
    f"DeepseekV3{name}" for name in ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification")
)
_DEEPSEEK_V3 = Architecture(
    sizes(
        129280,
        7168,
        18432,
        61,
        128,
        128,
        moe_intermediate_size=2048,
        n_shared_experts=1,
        n_routed_experts=256,
        kv_lora_rank=512,
        q_lora_rank=1536,
        qk_rope_head_dim=64,
        v_head_dim=128,
        qk_nope_head_dim=128,
        first_k_dense_replace=3,
    ),
    both_names(deepseek_v3, parameter_routed_experts, framed),
    (),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "deepseek_v3": _DEEPSEEK_V3,
    # Kimi-K2's config.json names DeepseekV3ForCausalLM as its architecture; one that names another class is another's.
    "kimi_k2": replace(
        _DEEPSEEK_V3,
        dialects={name: only_for(build, *_DEEPSEEK_V3_CLASSES) for name, build in _DEEPSEEK_V3.dialects.items()},
    ),
    "deepseek_v2": Architecture(
        sizes(
            102400,
            4096,
            11008,
            32,
            32,
            None,
            moe_intermediate_size=1407,
            n_shared_experts=2,
            n_routed_experts=64,
            kv_lora_rank=512,
            q_lora_rank=1536,
            qk_rope_head_dim=64,
            v_head_dim=128,
            qk_nope_head_dim=128,
            first_k_dense_replace=0,
        ),
        {TRANSFORMERS_5: framed(_deepseek_v2), TRANSFORMERS_4: framed(_deepseek_v2_before_5)},
        (),
    ),
    "deepseek_v32": Architecture(
        {**_DEEPSEEK_V3.defaults, "index_head_dim": 128, "index_n_heads": 64},
        {TRANSFORMERS_5: framed(_deepseek_v32)},
        (),
    ),
    "glm_moe_dsa": Architecture(
        sizes(
            154880,
            6144,
            12288,
            78,
            64,
            64,
            moe_intermediate_size=2048,
            n_shared_experts=1,
            n_routed_experts=256,
            kv_lora_rank=512,
            q_lora_rank=2048,
            qk_rope_head_dim=64,
            v_head_dim=256,
            qk_nope_head_dim=192,
            first_k_dense_replace=3,
            index_head_dim=128,
            index_n_heads=32,
            index_skip_topk_offset=2,
        ),
        {TRANSFORMERS_5: framed(_glm_moe_dsa)},
        (),
    ),
    "glm4_moe_lite": Architecture(
        sizes(
            154880,
            2048,
            10240,
            47,
            20,
            20,
            moe_intermediate_size=1536,
            n_shared_experts=1,
            n_routed_experts=64,
            kv_lora_rank=512,
            q_lora_rank=768,
            qk_rope_head_dim=64,
            v_head_dim=256,
            qk_nope_head_dim=192,
        ),
        {TRANSFORMERS_5: framed(_glm4_moe_lite)},
        (),
    ),
    "deepseek_v4": Architecture(
        {
            "vocab_size": 129280,
            "hidden_size": 4096,
            "moe_intermediate_size": 2048,
            "num_hidden_layers": 43,
            "num_attention_heads": 64,
            "head_dim": 512,
            "q_lora_rank": 1024,
            "n_routed_experts": 256,
            "o_groups": 8,
            "o_lora_rank": 1024,
            "index_n_heads": 64,
            "index_head_dim": 128,
            "hc_mult": 4,
            "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128},
        },
        {TRANSFORMERS_5: framed(_deepseek_v4)},
        (),
    ),
    "longcat_flash": Architecture(
        {
            "vocab_size": 131072,
            "hidden_size": 6144,
            "num_layers": 28,
            "num_attention_heads": 64,
            "ffn_hidden_size": 12288,
            "expert_ffn_hidden_size": 2048,
            "n_routed_experts": 512,
            "zero_expert_num": 256,
            "q_lora_rank": 1536,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
        },
        {
            TRANSFORMERS_5: framed(lambda s: _longcat_flash(s, experts=_longcat_experts(s), layers=_longcat_layers(s))),
            TRANSFORMERS_4: framed(lambda s: _longcat_flash(s, experts=separate_linears, layers=s.size("num_layers"))),
        },
        (),
    ),
}
