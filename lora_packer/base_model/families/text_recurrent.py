"""Recurrent decoders, alone or beside attention: Kimi Linear, Zamba, RWKV, xLSTM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, framed, head_modules
from lora_packer.base_model.blocks import Named, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import declared, layer_kinds, sizes, stacked
from lora_packer.base_model.families.experts import deepseek_mixture, number_of_experts
from lora_packer.base_model.families.hybrid import depthwise
from lora_packer.base_model.families.legacy import numbered
from lora_packer.base_model.families.mla import latent_attention
from lora_packer.base_model.families.moe_shared import first_dense
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _kimi_linear(s: Settings) -> Named:
    """Kimi Linear's decoder: Kimi delta attention, and latent attention on some layers."""
    count = number_of_experts(s, "num_local_experts", "num_experts")
    s = s.aliased({"num_shared_experts": "n_shared_experts"})
    attends, feeds = _kimi_kinds(s), first_dense(s)

    def layer(prefix: str, index: int) -> Named:
        if attends(index) == "full_attention":
            yield from latent_attention(s, f"{prefix}.self_attn")
        else:
            yield from _kimi_delta_attention(s, f"{prefix}.self_attn")
        if feeds(index) == "sparse":
            yield from deepseek_mixture(s, f"{prefix}.mlp", count, shared="num_shared_experts")
        else:
            yield from gated_mlp(f"{prefix}.mlp", s.size("hidden_size"), s.size("intermediate_size"))

    return stacked(s, layer)


def _kimi_kinds(s: Settings) -> Callable[[int], str]:
    """Return how a layer attends; older configs count the layers of full attention from one."""
    older = s.nested("linear_attn_config")
    if "full_attn_layers" in older.raw and "kda_layers" in older.raw:
        full = older.indices("full_attn_layers") - older.indices("kda_layers")
        return layer_kinds(
            s.names("layer_types"), lambda index: "full_attention" if index + 1 in full else "linear_attention"
        )
    return layer_kinds(
        s.names("layer_types"), lambda index: "full_attention" if index and index % 4 == 0 else "linear_attention"
    )


def _kimi_delta_attention(s: Settings, prefix: str) -> Named:
    hidden, older = s.size("hidden_size"), s.nested("linear_attn_config")
    heads = older.optional_size("num_heads") or s.size("linear_num_heads")
    head_dim = older.optional_size("head_dim") or s.size("linear_head_dim")
    kernel = older.optional_size("short_conv_kernel_size") or s.size("linear_conv_kernel_dim")
    width = heads * head_dim
    for name in ("q_proj", "k_proj", "v_proj"):
        yield linear(f"{prefix}.{name}", width, hidden)
    yield depthwise(f"{prefix}.conv1d", 3 * width, kernel)
    for gate in ("forget_gate.f", "g"):
        yield linear(f"{prefix}.{gate}_a_proj", head_dim, hidden)
        yield linear(f"{prefix}.{gate}_b_proj", width, head_dim)
    yield f"{prefix}.forget_gate.dt_bias", Module("parameter", (width,))
    yield f"{prefix}.forget_gate.A_log", Module("parameter", (1, 1, heads, 1))
    yield linear(f"{prefix}.b_proj", heads, hidden)
    yield norm(f"{prefix}.o_norm", head_dim)
    yield linear(f"{prefix}.o_proj", hidden, width)


