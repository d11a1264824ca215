"""Models of proteins: ESM, and Evolla, which speaks about them."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import Tower, below, fixed
from lora_packer.base_model.blocks.encoders import embeddings, encoder, layers, roberta_predictions
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _esm(s: Settings) -> Named:
    absolute = s.value("position_embedding_type") == "absolute"
    yield from embeddings(s, s.hidden, tables=("word", "position") if absolute else ("word",), norm=None)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", s.hidden)
    yield from layers(s, attention_norm="LayerNorm", output_norm="LayerNorm", last_norm="encoder.emb_layer_norm_after")
    # Every head of every layer votes on which residues touch.
    yield from linear("contact_head.regression", 1, s.layers * s.heads, bias=True)


def _evolla(s: Settings) -> Named:
    """A Llama, some of whose layers attend to the protein."""
    bias, mlp_bias = s.flag("attention_bias"), s.flag("mlp_bias")
    interval = max(s.layers // s.size("aligner_num_add_layers"), 1)

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from plain_mlp(s, f"{prefix}.mlp", bias=mlp_bias)
        if (index + 1) % interval == 0:
            yield from _evolla_aligner(s, f"{prefix}.adapter", s.hidden)

    protein, encoder = _PROTEIN.of(s)
    yield from stacked(s, layer)
    yield from below("protein_encoder.model", encoder(protein))
    yield from below("protein_encoder.sequence_compressor_resampler", _evolla_resampler(s, protein.hidden))


def _evolla_aligner(s: Settings, path: str, hidden: int) -> Named:
    width = s.heads * (hidden // s.heads)
    yield from parameter(f"{path}.gate_attention", 1)
    yield from parameter(f"{path}.gate_ffw", 1)
    yield from linear(path, width, hidden, "query", "key_protein", "value_protein", bias=True)
    yield from norm(f"{path}.attention_norm", hidden)
    yield from linear(f"{path}.out_proj", hidden, hidden, bias=s.flag("aligner_enable_bias"))
    yield from _evolla_feed_forward(f"{path}.ff", hidden, hidden * s.size("aligner_ffn_mult"))


def _evolla_feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.norm", width)
    yield from chain(path, (width, inner, width), "fc1", "fc2")


def _evolla_resampler(s: Settings, width: int) -> Named:
    inner = s.size("resampler_dim_head") * s.size("resampler_heads")
    yield from parameter("latents", s.size("resampler_num_latents"), width)
    for index in range(s.size("resampler_depth")):
        path = f"layers.{index}"
        yield from layer_norm(f"{path}.0", width, "norm_media", "norm_latents")
        yield from linear(f"{path}.0.to_q", inner, width)
        yield from linear(f"{path}.0.to_kv", 2 * inner, width)
        yield from linear(f"{path}.0.to_out", width, inner)
        yield from _evolla_feed_forward(f"{path}.1", width, width * s.size("resampler_ff_mult"))
    yield from layer_norm("norm", s.hidden)
    yield from linear("protein_projector", s.hidden, width, bias=True)


def _saprot(s: Settings) -> Named:
    """ESM with rotary positions."""
    yield from embedding("embeddings.word_embeddings", s.vocab, s.hidden)
    if s.value("position_embedding_type") == "absolute":
        yield from embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), s.hidden)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", s.hidden)
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        for block in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            yield from linear(f"{path}.{block}.self", s.hidden, s.hidden, "query", "key", "value", bias=True)
            yield from linear(f"{path}.{block}.output.dense", s.hidden, s.hidden, bias=True)
            yield from layer_norm(f"{path}.{block}.LayerNorm", s.hidden)
        yield from linear(f"{path}.intermediate.dense", s.inner, s.hidden, bias=True)
        yield from linear(f"{path}.output.dense", s.hidden, s.inner, bias=True)
        yield from layer_norm(f"{path}.LayerNorm", s.hidden)
    yield from layer_norm("encoder.emb_layer_norm_after", s.hidden)


_PROTEIN = fixed("protein_encoder_config", Tower("evolla.protein_encoder_config", _saprot))

ARCHITECTURES: Architectures = {
    "esm": declared(encoder(_esm, "esm.", partial(roberta_predictions, bias=False)), input_embedding="word_embeddings"),
    "evolla": declared(framed(_evolla)),
}
