"""ERNIE 4.5, its experts, and the models beside it that see."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Head, declared
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, with_towers
from lora_packer.base_model.blocks.encoders import (
    bert_body,
    bert_like,
)
from lora_packer.base_model.blocks.experts import Experts, fused_experts, number_of_experts, separate_linears
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import (
    decoder,
    framed,
    head_modules,
    layer_kinds,
    stacked,
)
from lora_packer.base_model.blocks.layers import Block, chain, embedding, flagged, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.qwen_visual import depth
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_BIASED_LAYER: Mapping[str, Block] = {
    "self_attn": flagged(grouped_attention, bias="use_bias", output_bias="use_bias"),
    "mlp": flagged(plain_mlp, bias="use_bias"),
}
_ernie = decoder(_BIASED_LAYER)


def _ernie_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    yield from fused_experts(prefix, hidden, intermediate, count)
    yield from parameter(f"{prefix}.gate.moe_statics.e_score_correction_bias", 1, count)


def _ernie4_5_moe_before_5(s: Settings) -> Named:
    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        yield from linear(f"{prefix}.gate", count, hidden)
        yield from parameter(f"{prefix}.moe_statics.e_score_correction_bias", 1, count)
        yield from separate_linears(f"{prefix}.experts", hidden, intermediate, count, bias=s.flag("use_bias"))

    return _ernie4_5_moe(s, experts=experts)


def _ernie4_5_moe(s: Settings, *, experts: Experts = _ernie_experts) -> Named:
    bias, intermediate = s.flag("use_bias"), s.size("moe_intermediate_size")
    count = number_of_experts(s, "moe_num_experts", "num_experts")
    start, interval = s.count("moe_layer_start_index"), s.size("moe_layer_interval")
    end = s.layers if s.value("moe_layer_end_index") == -1 else s.count("moe_layer_end_index")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        if (index + 1) % interval or not start <= index <= end:
            yield from plain_mlp(s, f"{prefix}.mlp", bias=bias)
            return
        yield from experts(f"{prefix}.mlp", s.hidden, intermediate, count)
        shared = s.count("moe_num_shared_experts")
        if shared:
            yield from gated_mlp(f"{prefix}.mlp.shared_experts", s.hidden, intermediate * shared, bias=bias)

    return stacked(s, layer)


def _ernie_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("use_bias"))


_paddle_text = decoder(_BIASED_LAYER)


def _paddle_visual(s: Settings) -> Named:
    return below("vision_model", siglip_body(s))


def _paddle_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    merged = vision.hidden * vision.size("spatial_merge_size") ** 2
    yield from layer_norm("projector.pre_norm", vision.hidden)
    yield from chain("projector", (merged, merged, text.hidden), "linear_1", "linear_2", bias=True)


def _ernie_text(s: Settings) -> Named:
    s = s.aliased({"num_experts": "moe_num_experts"})
    hidden, bias = s.hidden, s.flag("use_bias")
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        if kind(index) == "sparse":
            yield from _ernie_vl_experts(s, f"{prefix}.mlp", hidden, bias=bias)
        else:
            yield from gated_mlp(f"{prefix}.mlp", hidden, s.inner, bias=bias)

    return stacked(s, layer)


def _ernie_vl_experts(s: Settings, path: str, hidden: int, *, bias: bool) -> Named:
    """Experts for text and experts for images, of sizes of their own, and shared ones."""
    experts, shared = s.size("moe_num_experts"), s.count("moe_num_shared_experts")
    for_text, for_images = s.pair("moe_intermediate_size")
    for name, inner in (("text_moe", for_text), ("vision_moe", for_images)):
        yield from parameter(f"{path}.{name}.gate.weight", experts, hidden)
        yield from parameter(f"{path}.{name}.gate.moe_statics.e_score_correction_bias", 1, experts)
        yield from parameter(f"{path}.{name}.experts.gate_up_proj", experts, 2 * inner, hidden)
        yield from parameter(f"{path}.{name}.experts.down_proj", experts, hidden, inner)
    if shared:
        yield from gated_mlp(f"{path}.shared_experts", hidden, for_text * shared, bias=bias)


def _ernie_visual(s: Settings) -> Named:
    yield from linear("patch_embed.proj", s.hidden, s.size("in_channels") * s.size("patch_size") ** 2)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=True)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "norm1", "norm2")
    yield from layer_norm("ln", s.hidden)


def _ernie_resampler(_s: Settings, vision: Settings, text: Settings) -> Named:
    """Folds neighbours in space, then in time, into one token."""
    space = vision.hidden * vision.size("spatial_merge_size") ** 2
    for name, inputs in (("spatial_linear", space), ("temporal_linear", space * vision.size("temporal_merge_size"))):
        yield from chain(f"resampler_model.{name}", (inputs, space, space), "fc1", "fc2", bias=True)
        yield from layer_norm(f"resampler_model.{name}.ln", space)
    yield from linear("resampler_model.mlp", text.hidden, space, bias=True)
    yield from norm("resampler_model.after_norm", text.hidden)


_ernie_frame = partial(framed, heads=_ernie_head)


def _ernie_encoder(s: Settings) -> Named:
    if s.flag("use_task_id"):
        tasks = s.size("task_type_vocab_size")
        yield from embedding("embeddings.task_type_embeddings", tasks, s.hidden)
    yield from bert_body(s)


ARCHITECTURES: Architectures = {
    "ernie4_5": declared(framed(_ernie)),
    "ernie4_5_moe": declared(_ernie_frame(_ernie4_5_moe), {TRANSFORMERS_4: _ernie_frame(_ernie4_5_moe_before_5)}),
    "paddleocr_vl": composite(
        with_towers(
            fixed("text_config", Tower("paddleocr_vl_text", _paddle_text), flat=True),
            seeing(fixed("vision_config", Tower("paddleocr_vl_vision", _paddle_visual)), _paddle_projector, "visual"),
        ),
        flat_text=True,
    ),
    "ernie4_5_vl_moe": composite(
        with_towers(
            fixed("text_config", Tower("ernie4_5_vl_moe_text", _ernie_text)),
            seeing(fixed("vision_config", Tower("ernie4_5_vl_moe_vision", _ernie_visual)), _ernie_resampler),
        )
    ),
    "ernie": declared(bert_like(_ernie_encoder, "ernie."), input_embedding="word_embeddings"),
}
