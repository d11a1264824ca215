"""IBM's Granite models that see or hear."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architecture
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.frames import plain_decoder
from lora_packer.base_model.blocks.hearing import before_5
from lora_packer.base_model.blocks.layers import conv, embedding, layer_norm, linear
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.models.vision_towers import BLIP2_QFORMER, vision_config
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _conformer_feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.pre_norm", width)
    yield linear(f"{path}.up_proj", inner, width, bias=True)
    yield linear(f"{path}.down_proj", width, inner, bias=True)


def _conformer(s: Settings) -> Named:
    """Granite Speech's encoder: attention and a convolution between two feed-forward blocks."""
    width, heads = s.size("hidden_dim"), s.size("num_heads")
    head_dim = s.optional_size("dim_head") or width // heads
    projected, between = heads * head_dim, width * s.size("conv_expansion_factor")
    yield linear("input_linear", width, s.size("input_dim"), bias=True)
    for index in range(s.size("num_layers")):
        path = f"layers.{index}"
        for name in ("ff1", "ff2"):
            yield from _conformer_feed_forward(f"{path}.{name}", width, width * s.size("feedforward_mult"))
        yield from layer_norm(f"{path}.attn.pre_norm", width)
        yield linear(f"{path}.attn.to_q", projected, width)
        yield linear(f"{path}.attn.to_kv", 2 * projected, width)
        yield linear(f"{path}.attn.to_out", width, projected, bias=True)
        yield embedding(f"{path}.attn.rel_pos_emb", 2 * s.size("max_pos_emb") + 1, head_dim)
        yield from layer_norm(f"{path}.conv.norm", width)
        yield conv(f"{path}.conv.up_conv", (2 * between, width, 1), bias=True)
        yield conv(f"{path}.conv.depth_conv.conv", (between, 1, s.size("conv_kernel_size")), bias=False)
        yield from layer_norm(f"{path}.conv.batch_norm", between)
        yield conv(f"{path}.conv.down_conv", (width, between, 1), bias=True)
        yield from layer_norm(f"{path}.post_norm", width)
    yield linear("out", s.size("output_dim"), width, bias=True)
    yield linear("out_mid", width, s.size("output_dim"), bias=True)


def _granite_speech_beside(s: Settings, text: Settings) -> Named:
    encoder, modules = _CONFORMER.of(s)
    reading, qformer = _READER.of(s)
    width = reading.size("hidden_size")
    yield from below("encoder", modules(encoder))
    yield "projector.query", Module("parameter", (1, s.size("window_size") // s.size("downsample_rate"), width))
    yield from below("projector.qformer", qformer(reading))
    yield linear("projector.linear", text.size("hidden_size"), width, bias=True)


def _docling_visual(s: Settings) -> Named:
    """SigLIP, and a connector that folds patches coarsely and, unless it is left out, finely."""
    hidden, outputs, factor = s.size("hidden_size"), s.size("out_hidden_size"), s.size("scale_factor")
    yield from siglip_body(s)
    yield from layer_norm("connector.ln_in", hidden)
    yield from _docling_route(s, "connector.coarse", hidden * factor**2, outputs)
    if s.flag("use_fine_route"):
        yield from _docling_route(s, "connector.fine", hidden * (factor // 2) ** 2, outputs)
    yield from layer_norm("connector.ln_mid", outputs)
    yield linear("connector.mlp_fc2", outputs, outputs)
    yield from layer_norm("connector.ln_out", outputs)


def _docling_route(s: Settings, path: str, folded: int, outputs: int) -> Named:
    read = s.numbers("deepstack_visual_indexes")
    yield linear(f"{path}.projection", outputs, folded)
    for index in range(3 if read is None else len(read)):
        merger = f"{path}.deepstack_mergers.{index}"
        yield from layer_norm(f"{merger}.layer_norm", folded)
        yield linear(f"{merger}.linear_1", outputs, folded, bias=True)
        yield linear(f"{merger}.linear_2", outputs, outputs, bias=True)


def _docling_router(s: Settings, vision: Settings, _text: Settings) -> Named:
    """What chooses the route, where the config has it."""
    inner, hidden = s.optional_size("density_router_hidden_size"), vision.size("hidden_size")
    if inner is not None:
        yield linear("density_router.att", 1, hidden, bias=True)
        yield from layer_norm("density_router.norm", hidden)
        yield linear("density_router.fc1", inner, hidden, bias=True)
        yield linear("density_router.fc2", 1, inner, bias=True)


def _granite4_vision_beside(s: Settings, text: Settings) -> Named:
    """The tower, and a downsampler for every layer of it that the config reads and for each of four offsets."""
    vision, visual = _GRANITE_VISION.of(s)
    yield "image_newline", Module("parameter", (text.size("hidden_size"),))
    yield from below("vision_tower", visual(vision))
    read = s.value("deepstack_layer_map")
    layers = len(read) if isinstance(read, list | tuple) else 0
    for name, count in (("layerwise_projectors", layers), ("spatial_projectors", 4)):
        for index in range(count):
            yield from below(f"{name}.{index}", _downsampler(s, vision, text))


def _downsampler(s: Settings, vision: Settings, text: Settings) -> Named:
    width, (query, window) = vision.size("hidden_size"), _downsample_rate(s)
    reading, qformer = _GRANITE_QFORMER.of(s)
    yield from below("qformer", qformer(reading.with_fields(hidden_size=width, encoder_hidden_size=width)))
    yield from layer_norm("norm", width)
    yield "query", Module("parameter", (1, query**2, width))
    yield "image_positions", Module("parameter", (1, window**2, width))
    yield linear("out_linear", text.size("hidden_size"), width, bias=True)


def _downsample_rate(s: Settings) -> tuple[int, int]:
    """The sides of a query and of the window that it reads, written as a fraction. Raises InputError."""
    query, _, window = str(s.value("downsample_rate")).partition("/")
    if not (query.isdecimal() and window.isdecimal()):
        raise InputError(
            "the base config's downsample_rate is not a fraction such as '4/8'.",
            hint="Use the base model's own config.json.",
        )
    return int(query), int(window)


_CONFORMER = fixed(
    "encoder_config",
    Tower("granite_speech_encoder", _conformer),
    attribute_map={
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_mel_bins": "input_dim",
    },
)
_READER = fixed("projector_config", BLIP2_QFORMER)
_GRANITE_BUILD = with_towers(text_part("granite"), _granite_speech_beside)
_GRANITE = composite(_GRANITE_BUILD, before_5(_GRANITE_BUILD))
_GRANITE_VISION = vision_config("clip_vision_model")
_GRANITE_QFORMER = fixed("qformer_config", BLIP2_QFORMER)
_GRANITE_TEXT = fixed("text_config", Tower("granite4_vision_text", plain_decoder))

ARCHITECTURES: Mapping[str, Architecture] = {
    "granite_speech": _GRANITE,
    "granite_speech_plus": _GRANITE,
    "granite_docling": composite(
        with_towers(
            fixed("text_config", Tower("granite_docling_text", plain_decoder)),
            seeing(
                fixed("vision_config", Tower("granite_docling_vision", _docling_visual)),
                _docling_router,
                "vision_model",
            ),
            language="text_model",
        )
    ),
    "granite4_vision": composite(with_towers(_GRANITE_TEXT, _granite4_vision_beside)),
}
