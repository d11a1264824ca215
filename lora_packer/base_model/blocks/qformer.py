"""The Q-Former, which reads a fixed number of tokens out of an image."""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def bert_attention(path: str, hidden: int, read: int) -> Named:
    """BERT's attention, whose keys and values come from what is ``read``."""
    yield from linear(f"{path}.attention.query", hidden, hidden, bias=True)
    yield from linear(f"{path}.attention", hidden, read, "key", "value", bias=True)
    yield from linear(f"{path}.output.dense", hidden, hidden, bias=True)
    yield from layer_norm(f"{path}.output.LayerNorm", hidden)


def bert_mlp(path: str, hidden: int, inner: int, suffix: str = "") -> Named:
    """BERT's feed-forward block."""
    yield from linear(f"{path}.intermediate{suffix}.dense", inner, hidden, bias=True)
    yield from linear(f"{path}.output{suffix}.dense", hidden, inner, bias=True)
    yield from layer_norm(f"{path}.output{suffix}.LayerNorm", hidden)


def qformer_layers(s: Settings, *, reads_text: bool) -> Named:
    """The layers, some of which attend to the image; the text has a feed-forward block of its own."""
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        yield from bert_attention(f"{path}.attention", s.hidden, s.hidden)
        if index % s.size("cross_attention_frequency") == 0:
            yield from bert_attention(f"{path}.crossattention", s.hidden, s.size("encoder_hidden_size"))
        if reads_text:
            yield from bert_mlp(path, s.hidden, s.inner)
        yield from bert_mlp(path, s.hidden, s.inner, "_query")


def blip2_qformer(s: Settings) -> Named:
    """BLIP-2's Q-Former."""
    yield from layer_norm("layernorm", s.hidden)
    yield from qformer_layers(s, reads_text=s.flag("use_qformer_text_input"))
