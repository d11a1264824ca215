"""Decoders that are the only one of their name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import (
    attention,
    grouped_attention,
    head_sizes,
    layer_norms_of_heads,
    plain_attention,
    qk_norms,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, ungated_mlp
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    QUERY_VALUE,
    TRANSFORMER,
    aliased,
    dense,
    framed,
    plain_decoder,
    stacked,
    ungated_decoder,
)
from lora_packer.base_model.blocks.latent import latent_decoder
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, no_norm, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _hyperclovax(s: Settings) -> Named:
    bias, hidden = s.flag("attention_bias"), s.size("hidden_size")
    norms = {"post_norm1": hidden, "post_norm2": hidden} if s.flag("use_post_norm") else {}
    return dense(s, bias=bias, output_bias=bias, mlp_bias=s.flag("mlp_bias"), norms=norms)


def _cwm(s: Settings) -> Named:
    return dense(s, mlp_bias=s.flag("mlp_bias"))


def _seed_oss(s: Settings) -> Named:
    output_bias = s.flag("attention_out_bias")
    return dense(s, bias=s.flag("attention_bias"), output_bias=output_bias, mlp_bias=s.flag("mlp_bias"))


def _helium(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        # The output projection is square, whatever the size of a head.
        for path, module in attention(f"{prefix}.self_attn", hidden, *head_sizes(s), bias=s.flag("attention_bias")):
            yield linear(path, hidden, hidden) if path.endswith(".o_proj") else (path, module)
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias"))

    return stacked(s, layer)


def _persimmon(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        yield linear(f"{prefix}.self_attn.query_key_value", 3 * hidden, hidden, bias=True)
        yield linear(f"{prefix}.self_attn.dense", hidden, hidden, bias=True)
        yield from layer_norms_of_heads(s, f"{prefix}.self_attn")
        yield from ungated_mlp(s, f"{prefix}.mlp", ("dense_h_to_4h", "dense_4h_to_h"), bias=True)

    return stacked(s, layer, kind=layer_norm, last_norm="final_layernorm")


def _starcoder2(s: Settings) -> Named:
    bias = s.flag("use_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from ungated_mlp(s, f"{prefix}.mlp", ("c_fc", "c_proj"), bias=bias)

    return stacked(s, layer, kind=layer_norm)


def _stablelm(s: Settings) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    head_dim, bias = hidden // heads, s.flag("use_qkv_bias")

    def layer(prefix: str, _index: int) -> Named:
        for name, size in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{prefix}.self_attn.{name}", size * head_dim, hidden, bias=bias)
        yield linear(f"{prefix}.self_attn.o_proj", hidden, hidden)
        if s.flag("qk_layernorm"):  # one norm for each head
            for name, size in (("q_layernorm", heads), ("k_layernorm", kv_heads)):
                for head in range(size):
                    yield norm(f"{prefix}.self_attn.{name}.norms.{head}", head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp")

    norms = ("input_layernorm",) if s.flag("use_parallel_residual") else LAYER_NORMS
    return stacked(s, layer, norms=norms, kind=layer_norm)


def _nanochat(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from ungated_mlp(s, f"{prefix}.mlp", ("fc1", "fc2"))

    return stacked(s, layer, kind=no_norm)


def _apertus(s: Settings) -> Named:
    _, _, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.q_norm", head_dim)
        yield norm(f"{prefix}.self_attn.k_norm", head_dim)
        yield from ungated_mlp(s, f"{prefix}.mlp")
        if s.value("hidden_act") == "xielu":  # an activation with parameters of its own
            for name in ("alpha_p", "alpha_n"):
                yield f"{prefix}.mlp.act_fn.{name}", Module("parameter", (1,))

    return stacked(s, layer, norms=("attention_layernorm", "feedforward_layernorm"))


def _diffllama(s: Settings) -> Named:
    _, _, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            yield f"{prefix}.self_attn.{name}", Module("parameter", (head_dim,))
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _bitnet(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.attn_sub_norm", s.size("hidden_size"))
        yield from plain_mlp(s, f"{prefix}.mlp")
        yield norm(f"{prefix}.mlp.ffn_sub_norm", s.size("intermediate_size"))

    return stacked(s, layer)


def _doge(s: Settings) -> Named:
    """Doge's decoder: masked attention, residuals with weights, and experts that are rows of embeddings."""
    hidden, bias, (_, kv_heads, head_dim) = s.size("hidden_size"), s.flag("attention_bias"), head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from grouped_attention(s, path, bias=bias, output_bias=bias)
        yield f"{path}.A", Module("parameter", (kv_heads,))
        yield linear(f"{path}.dt_proj", kv_heads, kv_heads * head_dim, bias=bias)
        yield from qk_norms(path, head_dim, head_dim)
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias"))
        if s.flag("is_moe"):
            count = s.size("num_experts")
            yield linear(f"{prefix}.mlp.router_gate", 2 * math.isqrt(count), hidden)
            yield embedding(f"{prefix}.mlp.down_embed", count, hidden)
            yield embedding(f"{prefix}.mlp.up_embed", count, hidden)
        for name in ("input_residual", "post_attention_residual"):
            yield f"{prefix}.{name}", Module("parameter", (hidden,))

    return stacked(s, layer)


def _hrm(s: Settings) -> Named:
    """HRM-Text's decoder: two stacks of layers, which run in turn; no norm has a weight."""
    hidden, heads, bias = s.size("hidden_size"), s.size("num_attention_heads"), s.flag("attention_bias")
    width = heads * head_sizes(s)[2]
    yield "z_L_init", Module("parameter", (hidden,))
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    for stack in ("L_module", "H_module"):
        for index in range(s.optional_size("num_layers_per_stack") or s.size("num_hidden_layers")):
            path = f"{stack}.layers.{index}"
            for name in ("q_proj", "k_proj", "v_proj", "gate_proj"):
                yield linear(f"{path}.self_attn.{name}", width, hidden, bias=bias)
            yield linear(f"{path}.self_attn.o_proj", hidden, width, bias=bias)
            yield from gated_mlp(f"{path}.mlp", hidden, s.size("intermediate_size"), bias=s.flag("mlp_bias"))


def _youtu(s: Settings) -> Named:
    return latent_decoder(s.with_fields(mlp_bias=False))


ARCHITECTURES: Mapping[str, Architecture] = {
    "internlm3": declared(aliased(framed(plain_decoder), {"qkv_bias": "attention_bias", "bias": "mlp_bias"})),
    "iquestcoder": declared(framed(plain_decoder)),
    "smollm3": declared(framed(plain_decoder, answering_prefix=TRANSFORMER)),
    "hyperclovax": declared(framed(_hyperclovax)),
    "cwm": declared(framed(_cwm)),
    "seed_oss": declared(framed(_seed_oss, answering_prefix=TRANSFORMER)),
    "helium": declared(framed(_helium)),
    "persimmon": declared(framed(_persimmon)),
    "starcoder2": declared(framed(_starcoder2)),
    "stablelm": declared(framed(_stablelm), targets=QUERY_VALUE),
    "arcee": declared(framed(ungated_decoder, answering_prefix=TRANSFORMER)),
    "jais2": declared(framed(partial(ungated_decoder, kind=layer_norm))),
    "nanochat": declared(framed(_nanochat)),
    "apertus": declared(framed(_apertus)),
    "diffllama": declared(framed(_diffllama, answering_prefix=TRANSFORMER)),
    "bitnet": declared(framed(_bitnet)),
    "doge": declared(framed(_doge)),
    "hrm_text": declared(framed(_hrm)),
    "youtu": declared(framed(_youtu)),
}
