"""Older decoders with names of their own: GPT-NeoX Japanese, CPM-Ant, Moshi's language model, GPT-SW3."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architecture,
    Head,
    framed,
    head_modules,
    only_for,
)
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear, norm
from lora_packer.base_model.families.common import LAYER_NORMS, head_sizes
from lora_packer.base_model.families.legacy import ARCHITECTURES as LEGACY
from lora_packer.base_model.families.legacy import numbered
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _gpt_neox_japanese(s: Settings) -> Named:
    """GPT-NeoX Japanese, in which only the last layer's attention has a bias, and adds it itself."""
    hidden, last = s.size("hidden_size"), s.size("num_hidden_layers") - 1
    inner = int(hidden * s.ratio("intermediate_multiple_size"))

    def layer(prefix: str) -> Named:
        for name in LAYER_NORMS:
            yield from layer_norm(f"{prefix}.{name}", hidden)
        yield linear(f"{prefix}.attention.query_key_value", 3 * hidden, hidden)
        yield linear(f"{prefix}.attention.dense", hidden, hidden)
        yield linear(f"{prefix}.mlp.dense_h_to_4h", inner, hidden)
        yield linear(f"{prefix}.mlp.dense_4h_to_h", hidden, inner)

    yield embedding("embed_in", s.size("vocab_size"), hidden)
    yield from numbered(s, "layers", layer)
    yield f"layers.{last}.attention.dense_bias", Module("parameter", (hidden,))
    yield from layer_norm("final_layer_norm", hidden)


def _cpmant(s: Settings) -> Named:
    """CPM-Ant, whose input embedding holds the tokens of its prompts too."""
    hidden, inner, heads = s.size("hidden_size"), s.size("dim_ff"), s.size("num_attention_heads")
    width, segments = heads * s.size("dim_head"), s.size("segment_types")

    def layer(prefix: str) -> Named:
        path = f"{prefix}.self_att.self_attention"
        yield norm(f"{prefix}.self_att.layernorm_before_attention", hidden)
        for name in ("project_q", "project_k", "project_v"):
            yield linear(f"{path}.{name}", width, hidden)
        yield linear(f"{path}.attention_out", hidden, width)
        yield norm(f"{prefix}.ffn.layernorm_before_ffn", hidden)
        yield linear(f"{prefix}.ffn.ffn.w_in.w_0", inner, hidden)
        yield linear(f"{prefix}.ffn.ffn.w_in.w_1", inner, hidden)
        yield linear(f"{prefix}.ffn.ffn.w_out", hidden, inner)

    yield from numbered(s, "encoder.layers", layer)
    yield norm("encoder.output_layernorm", hidden)
    yield embedding("segment_embedding", segments, hidden)
    yield embedding("input_embedding", _cpmant_rows(s), hidden)
    rows = segments**2 + s.size("position_bias_num_buckets")
    yield "position_bias.relative_attention_bias", Module("parameter", (rows, heads))


def _cpmant_rows(s: Settings) -> int:
    return s.size("vocab_size") + s.count("prompt_types") * s.count("prompt_length")


def _cpmant_head_before_5(s: Settings, head: Head) -> Named:
    return head_modules(s.with_fields(vocab_size=_cpmant_rows(s)), head)


def _moshi(s: Settings) -> Named:
    """Moshi's language model, whose projections are linears inside modules of their own."""
    hidden, inner, (heads, kv_heads, head_dim) = s.size("hidden_size"), s.size("ffn_dim"), head_sizes(s)

    def layer(prefix: str) -> Named:
        for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{prefix}.self_attn.{name}.linear", count * head_dim, hidden)
        yield linear(f"{prefix}.self_attn.o_proj.linear", hidden, heads * head_dim)
        yield linear(f"{prefix}.mlp.fc1", inner, hidden)
        yield linear(f"{prefix}.mlp.fc2", hidden, inner // 2)
        for name in LAYER_NORMS:
            yield norm(f"{prefix}.{name}", hidden)

    yield embedding("embed_tokens", s.size("vocab_size") + 1, hidden)
    yield from numbered(s, "layers", layer)
    yield norm("norm", hidden)


ARCHITECTURES: Mapping[str, Architecture] = {
    # The checkpoints of GPT-SW3 are GPT-2's class; only the tokenizer is another.
    "gpt-sw3": LEGACY["gpt2"],
    "gpt_neox_japanese": Architecture(
        {
            "vocab_size": 32000,
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_multiple_size": 4,
        },
        {
            TRANSFORMERS_5: framed(
                _gpt_neox_japanese, prefix="gpt_neox_japanese.", heads=partial(head_modules, output="embed_out")
            )
        },
        (),
        input_embedding="embed_in",
    ),
    "cpmant": Architecture(
        {
            "vocab_size": 30720,
            "hidden_size": 4096,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "dim_head": 128,
            "dim_ff": 10240,
            "position_bias_num_buckets": 512,
            "prompt_types": 32,
            "prompt_length": 32,
            "segment_types": 32,
        },
        {
            TRANSFORMERS_5: framed(_cpmant, prefix="cpmant."),
            TRANSFORMERS_4: framed(_cpmant, prefix="cpmant.", heads=_cpmant_head_before_5),
        },
        (),
        input_embedding="input_embedding",
    ),
    "moshi": Architecture(
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "ffn_dim": 22528,
        },
        # MoshiForConditionalGeneration has this one inside, and more beside it.
        {TRANSFORMERS_5: only_for(framed(_moshi), "MoshiForCausalLM", "MoshiModel")},
        (),
    ),
}
