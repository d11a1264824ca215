"""The blocks that decoder architectures are composed of: each yields (path, Module) pairs below a prefix.

Names and shapes are those of the transformers modelling files (``models/<type>/modeling_<type>.py`` at v5.23.0,
https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models).
"""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.base_model.module import Module

Named = Iterator[tuple[str, Module]]


def linear(path: str, out_features: int, in_features: int, *, bias: bool = False) -> tuple[str, Module]:
    """Return one torch.nn.Linear."""
    return path, Module("linear", (out_features, in_features), bias)


def norm(path: str, size: int) -> tuple[str, Module]:
    """Return the weight of a normalisation layer."""
    return f"{path}.weight", Module("parameter", (size,))


def layer_norm(path: str, size: int) -> Named:
    """The weight and the bias of a torch.nn.LayerNorm."""
    yield f"{path}.weight", Module("parameter", (size,))
    yield f"{path}.bias", Module("parameter", (size,))


def embedding(path: str, rows: int, width: int) -> tuple[str, Module]:
    """Return one torch.nn.Embedding."""
    return path, Module("embedding", (rows, width))


def conv1d(path: str, out_features: int, in_features: int) -> tuple[str, Module]:
    """Return one transformers Conv1D: a linear layer with a bias, whose weight is stored (in, out)."""
    return path, Module("conv1d", (in_features, out_features), True)


def attention(
    prefix: str, hidden: int, heads: int, kv_heads: int, head_dim: int, *, bias: bool = False, output_bias: bool = False
) -> Named:
    """Grouped-query attention: q_proj, k_proj, v_proj, o_proj."""
    yield linear(f"{prefix}.q_proj", heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.k_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.v_proj", kv_heads * head_dim, hidden, bias=bias)
    yield linear(f"{prefix}.o_proj", hidden, heads * head_dim, bias=output_bias)


def gated_mlp(prefix: str, hidden: int, intermediate: int, *, bias: bool = False) -> Named:
    """The gated feed-forward block: gate_proj, up_proj, down_proj."""
    yield linear(f"{prefix}.gate_proj", intermediate, hidden, bias=bias)
    yield linear(f"{prefix}.up_proj", intermediate, hidden, bias=bias)
    yield linear(f"{prefix}.down_proj", hidden, intermediate, bias=bias)


def fused_experts(prefix: str, hidden: int, intermediate: int, experts: int) -> Named:
    """Mixture of experts as transformers 5 has it: a router weight and two 3-D parameters."""
    yield f"{prefix}.gate.weight", Module("parameter", (experts, hidden))
    yield f"{prefix}.experts.gate_up_proj", Module("parameter", (experts, 2 * intermediate, hidden))
    yield f"{prefix}.experts.down_proj", Module("parameter", (experts, hidden, intermediate))


def separate_experts(prefix: str, hidden: int, intermediate: int, experts: int, names: tuple[str, str, str]) -> Named:
    """Mixture of experts as transformers 4 had it: a router and three linears per expert (gate, down, up)."""
    gate, down, up = names
    yield linear(f"{prefix}.gate", experts, hidden)
    for expert in range(experts):
        path = f"{prefix}.experts.{expert}"
        yield linear(f"{path}.{gate}", intermediate, hidden)
        yield linear(f"{path}.{down}", hidden, intermediate)
        yield linear(f"{path}.{up}", intermediate, hidden)
