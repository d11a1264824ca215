"""RWKV: a recurrent model without attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import Architectures, Proof, declared, remote
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def _rwkv(s: Settings) -> Named:
    width = s.optional_size("attention_hidden_size") or s.hidden
    inner = s.optional_size("intermediate_size") or 4 * s.hidden

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(prefix, s.hidden, "ln1", "ln2")
        path = f"{prefix}.attention"
        for name in ("time_decay", "time_first"):
            yield from parameter(f"{path}.{name}", width)
        for name in ("time_mix_key", "time_mix_value", "time_mix_receptance"):
            yield from parameter(f"{path}.{name}", 1, 1, s.hidden)
        yield from linear(path, width, s.hidden, "key", "value", "receptance")
        yield from linear(f"{path}.output", s.hidden, width)
        yield from _feed_forward(s, f"{prefix}.feed_forward", inner)

    return _blocks(s, layer)


def _rwkv5(s: Settings) -> Named:
    """RWKV 5: heads, and a gate."""
    if s.value("model_version") not in (None, "5_2"):
        raise UnknownArchitecture("there is no proven definition for the model_version of this RWKV 5.")
    width, side = s.optional_size("attention_hidden_size") or s.hidden, s.size("head_size")
    inner = s.optional_size("intermediate_size") or int(s.hidden * 3.5) // 32 * 32

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(prefix, s.hidden, "ln1", "ln2")
        path = f"{prefix}.attention"
        for name in ("time_decay", "time_faaaa"):
            yield from parameter(f"{path}.{name}", s.hidden // side, side)
        for name in ("time_mix_gate", "time_mix_key", "time_mix_value", "time_mix_receptance"):
            yield from parameter(f"{path}.{name}", 1, 1, s.hidden)
        yield from linear(path, width, s.hidden, "key", "value", "receptance", "gate")
        yield from linear(f"{path}.output", s.hidden, width)
        yield from layer_norm(f"{path}.ln_x", s.hidden)
        yield from _feed_forward(s, f"{prefix}.feed_forward", inner)

    return _blocks(s, layer)


def _feed_forward(s: Settings, path: str, inner: int) -> Named:
    for name in ("time_mix_key", "time_mix_receptance"):
        yield from parameter(f"{path}.{name}", 1, 1, s.hidden)
    yield from linear(f"{path}.key", inner, s.hidden)
    yield from linear(f"{path}.receptance", s.hidden, s.hidden)
    yield from linear(f"{path}.value", s.hidden, inner)


def _blocks(s: Settings, layer: Callable[[str, int], Named]) -> Named:
    yield from embedding("embeddings", s.vocab, s.hidden)
    yield from layer_norm("blocks.0.pre_ln", s.hidden)
    yield from numbered(s, "blocks", layer)
    yield from layer_norm("ln_out", s.hidden)


_head = partial(head_modules, output="head")

ARCHITECTURES: Architectures = {
    "rwkv": declared(
        framed(_rwkv, prefix="rwkv.", heads=_head),
        targets=("key", "value", "receptance", "output"),
        input_embedding="embeddings",
    ),
    "rwkv5": remote(
        framed(_rwkv5, prefix="rwkv.", heads=_head),
        Proof("read", "RWKV/rwkv-5-world, modeling_rwkv5.py (copies on GitHub)"),
        input_embedding="embeddings",
        classes={"RwkvForCausalLM": "causal-lm"},
    ),
}
