"""Decoders in fairseq's line: OPT, XGLM, BioGPT."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.frames import QUERY_VALUE, aliased, framed, head_modules, numbered
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _layer(s: Settings, prefix: str, inner: int, *, bias: bool = True, affine: bool = True) -> Named:
    """A layer of OPT, XGLM and BioGPT."""
    yield from _attention(s, f"{prefix}.self_attn", bias=bias, affine=affine)
    yield from chain(prefix, (s.hidden, inner, s.hidden), "fc1", "fc2", bias=bias)
    if affine:
        yield from layer_norm(f"{prefix}.final_layer_norm", s.hidden)


def _attention(s: Settings, prefix: str, *, bias: bool = True, affine: bool = True) -> Named:
    yield from linear(prefix, s.hidden, s.hidden, "k_proj", "v_proj", "q_proj", "out_proj", bias=bias)
    if affine:
        yield from layer_norm(f"{prefix}_layer_norm", s.hidden)


def _opt(s: Settings) -> Named:
    inner = s.size("ffn_dim")
    width = s.optional_size("word_embed_proj_dim") or s.hidden
    bias, affine = s.flag("enable_bias"), s.flag("layer_norm_elementwise_affine")
    yield from embedding("decoder.embed_tokens", s.vocab, width)
    yield from embedding("decoder.embed_positions", s.size("max_position_embeddings") + 2, s.hidden)
    if width != s.hidden:
        yield from linear("decoder.project_out", width, s.hidden)
        yield from linear("decoder.project_in", s.hidden, width)
    if affine and s.flag("do_layer_norm_before") and not s.flag("_remove_final_layer_norm"):
        yield from layer_norm("decoder.final_layer_norm", s.hidden)
    yield from numbered(s, "decoder.layers", lambda path, _index: _layer(s, path, inner, bias=bias, affine=affine))


def _opt_heads(s: Settings, head: Head) -> Named:
    projected = s.optional_size("word_embed_proj_dim") is not None
    return head_modules(s, head, width="word_embed_proj_dim" if projected else "hidden_size")


def _xglm(s: Settings) -> Named:
    inner = s.size("ffn_dim")

    def layer(prefix: str, _index: int) -> Named:
        yield from _layer(s, prefix, inner)
        if s.flag("add_cross_attention"):
            yield from _attention(s, f"{prefix}.encoder_attn")

    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from numbered(s, "layers", layer)
    yield from layer_norm("layer_norm", s.hidden)


def _biogpt(s: Settings) -> Named:
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from embedding("embed_positions", s.size("max_position_embeddings") + 2, s.hidden)
    yield from numbered(s, "layers", lambda path, _index: _layer(s, path, s.inner))
    yield from layer_norm("layer_norm", s.hidden)


ARCHITECTURES: Architectures = {
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
