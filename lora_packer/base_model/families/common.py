"""What the definitions of decoder families share: attention from a config, the frame of layers, default sizes.

Defaults are those of transformers' config classes at v5.23.0
(https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models/<type>/configuration_<type>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lora_packer.base_model.blocks import Named, attention, norm
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

# The question answering classes of some types call their decoder so.
TRANSFORMER = "transformer."


def grouped_attention(s: Settings, prefix: str, *, bias: bool = False, output_bias: bool = False) -> Named:
    """Yield a config's attention; transformers derives the head size where it is absent."""
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    head_dim = s.optional_size("head_dim") or hidden // heads
    return attention(prefix, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=output_bias)


def decoder(s: Settings, layer: Callable[[str], Named], norms: Mapping[str, int] = MappingProxyType({})) -> Named:
    """The embedding, the numbered layers, each with its two norms and those in ``norms``, and the last norm."""
    hidden = s.size("hidden_size")
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden, **norms}
    yield "embed_tokens", Module("embedding", (s.size("vocab_size"), hidden))
    for index in range(s.size("num_hidden_layers")):
        yield from layer(f"layers.{index}")
        for name, size in norms.items():
            yield norm(f"layers.{index}.{name}", size)
    yield norm("norm", hidden)


def sizes(
    vocab: int, hidden: int, intermediate: int, layers: int, heads: int, kv: int | None, **more: Any
) -> dict[str, Any]:
    """Return the defaults that every decoder has, and more."""
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        **more,
    }
