"""Gemma's models with towers: Gemma 3 and 4, PaliGemma, and those built on them."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_5, Architecture, Build, Head, declared
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    head_of_text,
    text_only,
    text_part,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import llava_like
from lora_packer.base_model.models.gemma import GEMMA4_TEXT, NORMS_AROUND_BOTH, _gemma4_text
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _paligemma_projector(s: Settings, vision: Settings, _text: Settings) -> Named:
    yield linear("multi_modal_projector.linear", s.size("projection_dim"), vision.size("hidden_size"), bias=True)


def gemma3_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    """Gemma 3's projector."""
    hidden = vision.size("hidden_size")
    weight = Module("parameter", (hidden, text.size("hidden_size")))
    yield "multi_modal_projector.mm_input_projection_weight", weight
    yield norm("multi_modal_projector.mm_soft_emb_norm", hidden)


def _shieldgemma2_classifier(build: Build) -> Build:
    """ShieldGemma 2's own class, which has the whole of Gemma 3 with its head inside."""

    def modules(s: Settings, _head: Head) -> Named:
        for path, module in build(s, "causal-lm"):
            yield f"model.{path}", module

    return modules


def _clippable(path: str, out_features: int, in_features: int) -> tuple[str, Module]:
    """A linear inside a module that may clip what goes in and comes out."""
    return linear(f"{path}.linear", out_features, in_features)


def gemma4_visual(s: Settings) -> Named:
    """Gemma 4's tower."""
    hidden, inner, head_dim = s.size("hidden_size"), s.size("intermediate_size"), s.size("head_dim")
    queries, keys = s.size("num_attention_heads") * head_dim, s.size("num_key_value_heads") * head_dim
    yield linear("patch_embedder.input_proj", hidden, 3 * s.size("patch_size") ** 2)
    positions = (2, s.size("position_embedding_size"), hidden)
    yield "patch_embedder.position_embedding_table", Module("parameter", positions)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layers.{index}"
        yield _clippable(f"{path}.self_attn.q_proj", queries, hidden)
        yield _clippable(f"{path}.self_attn.k_proj", keys, hidden)
        yield _clippable(f"{path}.self_attn.v_proj", keys, hidden)
        yield _clippable(f"{path}.self_attn.o_proj", hidden, queries)
        yield norm(f"{path}.self_attn.q_norm", head_dim)
        yield norm(f"{path}.self_attn.k_norm", head_dim)
        yield _clippable(f"{path}.mlp.gate_proj", inner, hidden)
        yield _clippable(f"{path}.mlp.up_proj", inner, hidden)
        yield _clippable(f"{path}.mlp.down_proj", hidden, inner)
        for name in NORMS_AROUND_BOTH:
            yield norm(f"{path}.{name}", hidden)


