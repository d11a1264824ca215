"""xLSTM: a recurrent model without attention."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.frames import framed, numbered
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _xlstm(s: Settings) -> Named:
    """xLSTM's decoder of mLSTM blocks, whose weights may be fused."""
    heads, bias = s.size("num_heads"), s.flag("use_bias")
    keys, values = int(s.hidden * s.ratio("qk_dim_factor")), int(s.hidden * s.ratio("v_dim_factor"))
    multiple = s.size("ffn_round_up_to_multiple_of")
    inner = int((s.hidden * s.ratio("ffn_proj_factor") + multiple - 1) // multiple * multiple)
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
                yield linear(f"{path}.{name}", size, s.hidden, bias=bias)
            for name in ("igate_preact", "fgate_preact"):
                yield linear(f"{path}.{name}", heads, s.hidden, bias=True)
            for name in ("proj_up_gate", "proj_up"):
                yield linear(f"{feed}.{name}", inner, s.hidden, bias=bias)
        else:
            yield linear(f"{path}.qkv_opreact", 2 * keys + 2 * values, s.hidden, bias=bias)
            yield linear(f"{path}.ifgate_preact", 2 * heads, s.hidden, bias=True)
            yield linear(f"{feed}.proj_up_gate_z", 2 * inner, s.hidden, bias=bias)
        yield linear(f"{path}.out_proj", s.hidden, values, bias=bias)
        yield linear(f"{feed}.proj_down", s.hidden, inner, bias=bias)
        yield from scale(f"{prefix}.norm_mlstm", s.hidden)
        yield from scale(f"{path}.multihead_norm", values // heads * heads)
        yield from scale(f"{prefix}.norm_ffn", s.hidden)

    yield embedding("embeddings", s.vocab, s.optional_size("embedding_dim") or s.hidden)
    blocks = s.optional_size("num_blocks") or s.layers
    yield from numbered(s.with_fields(num_hidden_layers=blocks), "blocks", layer)
    yield norm("out_norm", s.hidden)


ARCHITECTURES: Architectures = {"xlstm": declared(framed(_xlstm, prefix="backbone."), input_embedding="embeddings")}
