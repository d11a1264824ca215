"""What the definitions of decoder families share: attention from a config, the frame of layers, default sizes.

Defaults are those of transformers' config classes at v5.23.0
(https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models/<type>/configuration_<type>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Build, Head, framed
from lora_packer.base_model.blocks import Named, attention, norm
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

# The question answering classes of some types call their decoder so.
TRANSFORMER = "transformer."

# What PEFT targets by default in most of the types that it has defaults for.
QUERY_VALUE = ("q_proj", "v_proj")


def head_sizes(s: Settings) -> tuple[int, int, int]:
    """Return the number of query heads, of key and value heads, and the size of a head."""
    heads = s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    return heads, kv_heads, s.optional_size("head_dim") or s.size("hidden_size") // heads


def grouped_attention(s: Settings, prefix: str, *, bias: bool = False, output_bias: bool = False) -> Named:
    """Yield a config's attention; transformers derives the head size where it is absent."""
    return attention(prefix, s.size("hidden_size"), *head_sizes(s), bias=bias, output_bias=output_bias)


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


def declared(
    defaults: Mapping[str, Any],
    decoder: Callable[[Settings], Named],
    *,
    targets: tuple[str, ...] = (),
    prefix: str = "model.",
    answering_prefix: str | None = None,
    heads: Build | None = None,
    aliases: Mapping[str, str] = MappingProxyType({}),
    input_embedding: str = "embed_tokens",
) -> Architecture:
    """Return the architecture of one decoder with one dialect.

    ``targets`` is empty for types that PEFT has no default targets for, and ``aliases`` is transformers'
    ``attribute_map``; see :func:`lora_packer.base_model.architecture.framed` for the others.
    """
    build = framed(decoder, prefix=prefix, answering_prefix=answering_prefix, heads=heads)

    def with_aliases(s: Settings, head: Head) -> Named:
        return build(s.aliased(aliases), head)

    dialects = {TRANSFORMERS_5: with_aliases if aliases else build}
    return Architecture(defaults, dialects, targets, input_embedding=input_embedding)


LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")


def stacked(
    s: Settings,
    layer: Callable[[str, int], Named],
    *,
    norms: Sequence[str] = LAYER_NORMS,
    embedding: str = "embed_tokens",
    last_norm: str = "norm",
    layers: int | None = None,
) -> Named:
    """The embedding, layers that differ by their number, each with ``norms`` of the hidden size, and the last norm."""
    hidden = s.size("hidden_size")
    yield embedding, Module("embedding", (s.size("vocab_size"), hidden))
    for index in range(layers or s.size("num_hidden_layers")):
        yield from layer(f"layers.{index}", index)
        for name in norms:
            yield norm(f"layers.{index}.{name}", hidden)
    yield norm(last_norm, hidden)


def qk_norms(prefix: str, query: int, key: int, names: tuple[str, str] = ("q_norm", "k_norm")) -> Named:
    """The norms of the queries and the keys."""
    yield norm(f"{prefix}.{names[0]}", query)
    yield norm(f"{prefix}.{names[1]}", key)


def layer_kinds(listed: Sequence[str] | None, derived: Callable[[int], str]) -> Callable[[int], str]:
    """Return what kind a layer is: as the config lists it, else, and beyond the list's end, as ``derived`` says.

    Older names of kinds are read as today's (``_LEGACY_LAYER_TYPE_REMAP`` in transformers/configuration_utils.py).
    """
    older = {"mamba": "linear_attention", "attention": "full_attention"}
    kinds = [older.get(kind, kind) for kind in listed or ()]
    return lambda index: kinds[index] if index < len(kinds) else derived(index)


def fields_by_layer(s: Settings) -> Mapping[int, Mapping[str, Any]] | None:
    """Return the fields of single layers that ``per_layer_config`` sets, or None where there is none.

    Its keys are the numbers of layers, which transformers saves padded with zeros (configuration_utils.py).
    """
    saved = s.value("per_layer_config")
    if not isinstance(saved, Mapping):
        return None
    found = {str(key): fields for key, fields in saved.items() if isinstance(fields, Mapping)}
    return {int(key): fields for key, fields in found.items() if key.isascii() and key.isdigit() and len(key) < 10}
