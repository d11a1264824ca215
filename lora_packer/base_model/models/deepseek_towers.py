"""DeepSeek's models that see: DeepSeek-VL and those that read documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import (
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_part,
    with_legacy,
    with_towers,
)
from lora_packer.base_model.blocks.experts import mixture_or_dense
from lora_packer.base_model.blocks.frames import dense, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import conv, embedding, linear
from lora_packer.base_model.blocks.projectors import seeing, two_linears
from lora_packer.base_model.blocks.sam import sam_neck, sam_visual
from lora_packer.base_model.blocks.towers import clip
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def _deepseek(_s: Settings, vision: Settings, text: Settings) -> Named:
    for path, module in two_linears("aligner", vision.size("hidden_size"), text.size("hidden_size")):
        yield path.replace("linear_", "linear"), module


def _mixture_text(kind: Callable[[Settings], Callable[[int], str]]) -> Callable[[Settings], Named]:
    """A Llama with DeepSeek's experts; the size of a head is not read."""

    def modules(s: Settings) -> Named:
        hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
        kv_heads, head_dim = s.optional_size("num_key_value_heads") or heads, hidden // heads
        bias, mlp_bias, kinds = s.flag("attention_bias"), s.flag("mlp_bias"), kind(s)
        experts = s.aliased({"num_experts": "n_routed_experts"}).size("n_routed_experts")

        def layer(prefix: str, index: int) -> Named:
            path = f"{prefix}.self_attn"
            yield from attention(path, hidden, heads, kv_heads, head_dim, bias=bias, output_bias=bias)
            yield from mixture_or_dense(s, f"{prefix}.mlp", experts, sparse=kinds(index) == "sparse", bias=mlp_bias)

        return stacked(s, layer)

    return modules


def _listed(s: Settings) -> Callable[[int], str]:
    """What the layers are, which DeepSeek-OCR 2 has no default for. Raises InputError."""
    kinds = s.names("mlp_layer_types")
    if kinds is None or len(kinds) < s.size("num_hidden_layers"):
        raise InputError(
            "the base config's mlp_layer_types does not name every layer.", hint="Use the base model's own config.json."
        )
    return layer_kinds(kinds, lambda _: "dense")


def _first_dense(s: Settings) -> Callable[[int], str]:
    dense = s.count("first_k_dense_replace")
    return layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= dense else "dense")


def _sam(s: Settings) -> tuple[Settings, Named]:
    """Segment Anything's encoder with two more convolutions: its config, and its modules."""
    sam, visual = _SAM.of(s)
    channels, (first, second) = sam.size("output_channels"), _two(sam)

    def modules() -> Named:
        yield from visual(sam)
        yield conv("proj.conv1", (first, channels, 3, 3), bias=False)
        yield conv("proj.conv2", (second, first, 3, 3), bias=False)

    return sam, modules()


def _two(sam: Settings) -> tuple[int, int]:
    """The channels of the two convolutions. Raises InputError."""
    channels = sam.sizes("downsample_channels")
    if len(channels) != 2:
        raise InputError(
            "the base config's downsample_channels is not a list of two numbers.",
            hint="Use the base model's own config.json.",
        )
    return channels[0], channels[1]


def _deepseek2_beside(s: Settings, text: Settings) -> Named:
    vision = s.nested("vision_config")
    encoder, layers = _QWEN2_ENCODER.of(vision)
    hidden = encoder.size("hidden_size")
    yield from below("vision_tower.sam_encoder", _sam(_with_channels(vision, [512, 896]))[1])
    # Everything of a Qwen2 but its embedding.
    yield from below("vision_tower.vision_encoder", (named for named in layers(encoder) if named[0] != "embed_tokens"))
    yield embedding("vision_tower.query_768_resolution", 144, hidden)
    yield embedding("vision_tower.query_1024_resolution", 256, hidden)
    yield linear("multi_modal_projector", text.size("hidden_size"), hidden, bias=True)
    yield "view_separator", Module("parameter", (text.size("hidden_size"),))


