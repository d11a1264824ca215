"""Decoders whose code is in their own repositories, each the only one of its name."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import decoder, framed, head_modules, stacked
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _packed_attention(s: Settings, path: str) -> Named:
    """Baichuan's: queries, keys and values in one."""
    yield from linear(f"{path}.W_pack", 3 * s.hidden, s.hidden)
    yield from linear(f"{path}.o_proj", s.hidden, s.hidden)


def _baichuan_head(s: Settings, head: Head) -> Named:
    """Baichuan 2 normalises the rows of its head, which is no linear layer then.

    What tells the two apart is the vocabulary, as for vLLM (``model_executor/models/baichuan.py``), and a field that
    only the second has.
    """
    if head == "causal-lm" and (s.vocab == 125696 or "z_loss_weight" in s.raw):
        return parameter("lm_head.weight", s.vocab, s.hidden)
    return head_modules(s, head)


_baichuan = decoder({"self_attn": _packed_attention, "mlp": plain_mlp})
_orion = decoder({"self_attn": grouped_attention, "mlp": plain_mlp}, kind=layer_norm)
_xverse = decoder({"self_attn": grouped_attention, "mlp": plain_mlp})


def _yuan(s: Settings) -> Named:
    """Yuan 2's decoder: a filter over neighbouring tokens before queries and keys, or one projection for both."""

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from linear(path, s.hidden, s.hidden, "v_proj", "o_proj")
        if s.flag("use_shareqk"):
            yield from linear(f"{path}.qk_proj", s.hidden, s.hidden)
            yield from parameter(f"{path}.qk_weight", 2, s.hidden)
            yield from parameter(f"{path}.qk_bias", 2, s.hidden)
        else:
            yield from linear(path, s.hidden, s.hidden, "q_proj", "k_proj")
            yield from conv(f"{path}.lf_gate.conv1", (s.hidden // 2, s.hidden, 2, 1), bias=True)
            yield from conv(f"{path}.lf_gate.conv2", (s.hidden, s.hidden // 2, 2, 1), bias=True)
            yield from norm(f"{path}.lf_gate.output_layernorm", s.hidden)
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


ARCHITECTURES: Architectures = {
    "baichuan": remote(
        framed(_baichuan, heads=_baichuan_head),
        Proof(
            "built",
            "baichuan/modeling_baichuan.py (ipex-llm 2.2.0: the first; optimum-habana 1.21.2: the second)",
        ),
    ),
    "orion": remote(
        framed(_orion),
        Proof("read", "vllm/model_executor/models/orion.py (vllm 0.33.0)"),
    ),
    "xverse": remote(
        framed(_xverse),
        Proof("read", "vllm/model_executor/models/llama.py (vllm 0.6.0 has XverseForCausalLM in xverse.py)"),
    ),
    "yuan": remote(
        framed(_yuan),
        Proof("built", "yuan2/yuan_hf_model.py (ipex-llm 2.2.0)", ("sequence-classification",)),
    ),
}
