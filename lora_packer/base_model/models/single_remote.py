"""Decoders whose code is in their own repositories, each the only one of its name."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.attention import attention, biased_attention, grouped_attention
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, decoder, framed, head_modules, stacked
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
_qwen2 = decoder({"self_attn": biased_attention, "mlp": plain_mlp})
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


def _deci(s: Settings) -> Named:
    """DeciLM's decoder: Llama's, with a number of key heads of its own in each layer."""
    listed, head_dim = s.numbers("num_key_value_heads_per_layer"), s.hidden // s.heads

    def layer(prefix: str, index: int) -> Named:
        kv_heads = listed[index] if listed is not None and index < len(listed) else s.heads
        yield from attention(f"{prefix}.self_attn", s.hidden, s.heads, kv_heads, head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp", bias=s.flag("mlp_bias"))

    return stacked(s, layer)


def _mimo(s: Settings) -> Named:
    """MiMo: Qwen 2's layers, and those beside them that predict further tokens."""
    yield from _qwen2(s)
    for index in range(s.count("num_nextn_predict_layers")):
        path = f"mtp_layers.{index}"
        yield from biased_attention(s, f"{path}.self_attn")
        yield from plain_mlp(s, f"{path}.mlp")
        yield from norm(path, s.hidden, *LAYER_NORMS, "token_layernorm", "hidden_layernorm", "final_layernorm")
        yield from linear(f"{path}.input_proj", s.hidden, 2 * s.hidden)


ARCHITECTURES: Architectures = {
    "deci": remote(
        framed(_deci),
        Proof("built", "decilm/modeling_decilm.py (optimum-habana 1.21.2)"),
    ),
    "mimo": remote(
        framed(_mimo),
        Proof("read", "mlx_lm/models/mimo.py (mlx-lm 0.32.2), vllm/model_executor/models/mimo_mtp.py (vllm 0.33.0)"),
    ),
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
        Proof("read", "sgl-project/sglang, python/sglang/srt/models/xverse.py"),
    ),
    "yuan": remote(
        framed(_yuan),
        Proof("built", "yuan2/yuan_hf_model.py (ipex-llm 2.2.0)", ("sequence-classification",)),
    ),
}
