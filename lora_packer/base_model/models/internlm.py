"""InternLM: the first two as their own repositories have them, the third as transformers has it."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, declared, remote
from lora_packer.base_model.blocks.attention import grouped_attention, head_sizes
from lora_packer.base_model.blocks.feed_forward import numbered_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import aliased, decoder, framed, head_modules, plain_decoder, stacked
from lora_packer.base_model.blocks.layers import flagged, linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_internlm = decoder(
    {"self_attn": flagged(grouped_attention, bias="bias", output_bias="bias"), "mlp": plain_mlp},
)


def _internlm2(s: Settings) -> Named:
    """Queries, keys and values in one, grouped by key head; w1 is the gate."""
    heads, kv_heads, _ = head_sizes(s)
    head_dim, bias = s.hidden // heads, s.flag("bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.attention.wqkv", (heads + 2 * kv_heads) * head_dim, s.hidden, bias=bias)
        yield from linear(f"{prefix}.attention.wo", s.hidden, heads * head_dim, bias=bias)
        yield from numbered_mlp(s, f"{prefix}.feed_forward", s.inner)

    return stacked(s, layer, norms=("attention_norm", "ffn_norm"), tokens="tok_embeddings")


def _internlm2_heads(s: Settings, head: Head) -> Named:
    named = s.value("architectures")
    if head == "causal-lm" and isinstance(named, list) and "InternLM2ForRewardModel" in named[:1]:
        return linear("v_head", 1, s.hidden)
    return head_modules(s, head, output="output")


ARCHITECTURES: Architectures = {
    "internlm": remote(
        framed(_internlm),
        Proof("read", "yangulei/internlm-20b 5d2ec53, modeling_internlm.py", ("sequence-classification",)),
    ),
    "internlm2": remote(
        framed(_internlm2, heads=_internlm2_heads),
        Proof("read", "IntMeGroup/HarmonyIQA 79a7bf6, modeling_internlm2.py", ("sequence-classification",)),
        input_embedding="tok_embeddings",
        classes={"InternLM2ForRewardModel": "causal-lm"},
    ),
    "internlm3": declared(aliased(framed(plain_decoder), {"qkv_bias": "attention_bias", "bias": "mlp_bias"})),
}
