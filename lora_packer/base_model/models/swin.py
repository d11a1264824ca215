"""Swin, which sees in windows, and Donut's encoder, which is Swin as it was first written."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Build, Head, declared
from lora_packer.base_model.blocks.composite import renamed_inside
from lora_packer.base_model.blocks.feed_forward import two_linears_mlp
from lora_packer.base_model.blocks.frames import aliased
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# The names inside a layer as Donut has them, and as Swin had them before transformers 5.23.
_OLDER: Mapping[str, str] = {
    "attention.q_proj": "attention.self.query",
    "attention.k_proj": "attention.self.key",
    "attention.v_proj": "attention.self.value",
    "attention.o_proj": "attention.output.dense",
    "attention.relative_position_bias": "attention.self",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def last_width(s: Settings) -> int:
    """Return how wide the last stage is: each is twice as wide as the one before."""
    return s.size("embed_dim") << (s.length("depths") - 1)


def _embeddings(s: Settings, others: int) -> Named:
    """The patches, their norm and, where they are learned, the positions; ``others`` of them are of no patch."""
    (height, width), (down, right), first = s.pair("image_size"), s.pair("patch_size"), s.size("embed_dim")
    patch = (first, s.size("num_channels"), down, right)
    yield from conv("embeddings.patch_embeddings.projection", patch, bias=True)
    yield from layer_norm("embeddings.norm", first)
    if s.flag("use_absolute_embeddings"):
        positions = (height // down) * (width // right) + others
        yield from parameter("embeddings.position_embeddings", 1, positions, first)


def _stages(s: Settings) -> Named:
    """The stages, with what halves the image between them."""
    (high, wide), depths, bias = s.pair("window_size"), s.sizes("depths"), s.flag("qkv_bias")
    for stage, (depth, heads) in enumerate(zip(depths, s.sizes("num_heads"), strict=False)):
        width = s.size("embed_dim") << stage
        for index in range(depth):
            path = f"encoder.layers.{stage}.blocks.{index}"
            yield from linear(f"{path}.attention", width, width, "q_proj", "k_proj", "v_proj", bias=bias)
            yield from linear(f"{path}.attention.o_proj", width, width, bias=True)
            table = f"{path}.attention.relative_position_bias.relative_position_bias_table"
            yield from parameter(table, (2 * high - 1) * (2 * wide - 1), heads)
            yield from two_linears_mlp(f"{path}.mlp", width, int(s.ratio("mlp_ratio") * width))
            yield from layer_norm(path, width, "layernorm_before", "layernorm_after")
        if stage < len(depths) - 1:
            yield from linear(f"encoder.layers.{stage}.downsample.reduction", 2 * width, 4 * width)
            yield from layer_norm(f"encoder.layers.{stage}.downsample.norm", 4 * width)


def _swin(prefix: str, *, others: int, last_norm: bool) -> Build:
    """The encoder and its classifier; ``last_norm`` is whether the last stage's output is normed."""

    def build(s: Settings, head: Head) -> Named:
        classifies, width = head == "sequence-classification", last_width(s)
        before = f"{prefix}." if classifies else ""
        for part in (_embeddings(s, others), _stages(s), layer_norm("layernorm", width) if last_norm else ()):
            for path, module in part:
                yield before + path, module
        if classifies:
            yield from linear("classifier", s.labels(), width, bias=True)

    return aliased(build, {"num_attention_heads": "num_heads"})


_SWIN = _swin("swin", others=0, last_norm=True)
_SWIN_BEFORE_5 = renamed_inside(_swin("swin", others=1, last_norm=True), _OLDER)
_DONUT = renamed_inside(_swin("donut", others=1, last_norm=False), _OLDER)

ARCHITECTURES: Architectures = {
    "donut-swin": declared(_DONUT, input_embedding=None),
    "swin": declared(_SWIN, {TRANSFORMERS_4: _SWIN_BEFORE_5}, input_embedding=None),
}