def _gemma4_audio(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    first, second = s.pair("subsampling_conv_channels")
    for index, shape in enumerate([(first, 1, 3, 3), (second, first, 3, 3)]):
        yield conv(f"subsample_conv_projection.layer{index}.conv", shape, bias=False)
        yield norm(f"subsample_conv_projection.layer{index}.norm", shape[0])
    yield linear("subsample_conv_projection.input_proj_linear", hidden, first // 4 * second)
    for index in range(s.size("num_hidden_layers")):
        yield from _gemma4_audio_layer(s, f"layers.{index}", hidden)
    yield linear("output_proj", s.size("output_proj_dims"), hidden, bias=True)


def _gemma4_audio_layer(s: Settings, path: str, hidden: int) -> Named:
    """A conformer layer: attention and a convolution between two feed-forward blocks."""
    for name in ("feed_forward1", "feed_forward2"):
        yield _clippable(f"{path}.{name}.ffw_layer_1", 4 * hidden, hidden)
        yield _clippable(f"{path}.{name}.ffw_layer_2", hidden, 4 * hidden)
        yield norm(f"{path}.{name}.pre_layer_norm", hidden)
        yield norm(f"{path}.{name}.post_layer_norm", hidden)
    head_dim = hidden // s.size("num_attention_heads")
    width = head_dim * s.size("num_attention_heads")
    for name in ("q_proj", "k_proj", "v_proj"):
        yield _clippable(f"{path}.self_attn.{name}", width, hidden)
    yield _clippable(f"{path}.self_attn.post", hidden, hidden)
    yield linear(f"{path}.self_attn.relative_k_proj", width, hidden)
    yield f"{path}.self_attn.per_dim_scale", Module("parameter", (head_dim,))
    yield _clippable(f"{path}.lconv1d.linear_start", 2 * hidden, hidden)
    yield _clippable(f"{path}.lconv1d.linear_end", hidden, hidden)
    yield conv(f"{path}.lconv1d.depthwise_conv1d", (hidden, 1, s.size("conv_kernel_size")), bias=False)
    for name in ("lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"):
        yield norm(f"{path}.{name}", hidden)


def _gemma4_beside(s: Settings, text: Settings) -> Named:
    """The towers that the config has, each with what projects its features."""
    hidden = text.size("hidden_size")
    for kind, part, width in (
        ("vision", GEMMA4_VISION, "hidden_size"),
        ("audio", _GEMMA4_AUDIO_PART, "output_proj_dims"),
    ):
        if s.value(part.name) is not None:
            settings, modules = part.of(s)
            yield from below(f"{kind}_tower", modules(settings))
            yield linear(f"embed_{kind}.embedding_projection", hidden, settings.size(width))


def _gemma4_unified_beside(s: Settings, text: Settings) -> Named:
    """Patches and samples are projected straight to the language model's width, where the config has their part."""
    hidden = text.size("hidden_size")
    if s.value("vision_config") is not None:
        vision, _ = _UNIFIED_VISION_PART.of(s)
        pixels = 3 * (vision.size("patch_size") * vision.size("pooling_kernel_size")) ** 2
        width = vision.size("mm_embed_dim")
        yield from layer_norm("embed_vision.patch_ln1", pixels)
        yield linear("embed_vision.patch_dense", width, pixels, bias=True)
        yield from layer_norm("embed_vision.patch_ln2", width)
        yield "embed_vision.pos_embedding", Module("parameter", (vision.size("mm_posemb_size"), 2, width))
        yield from layer_norm("embed_vision.pos_norm", width)
        path = "embed_vision.multimodal_embedder.embedding_projection"
        yield linear(path, hidden, vision.size("output_proj_dims"))
    if s.value("audio_config") is not None:
        audio, _ = _UNIFIED_AUDIO_PART.of(s)
        yield linear("embed_audio.embedding_projection", hidden, audio.size("audio_embed_dim"))


def _diffusion_text(s: Settings) -> Named:
    """Gemma 4's decoder with experts in every layer, where full attention has no values of its own."""
    plain = s.with_fields(
        hidden_size_per_layer_input=0, num_kv_shared_layers=0, enable_moe_block=True, attention_k_eq_v=True
    )
    return GEMMA4_TEXT.dialects[TRANSFORMERS_5](plain, "none")


def _diffusion(s: Settings, head: Head) -> Named:
    """An encoder that sees, and a decoder of the same shape that is fed its own last guess."""
    before = "" if head == "none" else "model."
    (text, decoder), (vision, visual) = _DIFFUSION_TEXT.of(s), GEMMA4_VISION.of(s)
    hidden, inner = text.size("hidden_size"), text.size("intermediate_size")
    yield from below(f"{before}encoder.language_model", decoder(text))
    yield from below(f"{before}encoder.vision_tower", visual(vision))
    yield linear(f"{before}encoder.embed_vision.embedding_projection", hidden, vision.size("hidden_size"))
    yield from below(f"{before}decoder", decoder(text))
    yield norm(f"{before}decoder.self_conditioning.pre_norm", hidden)
    yield from gated_mlp(f"{before}decoder.self_conditioning", hidden, inner)
    yield from head_of_text(s, text, head)


def _pi0(s: Settings, head: Head) -> Named:
    """A PaliGemma, and a Gemma that turns what it sees into actions."""
    before = "" if head == "none" else "model."
    (vlm, seeing), (acting, decoder) = _PI0_VLM.of(s), _PI0_ACTS.of(s)
    words, _ = _PALIGEMMA_TEXT.of(vlm)
    acting = acting.with_fields(vocab_size=words.size("vocab_size"))
    yield from below(f"{before}vlm", seeing(vlm))
    yield from below(f"{before}dit", decoder(acting))
    if head != "none":
        hidden, actions = acting.size("hidden_size"), s.size("max_action_dim")
        yield linear("embed_action_time.action_in_proj", hidden, actions, bias=True)
        yield linear("embed_action_time.state_proj", hidden, s.size("max_state_dim"), bias=True)
        yield linear("embed_action_time.action_time_mlp_in", hidden, 2 * hidden, bias=True)
        yield linear("embed_action_time.action_time_mlp_out", hidden, hidden, bias=True)
        yield linear("action_out_proj", actions, hidden, bias=True)


def _pi0_vlm(s: Settings) -> Named:
    return PALIGEMMA.dialects[TRANSFORMERS_5](s, "none")


_GEMMA3_TEXT = text_part("gemma3_text")
GEMMA3 = llava_like(_GEMMA3_TEXT, vision_config("siglip_vision_model"), gemma3_projector, text_class=True)
_PALIGEMMA_TEXT = text_part("gemma")
PALIGEMMA = llava_like(_PALIGEMMA_TEXT, vision_config("siglip_vision_model"), _paligemma_projector)
_GEMMA4_TEXT_PART = fixed("text_config", Tower("gemma4_text", _gemma4_text))
GEMMA4_VISION = fixed("vision_config", Tower("gemma4_vision", gemma4_visual))
_GEMMA4_AUDIO_PART = fixed("audio_config", Tower("gemma4_audio", _gemma4_audio))
_UNIFIED_VISION_PART = fixed("vision_config", Tower("gemma4_unified_vision", lambda _: iter(())))
_UNIFIED_AUDIO_PART = fixed("audio_config", Tower("gemma4_unified_audio", lambda _: iter(())))
_UNIFIED_TEXT = text_part("gemma4_unified_text")
_DIFFUSION_TEXT = fixed("text_config", Tower("diffusion_gemma_text", _diffusion_text))
_PI0_VLM = Part("vlm_config", "paligemma", {"paligemma": Tower("paligemma", _pi0_vlm)}.get)
_PI0_ACTS = Part("dit_config", "gemma")

ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma3": GEMMA3,
    "paligemma": PALIGEMMA,
    "shieldgemma2": composite(
        GEMMA3.dialects[TRANSFORMERS_5],
        {
            **{name: build for name, build in GEMMA3.dialects.items() if name != TRANSFORMERS_5},
            "image-classification": _shieldgemma2_classifier(GEMMA3.dialects[TRANSFORMERS_5]),
        },
    ),
    "gemma4": composite(
        with_towers(_GEMMA4_TEXT_PART, _gemma4_beside),
        {TEXT_ONLY: text_only(_GEMMA4_TEXT_PART)},
        targets=r".*language_model\..*\.(q_proj|v_proj)",
    ),
    "gemma4_unified": composite(
        with_towers(_UNIFIED_TEXT, _gemma4_unified_beside), {TEXT_ONLY: text_only(_UNIFIED_TEXT)}
    ),
    "diffusion_gemma": composite(_diffusion, input_embedding="language_model.embed_tokens"),
    "pi0": declared(_pi0, input_embedding="language_model.embed_tokens"),
}
