"""The blocks of models with an encoder and a decoder: their two sides, and the layers of each."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.blocks.layers import chain, layer_norm, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# transformers' ``attribute_map`` of BART's line.
BART_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
}


def side_attention(path: str, width: int, *, bias: bool = True, key_bias: bool | None = None, others: int = 0) -> Named:
    """BART's attention, whose keys and values may come from ``others``, another width."""
    yield from linear(f"{path}.k_proj", width, others or width, bias=bias if key_bias is None else key_bias)
    yield from linear(f"{path}.v_proj", width, others or width, bias=bias)
    yield from linear(path, width, width, "q_proj", "out_proj", bias=bias)


def side_layer(path: str, width: int, inner: int, attentions: Mapping[str, Named]) -> Named:
    """BART's layer: attentions by name, each with a norm, and two linears."""
    for name, modules in attentions.items():
        yield from modules
        yield from layer_norm(f"{path}.{name}_layer_norm", width)
    yield from chain(path, (width, inner, width), "fc1", "fc2", bias=True)
    yield from layer_norm(f"{path}.final_layer_norm", width)


def side_layers(s: Settings, side: str, *, bias: bool = True, key_bias: bool | None = None) -> Named:
    """The layers of one side; the decoder's read the encoder too."""
    width, inner = s.size("d_model"), s.size(f"{side}_ffn_dim")
    names = ("self_attn", "encoder_attn") if side == "decoder" else ("self_attn",)
    for index in range(s.size(f"{side}_layers")):
        path = f"{side}.layers.{index}"
        attentions = {name: side_attention(f"{path}.{name}", width, bias=bias, key_bias=key_bias) for name in names}
        yield from side_layer(path, width, inner, attentions)
