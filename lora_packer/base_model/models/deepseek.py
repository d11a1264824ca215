"""DeepSeek's decoders, latent attention over experts, and the models that see."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Proof, declared, remote
from lora_packer.base_model.blocks.attention import attention, biased_attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    renamed,
    text_part,
    with_legacy,
    with_towers,
)
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    deepseek_experts,
    dense_before,
    fused_experts,
    mixture_or_dense,
    number_of_experts,
    parameter_routed_experts,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import attends, indexed_decoder, layered
from lora_packer.base_model.blocks.layers import conv, embedding, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import seeing, two_linears
from lora_packer.base_model.blocks.residual import hyper_connections, merged_streams
from lora_packer.base_model.blocks.sam import sam_neck, sam_visual
from lora_packer.base_model.blocks.towers import clip
from lora_packer.base_model.models.deepseek_remote import deepseek_vl2, first_deepseek
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError


def deepseek_v3(s: Settings, *, experts: Experts = fused_experts) -> Named:
    """DeepSeek-V3's decoder, which Kimi-K2 has too."""
    count = deepseek_experts(s)
    return layered(s, attends(s), dense_before(s), count, experts)


def _deepseek_v2(s: Settings, *, experts: Experts = fused_experts) -> Named:
    count = number_of_experts(s, "n_routed_experts", "num_experts")
    return layered(s, attends(s), dense_before(s), count, experts, bias=s.flag("mlp_bias"))


def _deepseek_v2_before_5(s: Settings) -> Named:
    return _deepseek_v2(s, experts=partial(parameter_routed_experts, bias=s.flag("mlp_bias")))


def _deepseek_v32(s: Settings) -> Named:
    return indexed_decoder(s, lambda _index: "full")


