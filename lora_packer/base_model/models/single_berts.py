"""BERT's descendants that are the only one of their name and have layers of their own."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.attention import biased_attention
from lora_packer.base_model.blocks.encoders import embeddings, encoder, one_layer, roberta_predictions, two_layers
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import numbered
from lora_packer.base_model.blocks.layers import conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _mobilebert(s: Settings) -> Named:
    """BERT whose layers are narrow inside: bottlenecks stand before and behind them."""
    inside = s.size("intra_bottleneck_size")
    narrow = s.flag("use_bottleneck")
    # What a config was saved with counts, whatever else it says.
    width = s.optional_size("true_hidden_size") or (inside if narrow else s.hidden)
    between, shared = s.flag("use_bottleneck_attention"), s.flag("key_query_shared_bottleneck")

    def dense(path: str, outputs: int, inputs: int) -> Named:
        yield from linear(f"{path}.dense", outputs, inputs, bias=True)
        yield from layer_norm(f"{path}.LayerNorm", outputs)

    def feed(path: str) -> Named:
        yield from linear(f"{path}.intermediate.dense", s.inner, width, bias=True)
        yield from dense(f"{path}.output", width, s.inner)

    def layer(path: str, _index: int) -> Named:
        yield from linear(f"{path}.attention.self", width, width, "query", "key", bias=True)
        yield from linear(f"{path}.attention.self.value", width, width if between else s.hidden, bias=True)
        yield from dense(f"{path}.attention.output", width, width)
        yield from feed(path)
        if narrow:
            yield from dense(f"{path}.output.bottleneck", s.hidden, width)
            for name in ("input", "attention") if shared else ("input",):
                yield from dense(f"{path}.bottleneck.{name}", inside, s.hidden)
        for number in range(s.size("num_feedforward_networks") - 1):
            yield from feed(f"{path}.ffn.{number}")

    embedded = s.size("embedding_size")
    yield from embedding("embeddings.word_embeddings", s.vocab, embedded)
    yield from embeddings(s, s.hidden, tables=("position", "token_type"))
    yield from linear(
        "embeddings.embedding_transformation", s.hidden, embedded * (3 if s.flag("trigram_input") else 1), bias=True
    )
    yield from numbered(s, "encoder.layer", layer)


def _mobilebert_predictions(s: Settings) -> Named:
    path, embedded = "cls.predictions", s.size("embedding_size")
    yield from parameter(f"{path}.bias", s.vocab)
    yield from linear(f"{path}.transform.dense", s.hidden, s.hidden, bias=True)
    yield from layer_norm(f"{path}.transform.LayerNorm", s.hidden)
    yield from linear(f"{path}.dense", s.hidden - embedded, s.vocab)
    yield from linear(f"{path}.decoder", s.vocab, embedded, bias=True)


def _mobilebert_under(s: Settings, head: Head) -> Named:
    """Its pooler is a layer only where ``classifier_activation`` says so."""
    pools = s.flag("classifier_activation")
    return encoder(
        _mobilebert,
        "mobilebert.",
        _mobilebert_predictions,
        one_layer,
        pooled=("none", "sequence-classification") if pools else (),
    )(s, head)


def _convbert(s: Settings) -> Named:
    """BERT that has convolutions in place of some heads."""
    embedded, groups, kernel = s.size("embedding_size"), s.size("num_groups"), s.size("conv_kernel_size")
    heads = s.heads // s.size("head_ratio") or 1
    width = heads * (s.hidden // heads // 2)

    def dense(path: str, outputs: int, inputs: int) -> Named:
        if groups == 1:
            yield from linear(path, outputs, inputs, bias=True)
            return
        yield from parameter(f"{path}.weight", groups, inputs // groups, outputs // groups)
        yield from parameter(f"{path}.bias", outputs)

    def layer(path: str, _index: int) -> Named:
        for name in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            yield from attending(f"{path}.{name}")
        yield from dense(f"{path}.intermediate.dense", s.inner, s.hidden)
        yield from dense(f"{path}.output.dense", s.hidden, s.inner)
        yield from layer_norm(f"{path}.output.LayerNorm", s.hidden)

    def attending(path: str) -> Named:
        attention = f"{path}.self"
        yield from linear(attention, width, s.hidden, "query", "key", "value", "conv_out_layer", bias=True)
        yield from linear(f"{attention}.conv_kernel_layer", heads * kernel, width, bias=True)
        yield from depthwise(f"{attention}.key_conv_attn_layer.depthwise", s.hidden, kernel)
        yield from conv(f"{attention}.key_conv_attn_layer.pointwise", (width, s.hidden, 1), bias=False)
        yield from parameter(f"{attention}.key_conv_attn_layer.bias", width, 1)
        yield from linear(f"{path}.output.dense", s.hidden, s.hidden, bias=True)
        yield from layer_norm(f"{path}.output.LayerNorm", s.hidden)

    yield from embeddings(s, embedded)
    if embedded != s.hidden:
        yield from linear("embeddings_project", s.hidden, embedded, bias=True)
    yield from numbered(s, "encoder.layer", layer)


def _convbert_predictions(s: Settings) -> Named:
    embedded = s.size("embedding_size")
    yield from layer_norm("generator_predictions.LayerNorm", embedded)
    yield from linear("generator_predictions.dense", embedded, s.hidden, bias=True)
    yield from linear("generator_lm_head", s.vocab, embedded, bias=True)


def _jina(s: Settings) -> Named:
    """XLM-RoBERTa with rotary positions, and a norm behind each half of a layer."""

    def layer(path: str, _index: int) -> Named:
        yield from biased_attention(s, f"{path}.self_attn", output_bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "post_attention_layernorm", "post_mlp_layernorm")

    yield from embeddings(s, s.hidden, tables=("word", "token_type"))
    yield from numbered(s, "layers", layer)


ARCHITECTURES: Architectures = {
    "convbert": declared(
        encoder(_convbert, "convbert.", _convbert_predictions, two_layers, pooled=()), input_embedding="word_embeddings"
    ),
    "jina_embeddings_v3": declared(encoder(_jina, "roberta.", roberta_predictions), input_embedding="word_embeddings"),
    "mobilebert": declared(_mobilebert_under, input_embedding="word_embeddings"),
}
