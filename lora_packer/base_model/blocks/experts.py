"""Mixtures of experts: the router and the routed experts as transformers 5 and 4 have them, and the shared expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from lora_packer.base_model.architecture import TRANSFORMERS_4, Build
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import layer_kinds
from lora_packer.base_model.blocks.layers import linear, parameter
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings

# Yields a router and its experts: prefix, hidden size, intermediate size, number of experts.
Experts = Callable[[str, int, int, int], Named]


class MoeDecoder(Protocol):
    """A decoder whose experts are given."""

    def __call__(self, s: Settings, *, experts: Experts = ...) -> Named:
        """Yield the decoder's modules."""
        ...


def fused_weights(prefix: str, hidden: int, intermediate: int, experts: int) -> Named:
    """The two 3-D parameters of the routed experts, as transformers 5 has them."""
    yield from parameter(f"{prefix}.gate_up_proj", experts, 2 * intermediate, hidden)
    yield from parameter(f"{prefix}.down_proj", experts, hidden, intermediate)


def fused_experts(prefix: str, hidden: int, intermediate: int, experts: int) -> Named:
    """Mixture of experts as transformers 5 has it: a router weight and two 3-D parameters."""
    yield from parameter(f"{prefix}.gate.weight", experts, hidden)
    yield from parameter(f"{prefix}.experts.gate_up_proj", experts, 2 * intermediate, hidden)
    yield from parameter(f"{prefix}.experts.down_proj", experts, hidden, intermediate)


def separate_linears(
    prefix: str,
    hidden: int,
    intermediate: int,
    experts: int,
    *,
    bias: bool = False,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> Named:
    """The three linears of each routed expert, as transformers 4 had them: names of gate, up and down."""
    gate, up, down = names
    inwards, outwards = Module("linear", (intermediate, hidden), bias), Module("linear", (hidden, intermediate), bias)
    for expert in range(experts):
        yield f"{prefix}.{expert}.{gate}", inwards
        yield f"{prefix}.{expert}.{up}", inwards
        yield f"{prefix}.{expert}.{down}", outwards


def separate_experts(prefix: str, hidden: int, intermediate: int, experts: int, names: tuple[str, str, str]) -> Named:
    """Mixture of experts as transformers 4 had it: a router and three linears per expert (gate, up, down)."""
    yield from linear(f"{prefix}.gate", experts, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, experts, names=names)


# Transformers 4: a linear router; linears named as in a gated feed-forward block, or as Mixtral's.
linear_experts: Experts = partial(separate_experts, names=("gate_proj", "up_proj", "down_proj"))
numbered_experts: Experts = partial(separate_experts, names=("w1", "w3", "w2"))


def parameter_routed_experts(prefix: str, hidden: int, intermediate: int, experts: int, *, bias: bool = False) -> Named:
    """Transformers 4 with DeepSeek's router, whose weight is a parameter of its own."""
    yield from parameter(f"{prefix}.gate.weight", experts, hidden)
    yield from separate_linears(f"{prefix}.experts", hidden, intermediate, experts, bias=bias)


def both_names(
    decoder: MoeDecoder, before_5: Experts, frame: Callable[[Callable[[Settings], Named]], Build]
) -> tuple[Build, Mapping[str, Build]]:
    """Return a decoder that differs between transformers 5 and 4 in its experts alone, and its older dialect."""
    return frame(decoder), {TRANSFORMERS_4: frame(partial(decoder, experts=before_5))}


def number_of_experts(s: Settings, declared: str, other: str) -> int:
    """Return a number of experts, which transformers also takes under another name, which wins."""
    name = other if other in s.raw else declared
    return s.size(name) if s.value(name) is None else s.count(name)


def aliased_experts(s: Settings) -> int:
    """Return the number of experts in ``num_experts``."""
    return number_of_experts(s, "num_experts", "num_local_experts")


def local_experts(s: Settings) -> int:
    """Return the number of experts in ``num_local_experts``."""
    return number_of_experts(s, "num_local_experts", "num_experts")


def deepseek_experts(s: Settings) -> int:
    """Return the number of experts in ``n_routed_experts``."""
    return number_of_experts(s, "n_routed_experts", "num_local_experts")


def dense_before(s: Settings) -> Callable[[int], str]:
    """Return which layers are "sparse": all after ``first_k_dense_replace``."""
    dense = s.count("first_k_dense_replace")
    return lambda index: "sparse" if index >= dense else "dense"


def sparse_after(s: Settings, dense: int) -> Callable[[int], str]:
    """Return which layers are "sparse": as listed, else all after the first ``dense`` ones."""
    return layer_kinds(s.names("mlp_layer_types"), lambda index: "dense" if index < dense else "sparse")


def first_dense(s: Settings) -> Callable[[int], str]:
    """Return which layers are "sparse": those in ``mlp_layer_types``, else all after ``first_k_dense_replace``."""
    return sparse_after(s, s.count("first_k_dense_replace"))


def sparse_layers(s: Settings) -> Callable[[int], str]:
    """Return which layers are "sparse": as listed, else every ``moe_layer_freq``-th after the first dense ones."""
    dense, frequency = s.count("first_k_dense_replace"), s.value("moe_layer_freq")
    listed = s.numbers("moe_layer_freq") if isinstance(frequency, list) else None
    step = 1 if listed is not None else s.size("moe_layer_freq")

    def derived(index: int) -> str:
        due = listed[index] if listed is not None and index < len(listed) else index % step == 0
        return "sparse" if index >= dense and due else "dense"

    return layer_kinds(s.names("mlp_layer_types"), derived)


def qwen_is_sparse(s: Settings, experts: int) -> Callable[[int], bool]:
    """Return which layers have experts: every ``decoder_sparse_step``-th, less ``mlp_only_layers``."""
    dense, step = s.indices("mlp_only_layers"), s.size("decoder_sparse_step")
    return lambda index: index not in dense and experts > 0 and (index + 1) % step == 0


def routed_experts(s: Settings, prefix: str, count: int) -> Named:
    """The router and the experts of ``moe_intermediate_size``."""
    return fused_experts(prefix, s.hidden, s.size("moe_intermediate_size"), count)


def deepseek_mixture(
    s: Settings,
    prefix: str,
    count: int,
    experts: Experts = fused_experts,
    *,
    shared: str = "n_shared_experts",
    bias: bool = False,
) -> Named:
    """Routed experts and a shared one as wide as several of them, as in DeepSeek and its relatives."""
    intermediate = s.size("moe_intermediate_size")
    yield from experts(prefix, s.hidden, intermediate, count)
    yield from gated_mlp(f"{prefix}.shared_experts", s.hidden, intermediate * s.size(shared), bias=bias)


def mixture_or_dense(
    s: Settings,
    prefix: str,
    count: int,
    experts: Experts = fused_experts,
    *,
    sparse: bool,
    shared: str = "n_shared_experts",
    bias: bool = False,
) -> Named:
    """Routed experts and a shared one in a ``sparse`` layer, else a dense block."""
    if sparse:
        return deepseek_mixture(s, prefix, count, experts, shared=shared, bias=bias)
    return plain_mlp(s, prefix, bias=bias)


def qwen_mixture(s: Settings, prefix: str, experts: Experts = fused_experts) -> Named:
    """Routed experts and a gated shared one, as in Qwen2-MoE and its successors."""
    yield from experts(prefix, s.hidden, s.size("moe_intermediate_size"), s.size("num_experts"))
    yield from gated_mlp(f"{prefix}.shared_expert", s.hidden, s.size("shared_expert_intermediate_size"))
    yield from linear(f"{prefix}.shared_expert_gate", 1, s.hidden)