def _deepseek_v4(s: Settings) -> Named:
    """DeepSeek-V4's decoder: compressed keys and values, and hyper-connections around each block."""
    s = s.aliased({"intermediate_size": "moe_intermediate_size"})
    hidden, heads, head_dim, rank = (
        s.size(name) for name in ("hidden_size", "num_attention_heads", "head_dim", "q_lora_rank")
    )
    groups, group_rank, mult = s.size("o_groups"), s.size("o_lora_rank"), s.size("hc_mult")
    count = deepseek_experts(s)
    kind, rates = _deepseek_v4_compression(s), s.nested("compress_rates")

    def attention(prefix: str, compression: str) -> Named:
        yield from parameter(f"{prefix}.sinks", heads)
        yield from linear(f"{prefix}.q_a_proj", rank, hidden)
        yield from norm(f"{prefix}.q_a_norm", rank)
        yield from linear(f"{prefix}.q_b_proj", heads * head_dim, rank)
        yield from linear(f"{prefix}.kv_proj", head_dim, hidden)
        yield from norm(f"{prefix}.kv_norm", head_dim)
        yield from linear(f"{prefix}.o_a_proj", groups * group_rank, heads * head_dim // groups)
        yield from linear(f"{prefix}.o_b_proj", hidden, groups * group_rank)
        if compression == "heavily_compressed_attention":
            rate = s.optional_size("compress_rate_hca") or rates.size(compression)
            yield from _deepseek_v4_compressor(f"{prefix}.compressor", hidden, head_dim, head_dim, rate)
        elif compression == "compressed_sparse_attention":
            rate = s.optional_size("compress_rate_csa") or rates.size(compression)
            path, size = f"{prefix}.compressor", s.size("index_head_dim")
            yield from _deepseek_v4_compressor(path, hidden, 2 * head_dim, head_dim, rate)
            yield from _deepseek_v4_compressor(f"{path}.indexer", hidden, 2 * size, size, rate)
            yield from linear(f"{path}.indexer.q_b_proj", s.size("index_n_heads") * size, rank)
            yield from linear(f"{path}.indexer.scorer.weights_proj", s.size("index_n_heads"), hidden)

    def layer(prefix: str, index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", kind(index))
        yield from fused_experts(f"{prefix}.mlp", hidden, s.inner, count)
        yield from gated_mlp(f"{prefix}.mlp.shared_experts", hidden, s.inner, bias=s.flag("mlp_bias"))
        yield from hyper_connections(prefix, hidden, mult)

    yield from stacked(s, layer)
    yield from merged_streams(hidden, mult)


def _deepseek_v4_compressor(prefix: str, hidden: int, width: int, size: int, rate: int) -> Named:
    yield from parameter(f"{prefix}.position_bias", rate, width)
    yield from linear(prefix, width, hidden, "kv_proj", "gate_proj")
    yield from norm(f"{prefix}.kv_norm", size)


def _deepseek_v4_compression(s: Settings) -> Callable[[int], str]:
    """Return how each layer compresses; older configs have ``compress_ratios``."""
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    listed, ratios = s.names("layer_types"), s.value("compress_ratios")
    if listed is None and isinstance(ratios, list):
        listed = tuple(kinds.get(ratio, "") for ratio in ratios if type(ratio) is int)
    return layer_kinds(listed, lambda index: kinds[4] if index > 2 and index % 2 else kinds[128])


DEEPSEEK_V3 = declared(*both_names(deepseek_v3, parameter_routed_experts, framed))


def _deepseek(_s: Settings, vision: Settings, text: Settings) -> Named:
    for path, module in two_linears("aligner", vision.hidden, text.hidden):
        yield path.replace("linear_", "linear"), module


def _mixture_text(kind: Callable[[Settings], Callable[[int], str]]) -> Callable[[Settings], Named]:
    """A Llama with DeepSeek's experts; the size of a head is not read."""

    def modules(s: Settings) -> Named:
        kv_heads, head_dim = s.optional_size("num_key_value_heads") or s.heads, s.hidden // s.heads
        bias, mlp_bias, kinds = s.flag("attention_bias"), s.flag("mlp_bias"), kind(s)
        experts = s.aliased({"num_experts": "n_routed_experts"}).size("n_routed_experts")

        def layer(prefix: str, index: int) -> Named:
            path = f"{prefix}.self_attn"
            yield from attention(path, s.hidden, s.heads, kv_heads, head_dim, bias=bias, output_bias=bias)
            yield from mixture_or_dense(s, f"{prefix}.mlp", experts, sparse=kinds(index) == "sparse", bias=mlp_bias)

        return stacked(s, layer)

    return modules


def _listed(s: Settings) -> Callable[[int], str]:
    """What the layers are, which DeepSeek-OCR 2 has no default for. Raises InputError."""
    kinds = s.names("mlp_layer_types")
    if kinds is None or len(kinds) < s.layers:
        raise InputError(
            "the base config's mlp_layer_types does not name every layer.", hint="Use the base model's own config.json."
        )
    return layer_kinds(kinds, lambda _: "dense")


def _first_dense(s: Settings) -> Callable[[int], str]:
    dense = s.count("first_k_dense_replace")
    return layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= dense else "dense")


def _sam(vision: Settings, part: Part) -> tuple[Settings, Named]:
    """Segment Anything's encoder with two more convolutions: its config, and its modules."""
    sam, visual = part.of(vision)
    sam = sam.filled("downsample_channels")
    channels, (first, second) = sam.size("output_channels"), _two(sam)

    def modules() -> Named:
        yield from visual(sam)
        yield from conv("proj.conv1", (first, channels, 3, 3), bias=False)
        yield from conv("proj.conv2", (second, first, 3, 3), bias=False)

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
    yield from below("vision_tower.sam_encoder", _sam(vision, _OCR2_SAM)[1])
    # Everything of a Qwen2 but its embedding.
    yield from below("vision_tower.vision_encoder", (named for named in layers(encoder) if named[0] != "embed_tokens"))
    yield from embedding("vision_tower.query_768_resolution", 144, encoder.hidden)
    yield from embedding("vision_tower.query_1024_resolution", 256, encoder.hidden)
    yield from linear("multi_modal_projector", text.hidden, encoder.hidden, bias=True)
    yield from parameter("view_separator", text.hidden)


def _unlimited_beside(s: Settings, text: Settings) -> Named:
    vision = s.nested("vision_config")
    encoder, clip = _CLIP_ENCODER.of(vision)
    sam, modules = _sam(vision, _UNLIMITED_SAM)
    yield from below("vision_tower.sam_encoder", modules)
    # CLIP sees what Segment Anything hands over, not patches; its last norm is left out.
    for path, module in clip(encoder):
        if not path.startswith(("embeddings.patch_embedding", "post_layernorm")):
            yield f"vision_tower.vision_encoder.{path}", module
    yield from linear("multi_modal_projector", text.hidden, _two(sam)[1] + encoder.hidden, bias=True)
    yield from parameter("view_separator", text.hidden)
    yield from parameter("image_newline", text.hidden)


def _hybrid_beside(s: Settings, text: Settings) -> Named:
    """SigLIP, and Segment Anything for high resolution."""
    (vision, visual), (sam, high) = _SIGLIP.of(s), _HIGH_RES.of(s)
    channels = sam.size("output_channels")
    yield from below("vision_model", visual(vision))
    yield from below("high_res_vision_model.vision_encoder", high(sam))
    yield from sam_neck("high_res_vision_neck", sam.hidden, channels)
    yield from conv("high_res_vision_proj.conv1", (2 * channels, channels, 3, 3), bias=False)
    yield from conv("high_res_vision_proj.conv2", (4 * channels, 2 * channels, 3, 3), bias=False)
    yield from parameter("high_res_vision_alpha", 1)
    yield from linear("aligner.vision_proj", text.hidden // 2, vision.hidden, bias=True)
    yield from linear("aligner.high_res_vision_proj", text.hidden // 2, 4 * channels, bias=True)
    yield from linear("aligner.proj", text.hidden, text.hidden, bias=True)


_OCR2_SAM = fixed("sam_config", Tower("deepseek_ocr2_sam_vision_model", sam_visual))
_UNLIMITED_SAM = fixed("sam_config", Tower("unlimited_ocr_sam_vision_model", sam_visual))
_HIGH_RES = fixed("high_res_vision_config", Tower("sam_vision_model", sam_visual))
_SIGLIP = vision_config("siglip_vision_model")
_CLIP_ENCODER = fixed("encoder_config", Tower("unlimited_ocr_vision_encoder", clip))


_qwen2_encoder = decoder({"self_attn": biased_attention, "mlp": plain_mlp})


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


ARCHITECTURES: Architectures = {
    "deepseek_vl_v2": remote(
        deepseek_vl2,
        Proof("built", "deepseek_vl2/models/modeling_deepseek_vl_v2.py (xinference 4.1.0)"),
        text_config="language_config",
    ),
    "deepseek": remote(
        framed(first_deepseek),
        Proof("read", "mlx_lm/models/deepseek.py (mlx-lm 0.32.2)", ("sequence-classification",)),
    ),
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v2": declared(framed(_deepseek_v2), {TRANSFORMERS_4: framed(_deepseek_v2_before_5)}),
    "deepseek_v32": declared(framed(_deepseek_v32)),
    "deepseek_v4": declared(framed(_deepseek_v4)),
    "deepseek_vl": composite(_DEEPSEEK, {TRANSFORMERS_4: _DEEPSEEK_BEFORE_5}),
    "deepseek_ocr2": composite(
        with_towers(fixed("text_config", Tower("deepseek_ocr2_text", _mixture_text(_listed))), _deepseek2_beside)
    ),
    "unlimited_ocr": composite(with_legacy(_UNLIMITED, {"language_config": "text_config"})),
    "deepseek_vl_hybrid": composite(_HYBRID, {TRANSFORMERS_4: _HYBRID_BEFORE_5}),
}
