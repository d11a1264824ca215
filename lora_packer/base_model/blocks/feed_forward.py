"""Feed-forward blocks: gated, with both inner projections in one, without a gate, numbered."""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import chain, linear
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def gated_mlp(prefix: str, hidden: int, intermediate: int, *, bias: bool = False) -> Named:
    """The gated feed-forward block: gate_proj, up_proj, down_proj."""
    inwards, outwards = Module("linear", (intermediate, hidden), bias), Module("linear", (hidden, intermediate), bias)
    yield f"{prefix}.gate_proj", inwards
    yield f"{prefix}.up_proj", inwards
    yield f"{prefix}.down_proj", outwards


def two_linears_mlp(prefix: str, hidden: int, intermediate: int) -> Named:
    """The feed-forward block without a gate, as most towers have it: fc1, fc2, with biases."""
    yield from chain(prefix, (hidden, intermediate, hidden), "fc1", "fc2", bias=True)


def ungated_mlp(
    s: Settings, prefix: str, names: tuple[str, str] = ("up_proj", "down_proj"), *, bias: bool = False
) -> Named:
    """The feed-forward block without a gate."""
    yield from linear(f"{prefix}.{names[0]}", s.inner, s.hidden, bias=bias)
    yield from linear(f"{prefix}.{names[1]}", s.hidden, s.inner, bias=bias)


def plain_mlp(s: Settings, prefix: str, *, bias: bool = False) -> Named:
    """The gated feed-forward block of ``intermediate_size``."""
    return gated_mlp(prefix, s.hidden, s.inner, bias=bias)


def fused_gated_mlp(s: Settings, prefix: str) -> Named:
    """The gated feed-forward block with gate and up projection in one."""
    yield from linear(f"{prefix}.gate_up_proj", 2 * s.inner, s.hidden)
    yield from linear(f"{prefix}.down_proj", s.hidden, s.inner)


def numbered_mlp(s: Settings, prefix: str, intermediate: int) -> Named:
    """The gated feed-forward block with the names w1 (gate), w3 (up) and w2 (down)."""
    yield from linear(prefix, intermediate, s.hidden, "w1", "w3")
    yield from linear(f"{prefix}.w2", s.hidden, intermediate)
