"""Decoders whose code is in their own repositories, each the only one of its name."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, like, remote
from lora_packer.base_model.blocks.attention import attention, biased_attention, grouped_attention
from lora_packer.base_model.blocks.experts import separate_linears
from lora_packer.base_model.blocks.feed_forward import numbered_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    TRANSFORMER,
    aliased,
    decoder,
    framed,
    head_modules,
    numbered,
    plain_decoder,
    stacked,
)
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


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


def _telechat(s: Settings) -> Named:
    """TeleChat 2's decoder: keys and values in one; only what leads out of a block has a bias."""

    def layer(prefix: str, _index: int) -> Named:
        path, kv_heads = f"{prefix}.self_attention", s.optional_size("num_key_value_heads") or s.heads
        yield from norm(prefix, s.hidden, *LAYER_NORMS)
        yield from linear(f"{path}.query", s.hidden, s.hidden)
        yield from linear(f"{path}.key_value", 2 * kv_heads * (s.hidden // s.heads), s.hidden)
        yield from linear(f"{path}.dense", s.hidden, s.hidden, bias=True)
        yield from linear(f"{prefix}.mlp", s.inner, s.hidden, "gate_proj", "up_proj")
        yield from linear(f"{prefix}.mlp.down_proj", s.hidden, s.inner, bias=True)

    yield from embedding("word_embeddings", s.vocab, s.hidden)
    yield from numbered(s, "h", layer)
    yield from norm("ln_f", s.hidden)


def _minimind(s: Settings, _head: Head) -> Named:
    """MiniMind's first class, MiniMindLM: Llama as Meta's own code names it."""
    if s.value("dim") is None:
        raise UnknownArchitecture(
            "there is no proven definition for a MiniMind after MiniMindLM.",
            hint="Give the folder or the Hub id of the base checkpoint with --base-config.",
        )
    s = s.aliased({"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"})
    head_dim = s.hidden // s.heads
    kv_width, inner = head_dim * (s.optional_size("n_kv_heads") or s.heads), s.size("hidden_dim")
    names = ("w1", "w3", "w2")

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.attention", s.hidden, s.hidden, "wq", "wo")
        yield from linear(f"{prefix}.attention", kv_width, s.hidden, "wk", "wv")
        path = f"{prefix}.feed_forward"
        if not s.flag("use_moe"):
            yield from numbered_mlp(s, path, inner)
            return
        yield from parameter(f"{path}.gate.weight", s.size("n_routed_experts"), s.hidden)
        yield from separate_linears(f"{path}.experts", s.hidden, inner, s.size("n_routed_experts"), names=names)
        if s.flag("n_shared_experts"):
            yield from numbered_mlp(s, f"{path}.shared_experts", inner)

    yield from stacked(s, layer, norms=("attention_norm", "ffn_norm"), tokens="tok_embeddings")
    yield from linear("output", s.vocab, s.hidden)


_LLAMA_NAMES = "which maps no name onto Llama's (vllm 0.33.0)"

ARCHITECTURES: Architectures = {
    "TeleFLM": remote(framed(plain_decoder), Proof("read", f"vllm/model_executor/models/teleflm.py, {_LLAMA_NAMES}")),
    "minimind": remote(
        _minimind,
        Proof("read", "jingyaogong/minimind, model/model.py with MiniMindLM (copies on GitHub)"),
        input_embedding="tok_embeddings",
    ),
    "solar": like("TeleFLM", {"proof": Proof("read", f"vllm/model_executor/models/solar.py, {_LLAMA_NAMES}")}),
    "telechat": remote(
        aliased(
            framed(_telechat, prefix=TRANSFORMER),
            {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "ffn_hidden_size": "intermediate_size"},
        ),
        Proof("read", "vllm/model_executor/models/telechat2.py (vllm 0.33.0)"),
        input_embedding="word_embeddings",
    ),
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
