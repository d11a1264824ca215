"""Models with an encoder that sees and a decoder that writes: Florence-2, Pix2Struct, UDOP and PP-FormulaNet."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head, head_modules
from lora_packer.base_model.blocks import Named, embedding, layer_norm, linear, norm
from lora_packer.base_model.families.composite import Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.families.multimodal import seeing
from lora_packer.base_model.families.multimodal_more import SAM_VISION, sam_visual
from lora_packer.base_model.families.multimodal_older import pix2struct_visual
from lora_packer.base_model.families.seq2seq import ARCHITECTURES as SEQ2SEQ
from lora_packer.base_model.families.seq2seq_t5 import t5_side
from lora_packer.base_model.families.vision import conv
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _davit(s: Settings) -> Named:
    """Stages of blocks that attend within windows, then across channels."""
    widths, sides, depths = (s.sizes(name) for name in ("embed_dim", "patch_size", "depths"))
    before = s.value("patch_prenorm")
    if not len(widths) == len(sides) == len(depths) or not isinstance(before, list | tuple) or len(before) < len(sides):
        raise InputError(
            "the base config's lists for the stages of its vision tower differ in length.",
            hint="Use the base model's own config.json.",
        )
    for stage, (inputs, width) in enumerate(pairwise((s.size("in_channels"), *widths))):
        side = sides[stage]
        yield conv(f"convs.{stage}.conv", (width, inputs, side, side), bias=True)
        yield from layer_norm(f"convs.{stage}.norm", inputs if before[stage] else width)
        for block in range(depths[stage]):
            for kind, name in (("spatial_block", "window_attn"), ("channel_block", "channel_attn")):
                yield from _davit_block(s, f"blocks.{stage}.{block}.{kind}", name, width)


def _davit_block(s: Settings, path: str, name: str, width: int) -> Named:
    inner = int(width * s.ratio("mlp_ratio"))
    yield linear(f"{path}.{name}.qkv", 3 * width, width, bias=s.flag("qkv_bias"))
    yield linear(f"{path}.{name}.proj", width, width, bias=True)
    for number in (1, 2):
        yield conv(f"{path}.conv{number}", (width, 1, 3, 3), bias=True)
        yield from layer_norm(f"{path}.norm{number}", width)
    yield linear(f"{path}.ffn.fc1", inner, width, bias=True)
    yield linear(f"{path}.ffn.fc2", width, inner, bias=True)


def _florence_projector(_s: Settings, vision: Settings, _text: Settings) -> Named:
    last, outputs = vision.sizes("embed_dim")[-1], vision.size("projection_dim")
    positions, path = vision.size("max_position_embeddings"), "multi_modal_projector"
    yield linear(f"{path}.image_projection", outputs, last)
    yield from layer_norm(f"{path}.image_proj_norm", outputs)
    yield embedding(f"{path}.image_position_embed.row_embeddings", positions, last // 2)
    yield embedding(f"{path}.image_position_embed.column_embeddings", positions, last - last // 2)


def _pix2struct(s: Settings, _head: Head) -> Named:
    (text, modules), (vision, _) = _PIX_TEXT_PART.of(s), _PIX_VISION_PART.of(s)
    sizes = vision.size("d_kv"), vision.size("d_ff"), vision.size("seq_len")
    yield from below("encoder", pix2struct_visual(vision, *sizes))
    yield from below("decoder", modules(text))


def _pix2struct_text(s: Settings) -> Named:
    """T5's decoder under other names, with its head."""
    hidden, inner = s.size("hidden_size"), s.size("d_ff")
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    for index in range(s.size("num_layers")):
        path = f"layer.{index}"
        for name in ("self_attention", "encoder_decoder_attention"):
            for projection in ("query", "key", "value", "output"):
                yield linear(f"{path}.{name}.attention.{projection}", hidden, hidden)
            yield norm(f"{path}.{name}.layer_norm", hidden)
        if index == 0:
            table = f"{path}.self_attention.attention.relative_attention_bias"
            yield embedding(table, s.size("relative_attention_num_buckets"), s.size("num_heads"))
        yield linear(f"{path}.mlp.DenseReluDense.wi_0", inner, hidden)
        yield linear(f"{path}.mlp.DenseReluDense.wi_1", inner, hidden)
        yield linear(f"{path}.mlp.DenseReluDense.wo", hidden, inner)
        yield norm(f"{path}.mlp.layer_norm", hidden)
    yield norm("final_layer_norm", hidden)
    yield linear("lm_head", s.size("vocab_size"), hidden)


def _udop(s: Settings, head: Head) -> Named:
    """T5, whose sides embed patches too, and whose encoder knows where on the page a word stands."""
    s = s.aliased({"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"})
    width, positions = s.size("d_model"), s.size("max_2d_position_embeddings")
    patch = (width, s.size("num_channels"), *s.pair("patch_size"))
    # What the file says is gated does not count: the name of the activation decides.
    gated = str(s.value("feed_forward_proj")).startswith("gated-") if "is_gated_act" not in s.raw else None
    s = s if gated is None else s.with_fields(is_gated_act=gated)
    yield embedding("shared", s.size("vocab_size"), width)
    yield conv("patch_embed.proj", patch, bias=True)
    for side in ("encoder", "decoder"):
        yield from t5_side(s, side, every_bias=False)
        yield conv(f"{side}.embed_patches.proj", patch, bias=True)
        for index, own in enumerate(_udop_buckets(s)):
            # In the class that writes, the first table is tied to that of the attention.
            buckets = s.size("relative_attention_num_buckets") if index == 0 and head != "none" else own
            yield embedding(
                f"{side}.relative_bias.biases.{index}.relative_attention_bias", buckets, s.size("num_heads")
            )
    for name in ("x_position_embeddings", "y_position_embeddings"):
        yield embedding(f"encoder.cell_2d_embedding.{name}", positions, width)
    if head != "none":
        yield linear("lm_head", s.size("vocab_size"), width)


