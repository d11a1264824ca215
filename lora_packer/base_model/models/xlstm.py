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
    scale = layer_norm if bias else norm

    def layer(prefix: str, _index: int) -> Named:
        path, feed = f"{prefix}.mlstm_layer", f"{prefix}.ffn"
        if mode == "single":
            for name, size in (("q", keys), ("k", keys), ("v", values), ("ogate_preact", values)):
                yield from linear(f"{path}.{name}", size, s.hidden, bias=bias)
            yield from linear(path, heads, s.hidden, "igate_preact", "fgate_preact", bias=True)
            yield from linear(feed, inner, s.hidden, "proj_up_gate", "proj_up", bias=bias)
        else:
            yield from linear(f"{path}.qkv_opreact", 2 * keys + 2 * values, s.hidden, bias=bias)
            yield from linear(f"{path}.ifgate_preact", 2 * heads, s.hidden, bias=True)
            yield from linear(f"{feed}.proj_up_gate_z", 2 * inner, s.hidden, bias=bias)
        yield from linear(f"{path}.out_proj", s.hidden, values, bias=bias)
        yield from linear(f"{feed}.proj_down", s.hidden, inner, bias=bias)
        yield from scale(f"{prefix}.norm_mlstm", s.hidden)
        yield from scale(f"{path}.multihead_norm", values // heads * heads)
        yield from scale(f"{prefix}.norm_ffn", s.hidden)

    yield from embedding("embeddings", s.vocab, s.optional_size("embedding_dim") or s.hidden)
    blocks = s.optional_size("num_blocks") or s.layers
    yield from numbered(s.with_fields(num_hidden_layers=blocks), "blocks", layer)
    yield from norm("out_norm", s.hidden)


ARCHITECTURES: Architectures = {"xlstm": declared(framed(_xlstm, prefix="backbone."), input_embedding="embeddings")}
