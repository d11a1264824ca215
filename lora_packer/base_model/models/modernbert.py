"""ModernBERT, as encoder and as decoder."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architecture, Architectures, Head, declared
from lora_packer.base_model.blocks.frames import numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _norm(s: Settings, path: str) -> Named:
    """ModernBERT's norms have a bias where the config says so."""
    return layer_norm(path, s.hidden) if s.flag("norm_bias") else norm(path, s.hidden)


def _modernbert(s: Settings, *, fused: bool) -> Named:
    bias, mlp_bias = s.flag("attention_bias"), s.flag("mlp_bias")
    projections = {"Wqkv": 3 * s.hidden} if fused else dict.fromkeys(("q_proj", "k_proj", "v_proj"), s.hidden)

    def layer(path: str, _index: int) -> Named:
        for name, size in projections.items():
            yield from linear(f"{path}.attn.{name}", size, s.hidden, bias=bias)
        yield from linear(f"{path}.attn.Wo", s.hidden, s.hidden, bias=bias)
        yield from linear(f"{path}.mlp.Wi", 2 * s.inner, s.hidden, bias=mlp_bias)
        yield from linear(f"{path}.mlp.Wo", s.hidden, s.inner, bias=mlp_bias)
        yield from _norm(s, f"{path}.mlp_norm")
        if path != "layers.0":  # the embeddings are normed already
            yield from _norm(s, f"{path}.attn_norm")

    yield from embedding("embeddings.tok_embeddings", s.vocab, s.hidden)
    yield from _norm(s, "embeddings.norm")
    yield from numbered(s, "layers", layer)
    yield from _norm(s, "final_norm")


def _modernbert_heads(s: Settings, head: Head, *, decoder: bool) -> Named:
    bias = s.flag("classifier_bias")
    before = "lm_head" if decoder and head == "causal-lm" else "head"
    yield from linear(f"{before}.dense", s.hidden, s.hidden, bias=bias)
    yield from _norm(s, f"{before}.norm")
    if head == "causal-lm":
        yield from linear("decoder", s.vocab, s.hidden, bias=s.flag("decoder_bias"))
    else:
        yield from linear("classifier", s.labels(), s.hidden, bias=bias or not decoder)


def _modernbert_build(s: Settings, head: Head, *, decoder: bool) -> Named:
    for path, module in _modernbert(s, fused=not decoder):
        yield path if head == "none" else f"model.{path}", module
    if head != "none":
        yield from _modernbert_heads(s, head, decoder=decoder)


def _modernbert_architecture(*, decoder: bool) -> Architecture:
    build = partial(_modernbert_build, decoder=decoder)
    return declared(build, input_embedding="tok_embeddings")


ARCHITECTURES: Architectures = {
    "modernbert": _modernbert_architecture(decoder=False),
    "modernbert-decoder": _modernbert_architecture(decoder=True),
}
