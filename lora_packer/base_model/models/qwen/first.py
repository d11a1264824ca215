"""The first Qwen, as ``modeling_qwen.py`` in its repositories has it: one projection for queries, keys and values."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.frames import TRANSFORMER, aliased, framed, numbered
from lora_packer.base_model.blocks.layers import embedding, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def _qwen(s: Settings) -> Named:
    width, bias = s.size("kv_channels") * s.heads, not s.flag("no_bias")

    def layer(prefix: str, _index: int) -> Named:
        inner = s.inner // 2  # the config counts gate and value
        yield from norm(prefix, s.hidden, "ln_1", "ln_2")
        yield from linear(f"{prefix}.attn.c_attn", 3 * width, s.hidden, bias=True)
        yield from linear(f"{prefix}.attn.c_proj", width, s.hidden, bias=bias)
        yield from linear(f"{prefix}.mlp", inner, s.hidden, "w1", "w2", bias=bias)
        yield from linear(f"{prefix}.mlp.c_proj", s.hidden, inner, bias=bias)

    yield from embedding("wte", s.optional_size("padded_vocab_size") or s.vocab, s.hidden)
    yield from numbered(s, "h", layer)
    yield from norm("ln_f", s.hidden)


def _text(s: Settings, head: Head) -> Named:
    """Qwen-VL and Qwen-Audio have the same type, and a tower besides."""
    for tower in ("visual", "audio"):
        if s.raw.get(tower) is not None:
            raise UnknownArchitecture(
                f"there is no proven definition for the model type 'qwen' with a tower ('{tower}').",
                hint="Give the folder or the Hub id of the base checkpoint with --base-config.",
            )
    return framed(_qwen, prefix=TRANSFORMER)(s, head)


ARCHITECTURES: Architectures = {
    "qwen": remote(
        # What the first configs called these fields.
        aliased(
            _text,
            {
                "n_embd": "hidden_size",
                "n_layer": "num_hidden_layers",
                "n_head": "num_attention_heads",
                "ffn_hidden_size": "intermediate_size",
            },
        ),
        Proof("built", "qwen/text_generation.py (modelscope 1.9.5)"),
        input_embedding="wte",
        vocabulary=("padded_vocab_size", "vocab_size"),
    ),
}
