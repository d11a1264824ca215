"""RWKV: a recurrent model without attention."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


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
        path = f"{prefix}.feed_forward"
        for name in ("time_mix_key", "time_mix_receptance"):
            yield from parameter(f"{path}.{name}", 1, 1, s.hidden)
        yield from linear(f"{path}.key", inner, s.hidden)
        yield from linear(f"{path}.receptance", s.hidden, s.hidden)
        yield from linear(f"{path}.value", s.hidden, inner)

    yield from embedding("embeddings", s.vocab, s.hidden)
    yield from layer_norm("blocks.0.pre_ln", s.hidden)
    yield from numbered(s, "blocks", layer)
    yield from layer_norm("ln_out", s.hidden)


ARCHITECTURES: Architectures = {
    "rwkv": declared(
        framed(_rwkv, prefix="rwkv.", heads=partial(head_modules, output="head")),
        targets=("key", "value", "receptance", "output"),
        input_embedding="embeddings",
    )
}
