"""xLSTM: a recurrent model without attention."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture, declared
from lora_packer.base_model.blocks.frames import framed, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _xlstm(s: Settings) -> Named:
    """xLSTM's decoder of mLSTM blocks, whose weights may be fused."""
    hidden, heads, bias = s.size("hidden_size"), s.size("num_heads"), s.flag("use_bias")
    keys, values = int(hidden * s.ratio("qk_dim_factor")), int(hidden * s.ratio("v_dim_factor"))
    multiple = s.size("ffn_round_up_to_multiple_of")
    inner = int((hidden * s.ratio("ffn_proj_factor") + multiple - 1) // multiple * multiple)
    mode = s.value("weight_mode")
    if mode not in ("single", "fused"):
        raise InputError(
            "the base config's weight_mode is neither single nor fused.", hint="Use the base model's own config.json."
        )

    def scale(path: str, size: int) -> Named:
        return layer_norm(path, size) if bias else iter([norm(path, size)])

    def layer(prefix: str, _index: int) -> Named:
        path, feed = f"{prefix}.mlstm_layer", f"{prefix}.ffn"
        if mode == "single":
            for name, size in (("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)):
                yield linear(f"{path}.{name}", size, hidden, bias=bias)
            for name in ("igate_preact", "fgate_preact"):
                yield linear(f"{path}.{name}", heads, hidden, bias=True)
            for name in ("proj_up_gate", "proj_up"):
                yield linear(f"{feed}.{name}", inner, hidden, bias=bias)
        else:
            yield linear(f"{path}.qkv_opreact", 2 * keys + 2 * values, hidden, bias=bias)
            yield linear(f"{path}.ifgate_preact", 2 * heads, hidden, bias=True)
            yield linear(f"{feed}.proj_up_gate_z", 2 * inner, hidden, bias=bias)
        yield linear(f"{path}.out_proj", hidden, values, bias=bias)
        yield linear(f"{feed}.proj_down", hidden, inner, bias=bias)
        yield from scale(f"{prefix}.norm_mlstm", hidden)
        yield from scale(f"{path}.multihead_norm", values // heads * heads)
        yield from scale(f"{prefix}.norm_ffn", hidden)

    yield embedding("embeddings", s.size("vocab_size"), s.optional_size("embedding_dim") or hidden)
    blocks = s.optional_size("num_blocks") or s.size("num_hidden_layers")
    yield from numbered(s.with_fields(num_hidden_layers=blocks), "blocks", layer)
    yield norm("out_norm", hidden)


ARCHITECTURES: Mapping[str, Architecture] = {
    "xlstm": declared(framed(_xlstm, prefix="backbone."), input_embedding="embeddings")
}
