"""What stands around the blocks of a layer in place of one residual stream: hyper-connections between several."""

from __future__ import annotations

from lora_packer.base_model.module import Module, Named


def hyper_connections(prefix: str, hidden: int, streams: int, *, mixes: bool = True) -> Named:
    """The hyper-connections around a layer's attention and its feed-forward block.

    Each reads the block's input out of the streams and writes its output back to them; ``mixes`` says whether it also
    mixes the streams with each other.
    """
    weights = (2 + streams) * streams if mixes else 2 * streams
    for block in ("attn_hc", "ffn_hc"):
        yield f"{prefix}.{block}.fn", Module("parameter", (weights, streams * hidden))
        yield f"{prefix}.{block}.base", Module("parameter", (weights,))
        yield f"{prefix}.{block}.scale", Module("parameter", (3 if mixes else 2,))


def merged_streams(hidden: int, streams: int) -> Named:
    """What makes one stream of several after the last layer."""
    yield "hc_head.hc_fn", Module("parameter", (streams, streams * hidden))
    yield "hc_head.hc_base", Module("parameter", (streams,))
    yield "hc_head.hc_scale", Module("parameter", (1,))