def _zamba(s: Settings) -> Named:
    """Zamba's decoder: Mamba mixers of several heads, some preceded by a transformer that the layers share."""
    s = s.aliased({"layer_types": "layers_block_type", "head_dim": "attention_head_dim"})
    hidden, listed = s.size("hidden_size"), s.names("layer_types")
    period, offset = s.size("attn_layer_period"), s.count("attn_layer_offset")

    def derived(index: int) -> str:
        hybrid = index == 2 or (index > 2 and (index - 3) % period == offset)
        return "hybrid" if hybrid else "linear_attention"

    kind = layer_kinds(listed, derived)
    heads, kv_heads = s.size("num_attention_heads"), s.size("num_key_value_heads")
    wide = s.optional_size("attention_hidden_size") or 2 * hidden
    head_dim = s.optional_size("head_dim") or 2 * hidden // heads

    def mixer(prefix: str) -> Named:
        yield from _zamba_mixer(s, f"{prefix}.mamba")
        yield norm(f"{prefix}.input_layernorm", hidden)

    def layer(prefix: str, index: int) -> Named:
        if kind(index) != "hybrid":
            yield from mixer(prefix)
            return
        shared = f"{prefix}.shared_transf"
        for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{shared}.self_attn.{name}", count * head_dim, wide)
        yield linear(f"{shared}.self_attn.o_proj", hidden, heads * head_dim)
        yield from gated_mlp(f"{shared}.feed_forward", hidden, s.size("intermediate_size"))
        yield norm(f"{shared}.input_layernorm", wide)
        yield norm(f"{shared}.pre_ff_layernorm", hidden)
        yield linear(f"{prefix}.linear", hidden, hidden)
        yield from mixer(f"{prefix}.mamba_decoder")

    return stacked(s, layer, norms=(), last_norm="final_layernorm")


