"""Decoders that are the only one of their name."""

from __future__ import annotations

import math
from functools import partial

from lora_packer.base_model.architecture import Architectures, Head, declared, like
from lora_packer.base_model.blocks.attention import (
    grouped_attention,
    head_sizes,
    layer_norms_of_heads,
    plain_attention,
)
from lora_packer.base_model.blocks.feed_forward import plain_mlp, ungated_mlp
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    QUERY_VALUE,
    TRANSFORMER,
    UNGATED_LAYER,
    aliased,
    classified_by_classifier,
    decoder,
    framed,
    head_modules,
    numbered,
    stacked,
)
from lora_packer.base_model.blocks.latent import latent_decoder
from lora_packer.base_model.blocks.layers import (
    chain,
    embedding,
    flagged,
    layer_norm,
    linear,
    no_norm,
    norm,
    of_size,
    parameter,
)
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _hyperclovax(s: Settings) -> Named:
    norms = ("post_norm1", "post_norm2") if s.flag("use_post_norm") else ()
    return decoder({"self_attn": plain_attention, "mlp": flagged(plain_mlp, bias="mlp_bias")}, (*LAYER_NORMS, *norms))(
        s
    )


_cwm = decoder({"self_attn": grouped_attention, "mlp": flagged(plain_mlp, bias="mlp_bias")})


_seed_oss = decoder(
    {
        "self_attn": flagged(grouped_attention, bias="attention_bias", output_bias="attention_out_bias"),
        "mlp": flagged(plain_mlp, bias="mlp_bias"),
    }
)


def _helium_attention(s: Settings, path: str) -> Named:
    """The output projection is square, whatever the size of a head."""
    for name, module in grouped_attention(s, path, bias=s.flag("attention_bias")):
        yield from linear(name, s.hidden, s.hidden) if name.endswith(".o_proj") else [(name, module)]


_helium = decoder({"self_attn": _helium_attention, "mlp": flagged(plain_mlp, bias="mlp_bias")})


def _persimmon_attention(s: Settings, path: str) -> Named:
    yield from linear(f"{path}.query_key_value", 3 * s.hidden, s.hidden, bias=True)
    yield from linear(f"{path}.dense", s.hidden, s.hidden, bias=True)
    yield from layer_norms_of_heads(s, path)


_persimmon_mlp = partial(ungated_mlp, names=("dense_h_to_4h", "dense_4h_to_h"), bias=True)
_persimmon = decoder(
    {
        "self_attn": _persimmon_attention,
        "mlp": partial(ungated_mlp, names=("dense_h_to_4h", "dense_4h_to_h"), bias=True),
    },
    kind=layer_norm,
    last_norm="final_layernorm",
)


_starcoder2 = decoder(
    {
        "self_attn": flagged(grouped_attention, bias="use_bias", output_bias="use_bias"),
        "mlp": flagged(partial(ungated_mlp, names=("c_fc", "c_proj")), bias="use_bias"),
    },
    kind=layer_norm,
)