def _with_channels(vision: Settings, default: list[int]) -> Settings:
    """The config with the default channels of the type where it has none."""
    sam = vision.value("sam_config")
    fields = sam if isinstance(sam, Mapping) else {}
    channels = fields.get("downsample_channels")
    return vision.with_fields(sam_config={**fields, "downsample_channels": default if channels is None else channels})


def _unlimited_beside(s: Settings, text: Settings) -> Named:
    vision, hidden = s.nested("vision_config"), text.size("hidden_size")
    encoder, clip = _CLIP_ENCODER.of(vision)
    sam, modules = _sam(_with_channels(vision, [512, 1024]))
    yield from below("vision_tower.sam_encoder", modules)
    # CLIP sees what Segment Anything hands over, not patches; its last norm is left out.
    for path, module in clip(encoder):
        if not path.startswith(("embeddings.patch_embedding", "post_layernorm")):
            yield f"vision_tower.vision_encoder.{path}", module
    yield linear("multi_modal_projector", hidden, _two(sam)[1] + encoder.size("hidden_size"), bias=True)
    yield "view_separator", Module("parameter", (hidden,))
    yield "image_newline", Module("parameter", (hidden,))


def _hybrid_beside(s: Settings, text: Settings) -> Named:
    """SigLIP, and Segment Anything for high resolution."""
    (vision, visual), (sam, high) = _SIGLIP.of(s), _HIGH_RES.of(s)
    channels, hidden = sam.size("output_channels"), text.size("hidden_size")
    yield from below("vision_model", visual(vision))
    yield from below("high_res_vision_model.vision_encoder", high(sam))
    yield from sam_neck("high_res_vision_neck", sam.size("hidden_size"), channels)
    yield conv("high_res_vision_proj.conv1", (2 * channels, channels, 3, 3), bias=False)
    yield conv("high_res_vision_proj.conv2", (4 * channels, 2 * channels, 3, 3), bias=False)
    yield "high_res_vision_alpha", Module("parameter", (1,))
    yield linear("aligner.vision_proj", hidden // 2, vision.size("hidden_size"), bias=True)
    yield linear("aligner.high_res_vision_proj", hidden // 2, 4 * channels, bias=True)
    yield linear("aligner.proj", hidden, hidden, bias=True)


_SAM = fixed("sam_config", Tower("deepseek_ocr2_sam_vision_model", sam_visual))
_HIGH_RES = fixed("high_res_vision_config", Tower("sam_vision_model", sam_visual))
_SIGLIP = vision_config("siglip_vision_model")
_CLIP_ENCODER = fixed("encoder_config", Tower("unlimited_ocr_vision_encoder", clip))


def _qwen2_encoder(s: Settings) -> Named:
    return dense(s, bias=True)


_DEEPSEEK_BESIDE = seeing(vision_config("siglip_vision_model"), _deepseek, "vision_model")
_DEEPSEEK = with_towers(text_part("llama"), _DEEPSEEK_BESIDE)
_DEEPSEEK_BEFORE_5 = renamed(
    _DEEPSEEK,
    ("model.vision_model.", "model.vision_model.vision_model."),
    ("vision_model.", "vision_model.vision_model."),
)
_QWEN2_ENCODER = fixed("encoder_config", Tower("deepseek_ocr2_encoder", _qwen2_encoder))
_UNLIMITED = with_towers(
    fixed("text_config", Tower("unlimited_ocr_text", _mixture_text(_first_dense))), _unlimited_beside
)
_HYBRID = with_towers(text_part("llama"), _hybrid_beside)
_HYBRID_BEFORE_5 = renamed(
    _HYBRID,
    ("model.vision_model.", "model.vision_model.vision_model."),
    ("vision_model.", "vision_model.vision_model."),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "deepseek_vl": composite(_DEEPSEEK, {TRANSFORMERS_4: _DEEPSEEK_BEFORE_5}),
    "deepseek_ocr2": composite(
        with_towers(fixed("text_config", Tower("deepseek_ocr2_text", _mixture_text(_listed))), _deepseek2_beside)
    ),
    "unlimited_ocr": composite(with_legacy(_UNLIMITED, {"language_config": "text_config"})),
    "deepseek_vl_hybrid": composite(_HYBRID, {TRANSFORMERS_4: _HYBRID_BEFORE_5}),
}
