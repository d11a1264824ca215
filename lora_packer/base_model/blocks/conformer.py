"""The conformer of SeamlessM4T and of Wav2Vec2-BERT: feed-forward blocks around attention and a convolution.

And the convolutions by which NeMo's shortens what it hears.
"""

from __future__ import annotations

from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def dense_pair(path: str, hidden: int, inner: int) -> Named:
    """Two linears, out to the inner width and back."""
    yield from chain(path, (hidden, inner, hidden), "intermediate_dense", "output_dense", bias=True)


def _attention(path: str, hidden: int) -> Named:
    yield from linear(path, hidden, hidden, "linear_q", "linear_k", "linear_v", "linear_out", bias=True)


def projected_features(s: Settings) -> Named:
    """What widens the features of a frame to the hidden size."""
    inputs = s.size("feature_projection_input_dim")
    yield from layer_norm("feature_projection.layer_norm", inputs)
    yield from linear("feature_projection.projection", s.hidden, inputs, bias=True)


def relative_positions(path: str, hidden: int, heads: int) -> Named:
    """Positions as Transformer-XL has them."""
    yield from linear(f"{path}.linear_pos", hidden, hidden)
    yield from parameter(f"{path}.pos_bias_u", heads, hidden // heads)
    yield from parameter(f"{path}.pos_bias_v", heads, hidden // heads)


def relative_keys(s: Settings, path: str, hidden: int, heads: int) -> Named:
    """A table of the distances between frames."""
    positions = s.size("left_max_position_embeddings") + s.size("right_max_position_embeddings") + 1
    yield from embedding(f"{path}.distance_embedding", positions, hidden // heads)


def conformer_layer(s: Settings, path: str, inner: int, positions: Named, *, norm: str) -> Named:
    """One layer; ``positions`` are those of its attention, and ``norm`` is the name of that in its convolution."""
    for name in ("ffn1", "ffn2"):
        yield from dense_pair(f"{path}.{name}", s.hidden, inner)
        yield from layer_norm(f"{path}.{name}_layer_norm", s.hidden)
    yield from _attention(f"{path}.self_attn", s.hidden)
    yield from positions
    yield from layer_norm(path, s.hidden, "self_attn_layer_norm", "final_layer_norm")
    module = f"{path}.conv_module"
    yield from layer_norm(module, s.hidden, "layer_norm", norm)
    yield from conv(f"{module}.pointwise_conv1", (2 * s.hidden, s.hidden, 1), bias=False)
    yield from depthwise(f"{module}.depthwise_conv", s.hidden, s.size("conv_depthwise_kernel_size"))
    yield from conv(f"{module}.pointwise_conv2", (s.hidden, s.hidden, 1), bias=False)


def shortening_layer(path: str, width: int, inner: int, kernel: int) -> Named:
    """A layer behind the others, which leaves fewer frames."""
    yield from layer_norm(path, width, "residual_layer_norm", "self_attn_layer_norm", "ffn_layer_norm")
    yield from conv(f"{path}.residual_conv", (2 * width, width, kernel), bias=True)
    yield from conv(f"{path}.self_attn_conv", (2 * width, width, kernel), bias=True)
    yield from _attention(f"{path}.self_attn", width)
    yield from dense_pair(f"{path}.ffn", width, inner)


def halving_convolutions(path: str, channels: int, reduction: int) -> Named:
    """Convolutions that halve frames and bands, until there are ``reduction`` times fewer (a power of 2)."""
    yield from conv(f"{path}.0", (channels, 1, 3, 3), bias=True)
    for index in range(max(_halvings(reduction) - 1, 0)):
        yield from depthwise(f"{path}.{3 * index + 2}", channels, 3, 3, bias=True)
        yield from conv(f"{path}.{3 * index + 3}", (channels, channels, 1, 1), bias=True)


def halved(bands: int, reduction: int) -> int:
    """How many of so many bands these convolutions leave."""
    return -(-bands // (1 << _halvings(reduction)))


def _halvings(reduction: int) -> int:
    return max(reduction.bit_length() - 1, 0)
