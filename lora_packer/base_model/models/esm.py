"""Models of proteins: ESM, and Evolla, which speaks about them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import Tower, below, fixed
from lora_packer.base_model.blocks.encoders import embeddings, encoder, layers, roberta_predictions
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _esm(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    absolute = s.value("position_embedding_type") == "absolute"
    yield from embeddings(s, hidden, tables=("word", "position") if absolute else ("word",), norm=None)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", hidden)
    yield from layers(s, attention_norm="LayerNorm", output_norm="LayerNorm", last_norm="encoder.emb_layer_norm_after")
    # Every head of every layer votes on which residues touch.
    yield linear("contact_head.regression", 1, s.size("num_hidden_layers") * s.size("num_attention_heads"), bias=True)


def _evolla(s: Settings) -> Named:
    """A Llama, some of whose layers attend to the protein."""
    hidden, bias, mlp_bias = s.size("hidden_size"), s.flag("attention_bias"), s.flag("mlp_bias")
    interval = max(s.size("num_hidden_layers") // s.size("aligner_num_add_layers"), 1)

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=mlp_bias)
        if (index + 1) % interval == 0:
            yield from _evolla_aligner(s, f"{prefix}.adapter", hidden)

    protein, encoder = _PROTEIN.of(s)
    yield from stacked(s, layer)
    yield from below("protein_encoder.model", encoder(protein))
    yield from below("protein_encoder.sequence_compressor_resampler", _evolla_resampler(s, protein.size("hidden_size")))


def _evolla_aligner(s: Settings, path: str, hidden: int) -> Named:
    heads = s.size("num_attention_heads")
    width = heads * (hidden // heads)
    yield f"{path}.gate_attention", Module("parameter", (1,))
    yield f"{path}.gate_ffw", Module("parameter", (1,))
    for name in ("query", "key_protein", "value_protein"):
        yield linear(f"{path}.{name}", width, hidden, bias=True)
    yield norm(f"{path}.attention_norm", hidden)
    yield linear(f"{path}.out_proj", hidden, hidden, bias=s.flag("aligner_enable_bias"))
    yield from _evolla_feed_forward(f"{path}.ff", hidden, hidden * s.size("aligner_ffn_mult"))


def _evolla_feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.norm", width)
    yield linear(f"{path}.fc1", inner, width)
    yield linear(f"{path}.fc2", width, inner)


def _evolla_resampler(s: Settings, width: int) -> Named:
    inner = s.size("resampler_dim_head") * s.size("resampler_heads")
    yield "latents", Module("parameter", (s.size("resampler_num_latents"), width))
    for index in range(s.size("resampler_depth")):
        path = f"layers.{index}"
        yield from layer_norm(f"{path}.0.norm_media", width)
        yield from layer_norm(f"{path}.0.norm_latents", width)
        yield linear(f"{path}.0.to_q", inner, width)
        yield linear(f"{path}.0.to_kv", 2 * inner, width)
        yield linear(f"{path}.0.to_out", width, inner)
        yield from _evolla_feed_forward(f"{path}.1", width, width * s.size("resampler_ff_mult"))
    yield from layer_norm("norm", s.size("hidden_size"))
    yield linear("protein_projector", s.size("hidden_size"), width, bias=True)


def _saprot(s: Settings) -> Named:
    """ESM with rotary positions."""
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield embedding("embeddings.word_embeddings", s.size("vocab_size"), hidden)
    if s.value("position_embedding_type") == "absolute":
        yield embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), hidden)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        for block in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            for name in ("query", "key", "value"):
                yield linear(f"{path}.{block}.self.{name}", hidden, hidden, bias=True)
            yield linear(f"{path}.{block}.output.dense", hidden, hidden, bias=True)
            yield from layer_norm(f"{path}.{block}.LayerNorm", hidden)
        yield linear(f"{path}.intermediate.dense", inner, hidden, bias=True)
        yield linear(f"{path}.output.dense", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.LayerNorm", hidden)
    yield from layer_norm("encoder.emb_layer_norm_after", hidden)


_PROTEIN = fixed("protein_encoder_config", Tower("evolla.protein_encoder_config", _saprot))

ARCHITECTURES: Mapping[str, Architecture] = {
    "esm": declared(encoder(_esm, "esm.", partial(roberta_predictions, bias=False)), input_embedding="word_embeddings"),
    "evolla": declared(framed(_evolla)),
}
