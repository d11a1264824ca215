"""SK Telecom's A.X K1 and K2: latent attention over experts."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.experts import deepseek_experts, mixture_or_dense, sparse_layers
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.latent import indexer, latent_attention
from lora_packer.base_model.blocks.layers import chain, linear, norm
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _axk1(s: Settings) -> Named:
    """A.X K1's decoder: DeepSeek-V3's with a norm after the experts."""
    kind, count = sparse_layers(s), deepseek_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from latent_attention(s, f"{prefix}.self_attn")
        sparse = kind(index) == "sparse"
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, sparse=sparse)
        if sparse:
            yield from norm(f"{prefix}.mlp.post_mlp_layernorm", s.hidden)

    return stacked(s, layer)


def _axk2(s: Settings) -> Named:
    """A.X K2's decoder: an indexer, an output gate in the query's projection, and gated norms."""
    kind, count = sparse_layers(s), deepseek_experts(s)
    rank, key_rank = s.size("q_lora_rank"), s.size("kv_lora_rank")
    nope, rope, value = s.size("qk_nope_head_dim"), s.size("qk_rope_head_dim"), s.size("v_head_dim")
    bias = s.flag("attention_bias")

    def gated_norm(prefix: str) -> Named:
        yield from norm(f"{prefix}.norm", s.hidden)
        yield from chain(f"{prefix}.mlp", (s.hidden, s.size("gated_norm_rank"), s.hidden), "fc1", "fc2")

    def layer(prefix: str, index: int) -> Named:
        path, sparse = f"{prefix}.self_attn", kind(index) == "sparse"
        yield from linear(f"{path}.q_a_proj", rank, s.hidden, bias=bias)
        yield from norm(f"{path}.q_a_layernorm", rank)
        yield from linear(f"{path}.q_gate_proj", s.heads * (nope + rope + value), 2 * rank)
        yield from linear(f"{path}.kv_a_proj_with_mqa", key_rank + rope, s.hidden, bias=bias)
        yield from norm(f"{path}.kv_a_layernorm", key_rank)
        yield from linear(f"{path}.kv_b_proj", s.heads * (nope + value), key_rank)
        yield from linear(f"{path}.o_proj", s.hidden, s.heads * value, bias=bias)
        yield from indexer(s, f"{path}.indexer")
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, sparse=sparse)
        yield from gated_norm(f"{prefix}.input_layernorm")
        if sparse:
            yield from gated_norm(f"{prefix}.post_attention_layernorm")
        else:
            yield from norm(f"{prefix}.post_attention_layernorm", s.hidden)

    return stacked(s, layer, norms=())


ARCHITECTURES: Architectures = {"axk1": declared(framed(_axk1)), "axk2": declared(framed(_axk2))}
