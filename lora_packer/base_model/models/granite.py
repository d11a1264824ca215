"""IBM's Granite: decoders, experts and hybrids, and the models that see or hear."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared, like
from lora_packer.base_model.blocks.attention import plain_attention, sinks
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.experts import Experts, both_names, fused_weights
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import decoder, framed, layer_kinds, plain_decoder, stacked
from lora_packer.base_model.blocks.hearing import before_5
from lora_packer.base_model.blocks.layers import (
    chain,
    conv,
    depthwise,
    embedding,
    flagged,
    layer_norm,
    linear,
    parameter,
)
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.recurrent import mixer
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.models.vision_towers import BLIP2_QFORMER, vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError

_granite_swa = decoder(
    {"self_attn": plain_attention, "self_attn.sinks": sinks, "mlp": flagged(plain_mlp, bias="mlp_bias")}
)


def granite_experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts."""
    yield from parameter(f"{prefix}.router.weight", count, hidden)
    yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)


def granite_experts_before_5(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
    """Granite's router and experts in transformers 4."""
    yield from linear(f"{prefix}.router.layer", count, hidden)
    yield from parameter(f"{prefix}.input_linear.weight", count, 2 * intermediate, hidden)
    yield from parameter(f"{prefix}.output_linear.weight", count, hidden, intermediate)


def granite_feed_forward(s: Settings, prefix: str, experts: Experts) -> Named:
    """Granite's routed experts, where there are any."""
    count = s.count("num_local_experts")
    if count:
        yield from experts(f"{prefix}.block_sparse_moe", s.hidden, s.inner, count)


def granite_shared(s: Settings, prefix: str) -> Named:
    """Granite's shared feed-forward block."""
    intermediate = s.count("shared_intermediate_size")
    yield from linear(f"{prefix}.shared_mlp.input_linear", 2 * intermediate, s.hidden)
    yield from linear(f"{prefix}.shared_mlp.output_linear", s.hidden, intermediate)


def _granitemoe(s: Settings, *, experts: Experts = granite_experts, shared: bool = False) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from granite_feed_forward(s, prefix, experts)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _granitemoeshared(s: Settings, *, experts: Experts = granite_experts) -> Named:
    return _granitemoe(s, experts=experts, shared=s.count("shared_intermediate_size") > 0)


def _granitemoe_swa(s: Settings) -> Named:
    shared = s.count("shared_intermediate_size") > 0

    def layer(prefix: str, _index: int) -> Named:
        yield from sinks(s, f"{prefix}.self_attn.sinks")
        yield from plain_attention(s, f"{prefix}.self_attn")
        count = s.size("num_local_experts")
        yield from granite_experts(f"{prefix}.block_sparse_moe", s.hidden, s.inner, count)
        if shared:
            yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _granitemoehybrid(s: Settings, *, experts: Experts = granite_experts) -> Named:
    listed = s.aliased({"layers_block_type": "layer_types"}).names("layers_block_type")
    kind = layer_kinds(listed, lambda _index: "linear_attention")

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from mixer(s, f"{prefix}.mamba")
        else:
            yield from plain_attention(s, f"{prefix}.self_attn")
        yield from granite_feed_forward(s, prefix, experts)
        yield from granite_shared(s, prefix)

    return stacked(s, layer)


def _conformer_feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.pre_norm", width)
    yield from chain(path, (width, inner, width), "up_proj", "down_proj", bias=True)


def _conformer(s: Settings) -> Named:
    """Granite Speech's encoder: attention and a convolution between two feed-forward blocks."""
    width, heads = s.size("hidden_dim"), s.size("num_heads")
    head_dim = s.optional_size("dim_head") or width // heads
    projected, between = heads * head_dim, width * s.size("conv_expansion_factor")
    yield from linear("input_linear", width, s.size("input_dim"), bias=True)
    for index in range(s.size("num_layers")):
        path = f"layers.{index}"
        for name in ("ff1", "ff2"):
            yield from _conformer_feed_forward(f"{path}.{name}", width, width * s.size("feedforward_mult"))
        yield from layer_norm(f"{path}.attn.pre_norm", width)
        yield from linear(f"{path}.attn.to_q", projected, width)
        yield from linear(f"{path}.attn.to_kv", 2 * projected, width)
        yield from linear(f"{path}.attn.to_out", width, projected, bias=True)
        yield from embedding(f"{path}.attn.rel_pos_emb", 2 * s.size("max_pos_emb") + 1, head_dim)
        yield from layer_norm(f"{path}.conv.norm", width)
        yield from conv(f"{path}.conv.up_conv", (2 * between, width, 1), bias=True)
        yield from depthwise(f"{path}.conv.depth_conv.conv", between, s.size("conv_kernel_size"))
        yield from layer_norm(f"{path}.conv.batch_norm", between)
        yield from conv(f"{path}.conv.down_conv", (width, between, 1), bias=True)
        yield from layer_norm(f"{path}.post_norm", width)
    yield from linear("out", s.size("output_dim"), width, bias=True)
    yield from linear("out_mid", width, s.size("output_dim"), bias=True)


def _granite_speech_beside(s: Settings, text: Settings) -> Named:
    encoder, modules = _CONFORMER.of(s)
    reading, qformer = _READER.of(s)
    width = reading.hidden
    yield from below("encoder", modules(encoder))
    yield from parameter("projector.query", 1, s.size("window_size") // s.size("downsample_rate"), width)
    yield from below("projector.qformer", qformer(reading))
    yield from linear("projector.linear", text.hidden, width, bias=True)


def _docling_visual(s: Settings) -> Named:
    """SigLIP, and a connector that folds patches coarsely and, unless it is left out, finely."""
    outputs, factor = s.size("out_hidden_size"), s.size("scale_factor")
    yield from siglip_body(s)
    yield from layer_norm("connector.ln_in", s.hidden)
    yield from _docling_route(s, "connector.coarse", s.hidden * factor**2, outputs)
    if s.flag("use_fine_route"):
        yield from _docling_route(s, "connector.fine", s.hidden * (factor // 2) ** 2, outputs)
    yield from layer_norm("connector.ln_mid", outputs)
    yield from linear("connector.mlp_fc2", outputs, outputs)
    yield from layer_norm("connector.ln_out", outputs)


def _docling_route(s: Settings, path: str, folded: int, outputs: int) -> Named:
    read = s.filled("deepstack_visual_indexes").length("deepstack_visual_indexes")
    yield from linear(f"{path}.projection", outputs, folded)
    for index in range(read):
        merger = f"{path}.deepstack_mergers.{index}"
        yield from layer_norm(f"{merger}.layer_norm", folded)
        yield from chain(merger, (folded, outputs, outputs), "linear_1", "linear_2", bias=True)


def _docling_router(s: Settings, vision: Settings, _text: Settings) -> Named:
    """What chooses the route, where the config has it."""
    inner = s.optional_size("density_router_hidden_size")
    if inner is not None:
        yield from linear("density_router.att", 1, vision.hidden, bias=True)
        yield from layer_norm("density_router.norm", vision.hidden)
        yield from chain("density_router", (vision.hidden, inner, 1), "fc1", "fc2", bias=True)


def _granite4_vision_beside(s: Settings, text: Settings) -> Named:
    """The tower, and a downsampler for every layer of it that the config reads and for each of four offsets."""
    vision, visual = _GRANITE_VISION.of(s)
    yield from parameter("image_newline", text.hidden)
    yield from below("vision_tower", visual(vision))
    layers = s.length("deepstack_layer_map")
    for name, count in (("layerwise_projectors", layers), ("spatial_projectors", 4)):
        for index in range(count):
            yield from below(f"{name}.{index}", _downsampler(s, vision, text))


def _downsampler(s: Settings, vision: Settings, text: Settings) -> Named:
    width, (query, window) = vision.hidden, _downsample_rate(s)
    reading, qformer = _GRANITE_QFORMER.of(s)
    yield from below("qformer", qformer(reading.with_fields(hidden_size=width, encoder_hidden_size=width)))
    yield from layer_norm("norm", width)
    yield from parameter("query", 1, query**2, width)
    yield from parameter("image_positions", 1, window**2, width)
    yield from linear("out_linear", text.hidden, width, bias=True)


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
_GRANITE_VISION = vision_config("clip_vision_model")
_GRANITE_QFORMER = fixed("qformer_config", BLIP2_QFORMER)
_GRANITE_TEXT = fixed("text_config", Tower("granite4_vision_text", plain_decoder))

ARCHITECTURES: Architectures = {
    "granite": declared(framed(plain_decoder)),
    "granite_swa": declared(framed(_granite_swa)),
    "granitemoe": declared(*both_names(_granitemoe, granite_experts_before_5, framed)),
    "granitemoeshared": declared(*both_names(_granitemoeshared, granite_experts_before_5, framed)),
    "granitemoe_swa": declared(framed(_granitemoe_swa)),
    "granitemoehybrid": declared(*both_names(_granitemoehybrid, granite_experts_before_5, framed)),
    "granite_speech": composite(_GRANITE_BUILD, before_5(_GRANITE_BUILD)),
    "granite_speech_plus": like("granite_speech"),
    "granite_docling_text": like("granite"),
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
