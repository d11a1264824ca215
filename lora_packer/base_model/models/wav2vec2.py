"""Wav2Vec2, HuBERT and WavLM, encoders of sound as it is sampled, and Wav2Vec2-BERT, an encoder of its spectrum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import Architecture, Architectures, Head, declared, only_for
from lora_packer.base_model.blocks.conformer import (
    conformer_layer,
    dense_pair,
    projected_features,
    relative_keys,
    relative_positions,
    shortening_layer,
)
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings

# What yields an encoder, from its config and the width of what it puts out.
_Body = Callable[[Settings, int], Named]
# What a relative's attention has besides, below its path, in a layer of this number.
_More = Callable[[Settings, str, int], Named]


def _waves(s: Settings) -> Named:
    """The convolutions over the samples, and what widens them to the hidden size."""
    bias, inputs, every = s.flag("conv_bias"), 1, s.value("feat_extract_norm") == "layer"
    for index, (width, kernel) in enumerate(zip(s.sizes("conv_dim"), s.sizes("conv_kernel"), strict=False)):
        path = f"feature_extractor.conv_layers.{index}"
        yield from conv(f"{path}.conv", (width, inputs, kernel), bias=bias)
        if every or index == 0:
            yield from layer_norm(f"{path}.layer_norm", width)
        inputs = width
    if s.value("feat_proj_layer_norm") is not False:  # HuBERT's alone
        yield from layer_norm("feature_projection.layer_norm", inputs)
    yield from linear("feature_projection.projection", s.hidden, inputs, bias=True)


def _positions(s: Settings) -> Named:
    """The convolution that tells where a frame is; its weight is kept as a direction and a length."""
    path, groups, kernel = "encoder.pos_conv_embed", s.size("num_conv_pos_embedding_groups"), "num_conv_pos_embeddings"
    weight = (s.hidden, s.hidden // groups, s.size(kernel))
    yield from conv(f"{path}.conv", weight, bias=True, groups=groups)
    if s.flag("conv_pos_batch_norm"):
        yield from layer_norm(f"{path}.batch_norm", s.hidden)
        return
    yield from parameter(f"{path}.conv.parametrizations.weight.original0", 1, 1, s.size(kernel))
    yield from parameter(f"{path}.conv.parametrizations.weight.original1", *weight)


def _none(_s: Settings, _path: str, _index: int) -> Named:
    return ()


def _body(s: Settings, more: _More, *, language_adapters: bool) -> Named:
    if s.value("mask_time_prob") or s.value("mask_feature_prob"):
        yield from parameter("masked_spec_embed", s.hidden)
    yield from _waves(s)
    yield from _positions(s)
    narrow = s.optional_size("adapter_attn_dim") if language_adapters and s.flag("do_stable_layer_norm") else None
    for index in range(s.layers):
        path = f"encoder.layers.{index}"
        yield from linear(f"{path}.attention", s.hidden, s.hidden, "k_proj", "v_proj", "q_proj", "out_proj", bias=True)
        yield from more(s, f"{path}.attention", index)
        sizes = (s.hidden, s.inner, s.hidden)
        yield from chain(f"{path}.feed_forward", sizes, "intermediate_dense", "output_dense", bias=True)
        yield from layer_norm(path, s.hidden, "layer_norm", "final_layer_norm")
        if narrow is not None:
            yield from layer_norm(f"{path}.adapter_layer.norm", s.hidden)
            yield from chain(f"{path}.adapter_layer", (s.hidden, narrow, s.hidden), "linear_1", "linear_2", bias=True)
    yield from layer_norm("encoder.layer_norm", s.hidden)


def _shortening(s: Settings, width: int) -> Named:
    """The convolutions behind the layers, where ``add_adapter`` says so."""
    if width != s.hidden:
        yield from linear("adapter.proj", width, s.hidden, bias=True)
        yield from layer_norm("adapter.proj_layer_norm", width)
    for index in range(s.size("num_adapter_layers")):
        shape = (2 * width, width, s.size("adapter_kernel_size"))
        yield from conv(f"adapter.layers.{index}.conv", shape, bias=True)


def _sampled(s: Settings, width: int, more: _More = _none, *, shortens: bool, language_adapters: bool = True) -> Named:
    yield from _body(s, more, language_adapters=language_adapters)
    if shortens and s.flag("add_adapter"):
        yield from _shortening(s, width)


def _spectrum(s: Settings, width: int) -> Named:
    """Wav2Vec2-BERT, a conformer."""
    kind = s.value("position_embeddings_type")
    if s.value("mask_time_prob") or s.value("mask_feature_prob"):
        yield from parameter("masked_spec_embed", s.hidden)
    yield from projected_features(s)
    for index in range(s.layers):
        path, positions = f"encoder.layers.{index}", list[tuple[str, Module]]()
        if kind == "relative":
            positions = [*relative_positions(f"{path}.self_attn", s.hidden, s.heads)]
        if kind == "relative_key":
            positions = [*relative_keys(s, f"{path}.self_attn", s.hidden, s.heads)]
        yield from conformer_layer(s, path, s.inner, positions, norm="depthwise_layer_norm")
    if s.flag("add_adapter"):
        if width != s.hidden:
            yield from linear("adapter.proj", width, s.hidden, bias=True)
            yield from layer_norm("adapter.proj_layer_norm", width)
        for index in range(s.count("num_adapter_layers")):
            yield from shortening_layer(f"adapter.layers.{index}", width, s.inner, s.size("adapter_kernel_size"))
    if s.flag("use_intermediate_ffn_before_adapter"):
        yield from dense_pair("intermediate_ffn", s.hidden, s.inner)


def _like(name: str, prefix: str, body: _Body, *, shortens: bool, tokens: bool = True) -> Architecture:
    """An encoder under its heads.

    ``shortens``: whether it knows ``add_adapter``; ``tokens``: whether it has a class that classifies each frame.
    """

    def build(s: Settings, head: Head) -> Named:
        width = (s.optional_size("output_hidden_size") or s.hidden) if shortens and s.flag("add_adapter") else s.hidden
        before = "" if head == "none" else f"{prefix}."
        for path, module in body(s, width):
            yield before + path, module
        if head in ("sequence-classification", "token-classification") and s.flag("use_weighted_layer_sum"):
            yield from parameter("layer_weights", s.layers + 1)
        match head:
            case "causal-lm":
                # A config may leave its letters to who trains it: a check takes their number from the adapter.
                yield from linear("lm_head", s.optional_size("vocab_size") or 1, width, bias=True)
            case "sequence-classification":
                narrow = s.size("classifier_proj_size")
                yield from linear("projector", narrow, s.hidden, bias=True)
                yield from linear("classifier", s.labels(), narrow, bias=True)
            case "token-classification":
                yield from linear("classifier", s.labels(), s.hidden, bias=True)

    heads = ("Model", "ForCTC", "ForSequenceClassification", *(("ForAudioFrameClassification",) if tokens else ()))
    return declared(only_for(build, *(f"{name}{head}" for head in heads)), input_embedding=None)


def _gated_positions(s: Settings, path: str, index: int) -> Named:
    """WavLM's relative positions, whose table the first layer holds for all (modeling_wavlm.py)."""
    yield from parameter(f"{path}.gru_rel_pos_const", 1, s.heads, 1, 1)
    yield from linear(f"{path}.gru_rel_pos_linear", 8, s.hidden // s.heads, bias=True)
    if index == 0:
        yield from embedding(f"{path}.rel_attn_embed", s.size("num_buckets"), s.heads)


ARCHITECTURES: Architectures = {
    "hubert": _like("Hubert", "hubert", partial(_sampled, shortens=False), shortens=False, tokens=False),
    "wav2vec2": _like("Wav2Vec2", "wav2vec2", partial(_sampled, shortens=True), shortens=True),
    "wav2vec2-bert": _like("Wav2Vec2Bert", "wav2vec2_bert", _spectrum, shortens=True),
    "wavlm": _like(
        "WavLM",
        "wavlm",
        partial(_sampled, more=_gated_positions, shortens=True, language_adapters=False),
        shortens=True,
    ),
}
