"""RWKV: a recurrent model without attention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _rwkv(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    width, inner = (
        s.optional_size("attention_hidden_size") or hidden,
        s.optional_size("intermediate_size") or 4 * hidden,
    )

    def layer(prefix: str, _index: int) -> Named:
        for name in ("ln1", "ln2"):
            yield from layer_norm(f"{prefix}.{name}", hidden)
        path = f"{prefix}.attention"
        for name in ("time_decay", "time_first"):
            yield f"{path}.{name}", Module("parameter", (width,))
        for name in ("time_mix_key", "time_mix_value", "time_mix_receptance"):
            yield f"{path}.{name}", Module("parameter", (1, 1, hidden))
        for name in ("key", "value", "receptance"):
            yield linear(f"{path}.{name}", width, hidden)
        yield linear(f"{path}.output", hidden, width)
        path = f"{prefix}.feed_forward"
        for name in ("time_mix_key", "time_mix_receptance"):
            yield f"{path}.{name}", Module("parameter", (1, 1, hidden))
        yield linear(f"{path}.key", inner, hidden)
        yield linear(f"{path}.receptance", hidden, hidden)
        yield linear(f"{path}.value", hidden, inner)

    yield embedding("embeddings", s.size("vocab_size"), hidden)
    yield from layer_norm("blocks.0.pre_ln", hidden)
    yield from numbered(s, "blocks", layer)
    yield from layer_norm("ln_out", hidden)


ARCHITECTURES: Mapping[str, Architecture] = {
    "rwkv": declared(
        framed(_rwkv, prefix="rwkv.", heads=partial(head_modules, output="head")),
        targets=("key", "value", "receptance", "output"),
        input_embedding="embeddings",
    )
}