def _udop_buckets(s: Settings) -> list[int]:
    """The number of buckets of each kind of relative position."""
    kinds = s.value("relative_bias_args")
    if not isinstance(kinds, list | tuple):
        return [32, 32, 32]
    found = []
    for kind in kinds:
        fields = Settings(kind if isinstance(kind, Mapping) else {}, {"relative_attention_num_buckets": 32})
        more = 2 if fields.flag("prefix_bucket") and not fields.flag("expand") else 0
        found.append(fields.size("relative_attention_num_buckets") + more)
    return found


def _formula(s: Settings, head: Head) -> Named:
    """Segment Anything's encoder and mBART's decoder."""
    before = "" if head == "none" else "model."
    (text, both), (vision, visual) = _FORMULA_TEXT_PART.of(s), _FORMULA_VISION_PART.of(s)
    inputs, middle, outputs = (vision.size(f"post_conv_{name}_channels") for name in ("in", "mid", "out"))
    path = f"{before}encoder.multi_modal_projector"
    yield from below(f"{before}encoder", visual(vision))
    yield conv(f"{path}.conv1", (middle, inputs, 3, 3), bias=False)
    yield conv(f"{path}.conv2", (outputs, middle, 3, 3), bias=False)
    yield linear(f"{path}.linear_1", outputs, outputs, bias=True)
    yield linear(f"{path}.linear_2", vision.size("decoder_hidden_size"), outputs, bias=True)
    for name, module in both(text):
        if name.startswith("decoder."):
            yield before + name, module
    yield from head_modules(text, head, width="d_model")


_FLORENCE_VISION: dict[str, Any] = {
    "in_channels": 3,
    "depths": [1, 1, 9, 1],
    "patch_size": [7, 3, 3, 3],
    "patch_prenorm": [False, True, True, True],
    "embed_dim": [128, 256, 512, 1024],
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "projection_dim": 1024,
    "max_position_embeddings": 50,
}
_PIX_TEXT: dict[str, Any] = {
    "vocab_size": 50244,
    "hidden_size": 768,
    "d_ff": 2048,
    "num_layers": 12,
    "num_heads": 12,
    "relative_attention_num_buckets": 32,
}
_PIX_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "patch_embed_hidden_size": 768,
    "d_ff": 2048,
    "d_kv": 64,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "seq_len": 4096,
}
_UDOP: dict[str, Any] = {
    "vocab_size": 33201,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 4096,
    "num_layers": 24,
    "num_heads": 16,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "relu",
    "max_2d_position_embeddings": 1024,
    "patch_size": 16,
    "num_channels": 3,
}
_PIX_NAMES = {
    **dict.fromkeys(("num_attention_heads", "decoder_attention_heads", "encoder_attention_heads"), "num_heads"),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers"), "num_layers"),
}
_PIX_TEXT_PART = fixed("text_config", Tower(_PIX_TEXT, _pix2struct_text), attribute_map=_PIX_NAMES)
_PIX_VISION_PART = fixed("vision_config", Tower(_PIX_VISION, lambda _: iter(())))
_FORMULA_TEXT: dict[str, Any] = {
    **SEQ2SEQ["mbart"].defaults,
    "vocab_size": 50000,
    "max_position_embeddings": 2560,
    "decoder_layers": 8,
    "decoder_ffn_dim": 2048,
    "d_model": 512,
}
_FORMULA_VISION: dict[str, Any] = {
    **SAM_VISION,
    "image_size": 512,
    "post_conv_in_channels": 256,
    "post_conv_mid_channels": 512,
    "post_conv_out_channels": 1024,
    "decoder_hidden_size": 512,
}


def _both_sides(s: Settings) -> Named:
    return SEQ2SEQ["mbart"].dialects[TRANSFORMERS_5](s, "none")


_FORMULA_TEXT_PART = fixed("text_config", Tower(_FORMULA_TEXT, _both_sides), attribute_map={"hidden_size": "d_model"})
_FORMULA_VISION_PART = fixed("vision_config", Tower(_FORMULA_VISION, sam_visual))
_FLORENCE_TEXT = Part("text_config", "bart", attribute_map={"hidden_size": "d_model"})

ARCHITECTURES: Mapping[str, Architecture] = {
    "florence2": composite(
        {},
        with_towers(
            _FLORENCE_TEXT, seeing(fixed("vision_config", Tower(_FLORENCE_VISION, _davit)), _florence_projector)
        ),
    ),
    "pp_formulanet": composite({}, _formula),
    "pix2struct": composite({}, _pix2struct),
    "udop": Architecture(_UDOP, {TRANSFORMERS_5: _udop}, (), input_embedding="shared"),
}
