"""Bailing (Ling and Ring): mixtures of experts, the newest with layers of linear attention among latent ones."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Proof, declared, like, named_class, remote
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.blocks.experts import (
    dense_before,
    first_dense,
    mixture_or_dense,
    number_of_experts,
    parameter_routed_experts,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.recurrent import kimi_delta_attention
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape


def bailing_hybrid(s: Settings) -> Named:
    """Ling 2.5's decoder: Kimi delta attention, with latent attention on each ``layer_group_size``-th layer."""
    count = number_of_experts(s, "num_local_experts", "num_experts")
    linear_sizes = s.aliased({"linear_head_dim": "head_dim", "linear_num_heads": "num_attention_heads"})
    heads, head_dim = linear_sizes.size("linear_num_heads"), linear_sizes.size("linear_head_dim")
    kernel = s.optional_size("linear_conv_kernel_dim") or s.size("short_conv_kernel_size")
    forgets = {"A_log": (heads,), "dt_bias": (heads * head_dim,)}
    group = s.size("layer_group_size")
    attends = layer_kinds(
        s.names("layer_types"), lambda index: "linear_attention" if (index + 1) % group else "full_attention"
    )
    feeds = first_dense(s)
    feed = s.aliased({"num_shared_experts": "n_shared_experts"})

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.self_attn"
        if attends(index) == "full_attention":
            yield from latent_attention(s, path)
            yield from linear(f"{path}.g_proj", s.heads, s.hidden)
        else:
            yield from kimi_delta_attention(path, s.hidden, heads, head_dim, kernel, forgets=forgets, narrow=False)
        yield from mixture_or_dense(
            feed, f"{prefix}.mlp", count, sparse=feeds(index) == "sparse", shared="num_shared_experts"
        )

    return stacked(s, layer)


_FIRST, _SECOND = "BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"


def _bailing_moe(s: Settings) -> Named:
    """Ling 1 and 2: queries, keys and values in one, and experts, in all layers but the first dense ones."""
    named = named_class(s)
    further = s.count("num_nextn_predict_layers") or s.flag("use_grouped_gemm")
    if named not in (None, _FIRST, _SECOND) or further:
        shown = escape(str(named), 60)
        raise UnknownArchitecture(f"there is no proven definition for '{shown}' with these layers of a Bailing model.")
    heads, kv_heads, head_dim = head_sizes(s)
    feeds, count = dense_before(s), s.size("num_experts")
    # The second class norms queries and keys whatever the config says.
    normed = named == _SECOND or s.flag("use_qk_norm")
    kind = norm if named == _SECOND or s.flag("use_rmsnorm") else layer_norm

    def layer(prefix: str, index: int) -> Named:
        path = f"{prefix}.attention"
        width = (heads + 2 * kv_heads) * head_dim
        yield from linear(f"{path}.query_key_value", width, s.hidden, bias=s.flag("use_qkv_bias"))
        yield from linear(f"{path}.dense", s.hidden, heads * head_dim, bias=s.flag("use_bias"))
        if normed:
            yield from kind(path, head_dim, "query_layernorm", "key_layernorm")
        if feeds(index) == "dense":
            yield from plain_mlp(s, f"{prefix}.mlp")
            return
        yield from parameter_routed_experts(f"{prefix}.mlp", s.hidden, s.size("moe_intermediate_size"), count)
        if s.flag("multi_gate"):
            for gate in ("image_gate", "audio_gate"):
                yield from parameter(f"{prefix}.mlp.{gate}.weight", count, s.hidden)
        if s.value("num_shared_experts") is not None:
            shared = s.optional_size("moe_shared_expert_intermediate_size") or s.size("moe_intermediate_size")
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, shared * s.size("num_shared_experts"))

    return stacked(s, layer, tokens="word_embeddings")


_PROOF = Proof(
    "read",
    "inclusionAI/Ming 22f8315, modeling_bailing_moe.py; vllm/model_executor/models/bailing_moe.py (vllm 0.33.0)",
)

ARCHITECTURES: Architectures = {
    "bailing_hybrid": declared(framed(bailing_hybrid)),
    "bailing_moe": remote(framed(_bailing_moe), _PROOF, input_embedding="word_embeddings"),
    "bailing_moe_v2": like("bailing_moe", {"defaults": "bailing_moe"}),
}
