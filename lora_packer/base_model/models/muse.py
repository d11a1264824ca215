"""Muse Glimmer and Muse Spark: the decoders, and the tower and the ears beside them."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import head_sizes, plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, with_towers
from lora_packer.base_model.blocks.feed_forward import plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import chain, depthwise, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.towers import short_layers
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_NORMS = ("input_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _attention(s: Settings, path: str) -> Named:
    heads, _, head_dim = head_sizes(s)
    yield from plain_attention(s, path)
    yield from linear(f"{path}.gate_proj", heads * head_dim, s.hidden)


def _glimmer_text(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=(*_NORMS, "post_attention_layernorm"))


def _spark_text(s: Settings) -> Named:
    kind = layer_kinds(s.names("mlp_layer_types"), lambda _: "sparse")

    def layer(prefix: str, index: int) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        for name in ("post_attention_residual_gate", "post_feedforward_residual_gate"):
            yield from parameter(f"{prefix}.{name}.gate", s.hidden)
        if kind(index) == "sparse":
            yield from _narrow_experts(s, f"{prefix}.mlp")
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=_NORMS)


def _narrow_experts(s: Settings, path: str) -> Named:
    """Experts that work at a width of their own."""
    width, inner = s.size("moe_hidden_size"), s.size("moe_intermediate_size")
    experts = s.size("num_local_experts")
    yield from parameter(f"{path}.gate.weight", experts, s.hidden)
    yield from linear(f"{path}.pre_expert_proj", width, s.hidden)
    yield from norm(f"{path}.pre_expert_norm", width)
    yield from parameter(f"{path}.experts.gate_up_proj", experts, 2 * inner, width)
    yield from parameter(f"{path}.experts.down_proj", experts, width, inner)
    yield from norm(f"{path}.experts.post_expert_norm", width)
    yield from linear(f"{path}.post_expert_proj", s.hidden, width)


def _visual(s: Settings) -> Named:
    yield from linear(
        "patch_embedder.patch_embedding", s.hidden, s.size("patch_temporal") * 3 * s.size("patch_size") ** 2
    )
    positions = s.size("pos_emb_height") * s.size("pos_emb_width")
    yield from embedding("patch_embedder.position_embedding_table", positions, s.hidden)
    yield from layer_norm("ln_pre", s.hidden)
    yield from short_layers(s)
    yield from layer_norm("ln_post", s.hidden)


def _audio(s: Settings) -> Named:
    """Layers of convolutions; each folds some samples of the layer below into one."""
    widths, patches, depths = (s.sizes(name) for name in ("hidden_sizes", "patch_sizes", "depths"))
    below_it = 1
    for index, (width, patch, depth) in enumerate(zip(widths, patches, depths, strict=False)):
        path, inner = f"layers.{index}", int(width * s.ratio("mlp_ratio"))
        yield from linear(f"{path}.patch_embedder.proj", width, below_it * patch, bias=True)
        yield from norm(f"{path}.patch_embedder.norm", width)
        for block in range(depth):
            yield from depthwise(f"{path}.conv_blocks.{block}.conv", width, s.size("conv_kernel_size"), bias=True)
            yield from norm(f"{path}.conv_blocks.{block}.norm", width)
            yield from two_linears_mlp(f"{path}.conv_blocks.{block}.mlp", width, inner)
        below_it = width
    yield from norm("norm", below_it)
    yield from linear("proj", s.size("out_hidden_size"), below_it, bias=True)
    yield from norm("post_proj_norm", s.size("out_hidden_size"))


def _beside(s: Settings, text: Settings) -> Named:
    vision, visual = _VISION_PART.of(s)
    width = s.size("projector_hidden_size")
    yield from below("vision_tower", visual(vision))
    yield from chain("vision_adapter", (s.size("out_hidden_size"), width, width), "fc1", "fc2")
    yield from linear("vision_projection", text.hidden, width)


def _beside_and_audio(s: Settings, text: Settings) -> Named:
    audio, heard = _AUDIO_PART.of(s)
    yield from _beside(s, text)
    yield from below("audio_tower", heard(audio))


_VISION_PART = fixed("vision_config", Tower("muse_glimmer_vision", _visual))
_AUDIO_PART = fixed("audio_config", Tower("muse_spark_audio", _audio))

ARCHITECTURES: Architectures = {
    "muse_glimmer_text": declared(framed(_glimmer_text)),
    "muse_spark_text": declared(framed(_spark_text)),
    "muse_glimmer": composite(with_towers(fixed("text_config", Tower("muse_glimmer_text", _glimmer_text)), _beside)),
    "muse_spark": composite(
        with_towers(fixed("text_config", Tower("muse_spark_text", _spark_text)), _beside_and_audio)
    ),
}
