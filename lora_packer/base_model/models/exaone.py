"""LG's EXAONE: the decoders, the experts, and the one that sees."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import grouped_attention, head_norm, head_sizes
from lora_packer.base_model.blocks.composite import Part, Tower, composite, with_towers
from lora_packer.base_model.blocks.experts import first_dense, mixture_or_dense
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import (
    AFTER_BOTH,
    TRANSFORMER,
    aliased,
    decoder,
    framed,
    plain_decoder,
    stacked,
)
from lora_packer.base_model.blocks.layers import linear, norm
from lora_packer.base_model.blocks.qwen_visual import qwen2_5_visual, visual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_exaone4 = decoder(
    {
        "self_attn": grouped_attention,
        "self_attn.q_norm": head_norm,
        "self_attn.k_norm": head_norm,
        "mlp": plain_mlp,
    },
    AFTER_BOTH,
)


def _exaone_moe(s: Settings) -> Named:
    kind, head_dim = first_dense(s), head_sizes(s)[2]

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
        yield from mixture_or_dense(
            s, f"{prefix}.mlp", s.size("num_experts"), sparse=kind(index) == "sparse", shared="num_shared_experts"
        )

    return stacked(s, layer)


def _exaone_visual(s: Settings) -> Named:
    """The tower of Qwen2.5-VL, with fewer heads of keys and values."""
    named = s.aliased({"num_attention_heads": "num_heads"})
    heads = named.size("num_heads")
    keys = s.size("num_key_value_heads") * (s.hidden // heads)
    for path, module in qwen2_5_visual(s):
        fused = path.endswith(".attn.qkv")
        yield from (
            linear(path, s.hidden // heads * heads + 2 * keys, s.hidden, bias=True) if fused else [(path, module)]
        )


_EXAONE_TEXT = Part("text_config", "exaone4", aliases={"exaone4_5_text": "exaone4"})

# Its class is Llama's; the names of its own code are read too.
_EXAONE_NAMES = {"num_layers": "num_hidden_layers"}

ARCHITECTURES: Architectures = {
    "exaone": declared(aliased(framed(plain_decoder), _EXAONE_NAMES)),
    "exaone4": declared(framed(_exaone4, answering_prefix=TRANSFORMER)),
    "exaone_moe": declared(framed(_exaone_moe)),
    "exaone4_5": composite(with_towers(_EXAONE_TEXT, visual(Tower("exaone4_5_vision", _exaone_visual)))),
}
