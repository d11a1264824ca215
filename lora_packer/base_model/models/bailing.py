"""Bailing (Ling and Ring): layers of linear attention among latent ones, over experts."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.experts import first_dense, mixture_or_dense, number_of_experts
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import linear
from lora_packer.base_model.blocks.recurrent import kimi_delta_attention
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


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


ARCHITECTURES: Architectures = {"bailing_hybrid": declared(framed(bailing_hybrid))}
