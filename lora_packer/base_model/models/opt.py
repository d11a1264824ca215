"""Decoders in fairseq's line: OPT, XGLM, BioGPT."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, Head, declared
from lora_packer.base_model.blocks.frames import QUERY_VALUE, aliased, framed, head_modules, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _layer(s: Settings, prefix: str, inner: int, *, bias: bool = True, affine: bool = True) -> Named:
    """A layer of OPT, XGLM and BioGPT."""
    hidden = s.size("hidden_size")
    yield from _attention(s, f"{prefix}.self_attn", bias=bias, affine=affine)
    yield linear(f"{prefix}.fc1", inner, hidden, bias=bias)
    yield linear(f"{prefix}.fc2", hidden, inner, bias=bias)
    if affine:
        yield from layer_norm(f"{prefix}.final_layer_norm", hidden)


def _attention(s: Settings, prefix: str, *, bias: bool = True, affine: bool = True) -> Named:
    hidden = s.size("hidden_size")
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield linear(f"{prefix}.{name}", hidden, hidden, bias=bias)
    if affine:
        yield from layer_norm(f"{prefix}_layer_norm", hidden)


def _opt(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("ffn_dim")
    width = s.optional_size("word_embed_proj_dim") or hidden
    bias, affine = s.flag("enable_bias"), s.flag("layer_norm_elementwise_affine")
    yield embedding("decoder.embed_tokens", s.size("vocab_size"), width)
    yield embedding("decoder.embed_positions", s.size("max_position_embeddings") + 2, hidden)
    if width != hidden:
        yield linear("decoder.project_out", width, hidden)
        yield linear("decoder.project_in", hidden, width)
    if affine and s.flag("do_layer_norm_before") and not s.flag("_remove_final_layer_norm"):
        yield from layer_norm("decoder.final_layer_norm", hidden)
    yield from numbered(s, "decoder.layers", lambda path, _index: _layer(s, path, inner, bias=bias, affine=affine))


def _opt_heads(s: Settings, head: Head) -> Named:
    projected = s.optional_size("word_embed_proj_dim") is not None
    return head_modules(s, head, width="word_embed_proj_dim" if projected else "hidden_size")


def _xglm(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("ffn_dim")

    def layer(prefix: str, _index: int) -> Named:
        yield from _layer(s, prefix, inner)
        if s.flag("add_cross_attention"):
            yield from _attention(s, f"{prefix}.encoder_attn")

    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    yield from numbered(s, "layers", layer)
    yield from layer_norm("layer_norm", hidden)


def _biogpt(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    yield embedding("embed_positions", s.size("max_position_embeddings") + 2, hidden)
    yield from numbered(s, "layers", lambda path, _index: _layer(s, path, inner))
    yield from layer_norm("layer_norm", hidden)


ARCHITECTURES: Mapping[str, Architecture] = {
    "opt": declared(framed(_opt, heads=_opt_heads), targets=QUERY_VALUE),
    "xglm": declared(
        aliased(
            framed(_xglm),
            {"num_attention_heads": "attention_heads", "hidden_size": "d_model", "num_hidden_layers": "num_layers"},
        )
    ),
    "biogpt": declared(
        framed(_biogpt, prefix="biogpt.", heads=partial(head_modules, output="output_projection", tokens="classifier"))
    ),
}
