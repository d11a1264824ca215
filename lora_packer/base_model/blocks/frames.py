"""The frames that layers stand in: embedding, numbered layers, norms and a head; and how a type is declared.

Defaults are those of transformers' config classes at v5.24.0
(https://github.com/huggingface/transformers/tree/v5.24.0/src/transformers/models/<type>/configuration_<type>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from lora_packer.base_model.architecture import Build, Head
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.feed_forward import plain_mlp, ungated_mlp
from lora_packer.base_model.blocks.layers import Block, Norm, embedding, flagged, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# The question answering classes of some types call their decoder so.
TRANSFORMER = "transformer."
# What PEFT targets by default in most of the types that it has defaults for.
QUERY_VALUE = ("q_proj", "v_proj")
# The norms of a layer: before its attention and its feed-forward block, or after both.
LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")
AFTER_BOTH = ("post_attention_layernorm", "post_feedforward_layernorm")


def framed(
    decoder: Callable[[Settings], Named],
    *,
    prefix: str = "model.",
    answering_prefix: str | None = None,
    heads: Build | None = None,
) -> Build:
    """Put the decoder's prefix and a head around it, as transformers' generic classes do.

    ``answering_prefix`` is the decoder's prefix in the question answering class, which some types name differently
    (transformers/modeling_layers.py, and ``base_model_prefix`` in the modelling files). ``heads`` yields the modules
    beside the decoder where they are not those of :func:`head_modules`.
    """

    def build(s: Settings, head: Head) -> Named:
        before = "" if head == "none" else prefix
        if head == "question-answering" and answering_prefix is not None:
            before = answering_prefix
        for path, module in decoder(s):
            yield before + path, module
        yield from (heads or head_modules)(s, head)

    return build


def aliased(build: Build, names: Mapping[str, str]) -> Build:
    """The same modules for configs with other names of fields: alias -> name, transformers' ``attribute_map``."""
    return lambda s, head: build(s.aliased(names), head)


def head_modules(
    s: Settings,
    head: Head,
    *,
    output: str = "lm_head",
    output_bias: bool = False,
    tokens: str = "score",
    width: str = "hidden_size",
) -> Named:
    """The modules that a head adds beside the decoder.

    ``output`` names the language model's head and ``tokens`` the token classifier; ``width`` names the field with the
    size of what the decoder hands over.
    """
    match head:
        case "causal-lm" | "seq2seq":
            yield from linear(output, s.vocab, s.size(width), bias=output_bias)
        case "sequence-classification":
            yield from linear("score", s.labels(), s.size(width))
        case "token-classification":
            yield from linear(tokens, s.labels(), s.size(width), bias=True)
        case "question-answering":
            yield from linear("qa_outputs", 2, s.size(width), bias=True)
        case "none":
            return


# The token classifier of some types has the name of an encoder's.
classified_by_classifier = partial(head_modules, tokens="classifier")


def stacked(
    s: Settings,
    layer: Callable[[str, int], Named],
    *,
    norms: Sequence[str] = LAYER_NORMS,
    sized_norms: Mapping[str, int] = MappingProxyType({}),
    kind: Norm = norm,
    tokens: str = "embed_tokens",
    last_norm: str = "norm",
    layers: int | None = None,
) -> Named:
    """The embedding, the numbered layers with their norms, and the last norm.

    ``layer`` yields one layer, from its path and its number. ``norms`` are of the hidden size and of this ``kind``, as
    the last one is; ``sized_norms`` have a size of their own.
    """

    def normed(path: str, index: int) -> Named:
        yield from layer(path, index)
        if norms:
            yield from kind(path, s.hidden, *norms)
        for name, size in sized_norms.items():
            yield from norm(f"{path}.{name}", size)

    yield from embedding(tokens, s.vocab, s.hidden)
    yield from numbered(s, "layers", normed, layers=layers)
    yield from kind(last_norm, s.hidden)


def numbered(s: Settings, prefix: str, layer: Callable[[str, int], Named], *, layers: int | None = None) -> Named:
    """The layers, each below its number: all that the config has, or so many."""
    for index in range(layers or s.layers):
        yield from layer(f"{prefix}.{index}", index)


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


def decoder(
    layer: Mapping[str, Block],
    norms: Sequence[str] = LAYER_NORMS,
    *,
    kind: Norm = norm,
    tokens: str = "embed_tokens",
    last_norm: str = "norm",
) -> Callable[[Settings], Named]:
    """Return a decoder whose layers are all alike: ``layer`` has their blocks by name; the rest is as in stacked."""

    def build(s: Settings) -> Named:
        def blocks(path: str, _index: int) -> Named:
            for name, block in layer.items():
                yield from block(s, f"{path}.{name}")

        return stacked(s, blocks, norms=norms, kind=kind, tokens=tokens, last_norm=last_norm)

    return build


# The decoder that Llama made common, with biases where ``attention_bias`` and ``mlp_bias`` say so.
plain_decoder = decoder({"self_attn": plain_attention, "mlp": flagged(plain_mlp, bias="mlp_bias")})
# The same without a gate in the feed-forward block.
UNGATED_LAYER: Mapping[str, Block] = {"self_attn": plain_attention, "mlp": flagged(ungated_mlp, bias="mlp_bias")}
