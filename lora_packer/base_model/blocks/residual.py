"""What stands around the blocks of a layer in place of one residual stream: hyper-connections between several."""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import parameter
from lora_packer.base_model.module import Named


def hyper_connections(prefix: str, hidden: int, streams: int, *, mixes: bool = True) -> Named:
    """The hyper-connections around a layer's attention and its feed-forward block.

    Each reads the block's input out of the streams and writes its output back to them; ``mixes`` says whether it also
    mixes the streams with each other.
    """
    weights = (2 + streams) * streams if mixes else 2 * streams
    for block in ("attn_hc", "ffn_hc"):
        yield from parameter(f"{prefix}.{block}.fn", weights, streams * hidden)
        yield from parameter(f"{prefix}.{block}.base", weights)
        yield from parameter(f"{prefix}.{block}.scale", 3 if mixes else 2)


def merged_streams(hidden: int, streams: int) -> Named:
    """What makes one stream of several after the last layer."""
    yield from parameter("hc_head.hc_fn", streams, streams * hidden)
    yield from parameter("hc_head.hc_base", streams)
    yield from parameter("hc_head.hc_scale", 1)