def _zamba_mixer(s: Settings, prefix: str) -> Named:
    hidden, heads, state = s.size("hidden_size"), s.size("n_mamba_heads"), s.size("mamba_d_state")
    inner, bias = s.size("mamba_expand") * hidden, s.flag("mamba_proj_bias")
    rank = -(-hidden // 16) if s.value("mamba_dt_rank") == "auto" else s.size("mamba_dt_rank")
    width = inner // heads
    for name, shape in (
        ("x_proj_weight", (heads, rank + 2 * state, width)),
        ("dt_proj_weight", (heads, width, rank)),
        ("dt_proj_bias", (heads, width)),
        ("A_log", (heads, width, state)),
        ("D", (heads, width)),
    ):
        yield f"{prefix}.{name}", Module("parameter", shape)
    yield depthwise(f"{prefix}.conv1d", inner, s.size("mamba_d_conv"), bias=s.flag("mamba_conv_bias"))
    yield linear(f"{prefix}.in_proj", 2 * inner, hidden, bias=bias)
    yield linear(f"{prefix}.out_proj", hidden, inner, bias=bias)


def _rwkv(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    width, inner = (
        s.optional_size("attention_hidden_size") or hidden,
        s.optional_size("intermediate_size") or 4 * hidden,
    )

    def layer(prefix: str) -> Named:
        for name in ("ln1", "ln2"):
            yield from layer_norm(f"{prefix}.{name}", hidden)
        path = f"{prefix}.attention"
        for name in ("time_decay", "time_first"):
            yield f"{path}.{name}", Module("parameter", (width,))
        for name in ("time_mix_key", "time_mix_value", "time_mix_receptance"):
            yield f"{path}.{name}", Module("parameter", (1, 1, hidden))
        for name in ("key", "value", "receptance"):
            yield linear(f"{path}.{name}", width, hidden)
        yield linear(f"{path}.output", hidden, width)
        path = f"{prefix}.feed_forward"
        for name in ("time_mix_key", "time_mix_receptance"):
            yield f"{path}.{name}", Module("parameter", (1, 1, hidden))
        yield linear(f"{path}.key", inner, hidden)
        yield linear(f"{path}.receptance", hidden, hidden)
        yield linear(f"{path}.value", hidden, inner)

    yield embedding("embeddings", s.size("vocab_size"), hidden)
    yield from layer_norm("blocks.0.pre_ln", hidden)
    yield from numbered(s, "blocks", layer)
    yield from layer_norm("ln_out", hidden)


def _xlstm(s: Settings) -> Named:
    """xLSTM's decoder of mLSTM blocks, whose weights may be fused."""
    hidden, heads, bias = s.size("hidden_size"), s.size("num_heads"), s.flag("use_bias")
    keys, values = int(hidden * s.ratio("qk_dim_factor")), int(hidden * s.ratio("v_dim_factor"))
    multiple = s.size("ffn_round_up_to_multiple_of")
    inner = int((hidden * s.ratio("ffn_proj_factor") + multiple - 1) // multiple * multiple)
    mode = s.value("weight_mode")
    if mode not in ("single", "fused"):
        raise InputError(
            "the base config's weight_mode is neither single nor fused.", hint="Use the base model's own config.json."
        )

    def scale(path: str, size: int) -> Named:
        return layer_norm(path, size) if bias else iter([norm(path, size)])

    def layer(prefix: str) -> Named:
        path, feed = f"{prefix}.mlstm_layer", f"{prefix}.ffn"
        if mode == "single":
            for name, size in (("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)):
                yield linear(f"{path}.{name}", size, hidden, bias=bias)
            for name in ("igate_preact", "fgate_preact"):
                yield linear(f"{path}.{name}", heads, hidden, bias=True)
            for name in ("proj_up_gate", "proj_up"):
                yield linear(f"{feed}.{name}", inner, hidden, bias=bias)
        else:
            yield linear(f"{path}.qkv_opreact", 2 * keys + 2 * values, hidden, bias=bias)
            yield linear(f"{path}.ifgate_preact", 2 * heads, hidden, bias=True)
            yield linear(f"{feed}.proj_up_gate_z", 2 * inner, hidden, bias=bias)
        yield linear(f"{path}.out_proj", hidden, values, bias=bias)
        yield linear(f"{feed}.proj_down", hidden, inner, bias=bias)
        yield from scale(f"{prefix}.norm_mlstm", hidden)
        yield from scale(f"{path}.multihead_norm", values // heads * heads)
        yield from scale(f"{prefix}.norm_ffn", hidden)

    yield embedding("embeddings", s.size("vocab_size"), s.optional_size("embedding_dim") or hidden)
    blocks = s.optional_size("num_blocks") or s.size("num_hidden_layers")
    yield from numbered(s.with_fields(num_hidden_layers=blocks), "blocks", layer)
    yield norm("out_norm", hidden)


ARCHITECTURES: Mapping[str, Architecture] = {
    "kimi_linear": declared(
        sizes(
            163840,
            2304,
            9216,
            27,
            32,
            32,
            moe_intermediate_size=1024,
            n_shared_experts=1,
            num_local_experts=256,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            v_head_dim=128,
            qk_nope_head_dim=128,
            linear_head_dim=128,
            linear_num_heads=32,
            linear_conv_kernel_dim=4,
            first_k_dense_replace=1,
        ),
        _kimi_linear,
    ),
    "zamba": declared(
        sizes(
            32000,
            3712,
            14848,
            76,
            16,
            16,
            n_mamba_heads=2,
            attn_layer_period=6,
            attn_layer_offset=4,
            mamba_d_state=16,
            mamba_d_conv=4,
            mamba_expand=2,
            mamba_dt_rank="auto",
            mamba_conv_bias=True,
        ),
        _zamba,
    ),
    "rwkv": Architecture(
        {"vocab_size": 50277, "hidden_size": 4096, "num_hidden_layers": 32},
        {TRANSFORMERS_5: framed(_rwkv, prefix="rwkv.", heads=partial(head_modules, output="head"))},
        ("key", "value", "receptance", "output"),
        input_embedding="embeddings",
    ),
    "xlstm": Architecture(
        {
            "vocab_size": 50304,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_heads": 8,
            "qk_dim_factor": 0.5,
            "v_dim_factor": 1.0,
            "ffn_proj_factor": 2.667,
            "ffn_round_up_to_multiple_of": 64,
            "weight_mode": "single",
        },
        {TRANSFORMERS_5: framed(_xlstm, prefix="backbone.")},
        (),
        input_embedding="embeddings",
    ),
}