def _stablelm(s: Settings) -> Named:
    kv_heads = s.optional_size("num_key_value_heads") or s.heads
    head_dim, bias = s.hidden // s.heads, s.flag("use_qkv_bias")

    def layer(prefix: str, _index: int) -> Named:
        for name, size in (("q_proj", s.heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield from linear(f"{prefix}.self_attn.{name}", size * head_dim, s.hidden, bias=bias)
        yield from linear(f"{prefix}.self_attn.o_proj", s.hidden, s.hidden)
        if s.flag("qk_layernorm"):  # one norm for each head
            for name, size in (("q_layernorm", s.heads), ("k_layernorm", kv_heads)):
                for head in range(size):
                    yield from norm(f"{prefix}.self_attn.{name}.norms.{head}", head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp")

    norms = ("input_layernorm",) if s.flag("use_parallel_residual") else LAYER_NORMS
    return stacked(s, layer, norms=norms, kind=layer_norm)


_nanochat = decoder({"self_attn": plain_attention, "mlp": partial(ungated_mlp, names=("fc1", "fc2"))}, kind=no_norm)


def _diffllama_attention(s: Settings, path: str) -> Named:
    yield from plain_attention(s, path)
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        yield from parameter(f"{path}.{name}", head_sizes(s)[2])


_diffllama = decoder({"self_attn": _diffllama_attention, "mlp": plain_mlp})


_bitnet = decoder(
    {
        "self_attn": plain_attention,
        "self_attn.attn_sub_norm": of_size(norm, "hidden_size"),
        "mlp": plain_mlp,
        "mlp.ffn_sub_norm": of_size(norm, "intermediate_size"),
    }
)


def _doge(s: Settings) -> Named:
    """Doge's decoder: masked attention, residuals with weights, and experts that are rows of embeddings."""
    bias, (_, kv_heads, head_dim) = s.flag("attention_bias"), head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from grouped_attention(s, path, bias=bias, output_bias=bias)
        yield from parameter(f"{path}.A", kv_heads)
        yield from linear(f"{path}.dt_proj", kv_heads, kv_heads * head_dim, bias=bias)
        yield from norm(path, head_dim, "q_norm", "k_norm")
        yield from plain_mlp(s, f"{prefix}.mlp", bias=s.flag("mlp_bias"))
        if s.flag("is_moe"):
            count = s.size("num_experts")
            yield from linear(f"{prefix}.mlp.router_gate", 2 * math.isqrt(count), s.hidden)
            yield from embedding(f"{prefix}.mlp.down_embed", count, s.hidden)
            yield from embedding(f"{prefix}.mlp.up_embed", count, s.hidden)
        for name in ("input_residual", "post_attention_residual"):
            yield from parameter(f"{prefix}.{name}", s.hidden)

    return stacked(s, layer)


def _hrm(s: Settings) -> Named:
    """HRM-Text's decoder: two stacks of layers, which run in turn; no norm has a weight."""
    bias = s.flag("attention_bias")
    width = s.heads * head_sizes(s)[2]
    yield from parameter("z_L_init", s.hidden)
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    for stack in ("L_module", "H_module"):
        for index in range(s.optional_size("num_layers_per_stack") or s.layers):
            path = f"{stack}.layers.{index}"
            yield from linear(
                f"{path}.self_attn", width, s.hidden, "q_proj", "k_proj", "v_proj", "gate_proj", bias=bias
            )
            yield from linear(f"{path}.self_attn.o_proj", s.hidden, width, bias=bias)
            yield from plain_mlp(s, f"{path}.mlp", bias=s.flag("mlp_bias"))


def _youtu(s: Settings) -> Named:
    return latent_decoder(s.with_fields(mlp_bias=False))


def _bloom(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.input_layernorm", s.hidden)
        yield from linear(f"{prefix}.self_attention.query_key_value", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{prefix}.self_attention.dense", s.hidden, s.hidden, bias=True)
        yield from layer_norm(f"{prefix}.post_attention_layernorm", s.hidden)
        yield from chain(
            f"{prefix}.mlp", (s.hidden, 4 * s.hidden, s.hidden), "dense_h_to_4h", "dense_4h_to_h", bias=True
        )

    yield from embedding("word_embeddings", s.vocab, s.hidden)
    yield from layer_norm("word_embeddings_layernorm", s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", s.hidden)


def _mpt(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from norm(f"{prefix}.norm_1", s.hidden)
        yield from linear(f"{prefix}.attn.Wqkv", 3 * s.hidden, s.hidden)
        yield from linear(f"{prefix}.attn.out_proj", s.hidden, s.hidden)
        yield from norm(f"{prefix}.norm_2", s.hidden)
        yield from linear(f"{prefix}.ffn.up_proj", 4 * s.hidden, s.hidden)  # whatever expansion_ratio says
        yield from linear(f"{prefix}.ffn.down_proj", s.hidden, 4 * s.hidden)

    yield from embedding("wte", s.vocab, s.hidden)
    yield from numbered(s, "blocks", layer)
    yield from norm("norm_f", s.hidden)


def _dory(s: Settings) -> Named:
    """A normalised decoder, in which some layers are run several times."""
    heads, _, head_dim = head_sizes(s)
    # Released configs list attention and feed-forward as layers of their own.
    layers = s.layers // 2 if "mlp" in (s.names("layer_types") or ()) else s.layers

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from linear(f"{prefix}.self_attn.gate_proj", heads * head_dim, s.hidden)
        for name in ("sqk", "s_gate"):
            yield from parameter(f"{prefix}.self_attn.{name}", heads * head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp", bias=s.flag("mlp_bias"))
        for name in ("suv_gate", "suv_up"):
            yield from parameter(f"{prefix}.mlp.{name}", s.inner)
        for name in ("lambda_1", "lambda_2"):
            yield from parameter(f"{prefix}.{name}", s.hidden)

    return stacked(s, layer, norms=(), kind=no_norm, layers=layers)


def _dory_heads(s: Settings, head: Head) -> Named:
    """The language model's head scales each logit (modeling_dory.py::DoryLMHead)."""
    yield from head_modules(s, head)
    if head == "causal-lm":
        yield from parameter("lm_head.logit_scale", s.vocab)


ARCHITECTURES: Architectures = {
    "dory": declared(framed(_dory, heads=_dory_heads)),
    "iquestcoder": like("granite"),
    "smollm3": like("llama", {"default_targets": ()}),
    "hyperclovax": declared(framed(_hyperclovax)),
    "cwm": declared(framed(_cwm)),
    "seed_oss": declared(framed(_seed_oss, answering_prefix=TRANSFORMER)),
    "helium": declared(framed(_helium)),
    "persimmon": declared(framed(_persimmon)),
    "starcoder2": declared(framed(_starcoder2)),
    "stablelm": declared(framed(_stablelm), targets=QUERY_VALUE),
    "arcee": declared(framed(decoder(UNGATED_LAYER), answering_prefix=TRANSFORMER)),
    "jais2": declared(framed(decoder(UNGATED_LAYER, kind=layer_norm))),
    "nanochat": declared(framed(_nanochat)),
    "diffllama": declared(framed(_diffllama, answering_prefix=TRANSFORMER)),
    "bitnet": declared(framed(_bitnet)),
    "doge": declared(framed(_doge)),
    "hrm_text": declared(framed(_hrm)),
    "youtu": declared(framed(_youtu)),
    "bloom": declared(
        aliased(
            framed(_bloom, prefix=TRANSFORMER, heads=classified_by_classifier),
            {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "n_embed": "hidden_size"},
        ),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
    ),
    "mpt": declared(
        aliased(
            framed(_mpt, prefix=TRANSFORMER, heads=classified_by_classifier),
            {"num_attention_heads": "n_heads", "hidden_size": "d_model", "num_hidden_layers": "n_layers"},
        ),
        targets=("Wqkv",),
        input_embedding="wte",
    ),
}
