"""LLaVA and its kind: a tower, a projector and any language model."""

from __future__ import annotations

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    Architecture,
    Architectures,
    Head,
    declared,
    like,
)
from lora_packer.base_model.blocks.attention import attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    head_inside,
    renamed,
    text_part,
    with_towers,
)
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import framed, head_modules, stacked
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import feature_width, llava_like, llava_projector, seeing, two_linears
from lora_packer.base_model.blocks.qwen_visual import qwen2_5_visual
from lora_packer.base_model.blocks.sam import sam_visual
from lora_packer.base_model.blocks.towers import clip, clip_layers, internvl, patch_conv, patches, siglip_body
from lora_packer.base_model.models.remote_llava import FIRST_LLAVAS
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _llava_next(s: Settings, vision: Settings, text: Settings) -> Named:
    yield from parameter("image_newline", text.hidden)
    yield from llava_projector(s, vision, text)


def _vipllava(s: Settings, vision: Settings, text: Settings) -> Named:
    features = feature_width(s.aliased({"vision_feature_layers": "vision_feature_layer"}), vision)
    yield from layer_norm("multi_modal_projector.projector_layernorm", features)
    yield from two_linears("multi_modal_projector", features, text.hidden)


def internvl_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    """InternVL's projector, which folds neighbouring patches into one."""
    folded = vision.hidden * int(1 / s.ratio("downsample_ratio")) ** 2
    yield from layer_norm("multi_modal_projector.layer_norm", folded)
    yield from two_linears("multi_modal_projector", folded, text.hidden)


def _idefics3_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.hidden * s.size("scale_factor") ** 2
    yield from linear("connector.modality_projection.proj", text.hidden, folded)


def _idefics3(prefix_type: str) -> Architecture:
    tower = Tower("idefics3_vision", siglip_body)
    beside = seeing(fixed("vision_config", tower), _idefics3_projector, "vision_model")
    return composite(with_towers(text_part(prefix_type), beside, language="text_model"))


def _qianfan_visual(s: Settings) -> Named:
    """InternVL's tower with its layers one level higher."""
    for path, module in internvl(s):
        yield path.replace("encoder.layer.", "layers."), module


def _video_llama_visual(s: Settings) -> Named:
    """SigLIP without positions."""
    yield from patch_conv(s, "embeddings.patch_embedding", bias=True)
    yield from clip_layers(s)
    yield from layer_norm("post_layernorm", s.hidden)


def _readout(_s: Settings, vision: Settings, text: Settings) -> Named:
    yield from chain("projector.readout", (vision.hidden, text.hidden, text.hidden), "0", "2", bias=True)


def _one_linear(_s: Settings, vision: Settings, text: Settings) -> Named:
    yield from linear("projector", text.hidden, vision.size("out_hidden_size"), bias=True)


def _video_llava(s: Settings, text: Settings) -> Named:
    """A tower for images and one for videos, of one config."""
    vision, visual = _VIDEO_LLAVA_VISION.of(s)
    for name in ("image_tower", "video_tower"):
        yield from below(name, visual(vision))
    yield from llava_projector(s, vision, text)


def _fuyu(s: Settings, text: Settings) -> Named:
    """No tower: patches are projected as they are."""
    pixels = s.size("patch_size") ** 2 * s.size("num_channels")
    yield from linear("vision_embed_tokens", text.hidden, pixels, bias=True)


def _got_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    channels = vision.size("output_channels")
    yield from conv("multi_modal_projector.conv_upsampler1", (2 * channels, channels, 3, 3), bias=False)
    yield from conv("multi_modal_projector.conv_upsampler2", (text.hidden, 2 * channels, 3, 3), bias=False)
    yield from linear("multi_modal_projector.multimodal_projector", text.hidden, text.hidden, bias=True)


def _ovis2_visual(s: Settings) -> Named:
    yield from patch_conv(s, "transformer.embeddings.patch_embedding", bias=True)
    yield from embedding("transformer.embeddings.position_embedding", patches(s), s.hidden)
    yield from norm("transformer.embeddings.rms_norm", s.hidden)
    for index in range(s.layers):
        path = f"transformer.encoder.layers.{index}"
        yield from linear(
            f"{path}.attention", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "out_proj", bias=s.flag("qkv_bias")
        )
        yield from plain_mlp(s, f"{path}.ffn", bias=s.flag("mlp_bias"))
        yield from norm(path, s.hidden, "rms_norm1", "rms_norm2")
    yield from norm("transformer.rms_norm", s.hidden)
    visible = s.vocab - s.size("num_visual_indicator_tokens")
    yield from linear("head_linear", visible, s.hidden * s.size("hidden_stride") ** 2)
    yield from layer_norm("head_norm", visible)


def _ovis2(s: Settings, head: Head) -> Named:
    """The head has the sizes at the root of the config, unless it is tied to the language model's embedding."""
    tied = s.flag("tie_word_embeddings")
    for path, module in _OVIS2(s, head):
        own = path == "lm_head" and not tied
        yield from linear(path, s.vocab, s.hidden) if own else [(path, module)]


def _ovis2_table(s: Settings, vision: Settings, _text: Settings) -> Named:
    yield from embedding("visual_embeddings_table", vision.vocab, s.hidden)


def _perceiver(s: Settings, vision: Settings, text: Settings) -> Named:
    """Idefics2's connector: the image's tokens, read by a few latent ones."""
    path = "connector.modality_projection"
    yield from linear(path, text.inner, vision.hidden, "gate_proj", "up_proj")
    yield from linear(f"{path}.down_proj", text.hidden, text.inner)
    part, _ = _PERCEIVER_PART.of(s)
    heads, kv_heads = part.size("resampler_n_heads"), part.size("num_key_value_heads")
    yield from parameter("connector.perceiver_resampler.latents", part.size("resampler_n_latents"), text.hidden)
    for index in range(part.size("resampler_depth")):
        path = f"connector.perceiver_resampler.layers.{index}"
        yield from attention(f"{path}.self_attn", text.hidden, heads, kv_heads, part.size("resampler_head_dim"))
        yield from gated_mlp(f"{path}.mlp", text.hidden, 4 * text.hidden)
        yield from norm(path, text.hidden, "input_latents_norm", "input_context_norm", "post_attention_layernorm")
    yield from norm("connector.perceiver_resampler.norm", text.hidden)


def _idefics(s: Settings) -> Named:
    """A Llama, and between its layers those that attend to the image."""
    head_dim, more = s.hidden // s.heads, s.count("additional_vocab_size")
    vision, visual = _IDEFICS_VISION_PART.of(s)
    seen = vision.size("embed_dim")

    def layer(prefix: str, _index: int) -> Named:
        yield from attention(f"{prefix}.self_attn", s.hidden, s.heads, s.heads, head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp")

    yield from stacked(s, layer)
    if more:
        yield from embedding("embed_tokens.additional_embedding", more, s.hidden)
    yield from below("vision_model", visual(vision))
    if s.flag("use_resampler"):
        yield from below("perceiver_resampler", _idefics_resampler(s, seen))
    for index in range(s.layers // s.size("cross_layer_interval")):
        path = f"gated_cross_attn_layers.{index}"
        yield from linear(f"{path}.cross_attn.q_proj", s.heads * head_dim, s.hidden)
        yield from linear(f"{path}.cross_attn", s.heads * head_dim, seen, "k_proj", "v_proj")
        yield from linear(f"{path}.cross_attn.o_proj", s.hidden, s.heads * head_dim)
        if s.flag("qk_layer_norms"):
            yield from norm(f"{path}.cross_attn", head_dim, "q_layer_norm", "k_layer_norm")
        yield from plain_mlp(s, f"{path}.mlp")
        yield from norm(path, s.hidden, "input_layernorm", "post_attention_layernorm")
        gate = (1, 1, s.hidden) if s.value("alpha_type") == "vector" else (1,)
        yield from parameter(f"{path}.alpha_cross_attn", *gate)
        yield from parameter(f"{path}.alpha_dense", *gate)


def _idefics_resampler(s: Settings, width: int) -> Named:
    reader, _ = _IDEFICS_READER.of(s)
    heads, head_dim = reader.size("resampler_n_heads"), reader.size("resampler_head_dim")
    yield from parameter("latents", reader.size("resampler_n_latents"), width)
    for index in range(reader.size("resampler_depth")):
        path = f"blocks.{index}"
        yield from layer_norm(f"{path}.0", width, "context_layer_norm", "latents_layer_norm")
        if reader.flag("qk_layer_norms_perceiver"):
            yield from layer_norm(f"{path}.0", head_dim, "q_layer_norm", "k_layer_norm")
        yield from linear(f"{path}.0", heads * head_dim, width, "q_proj", "k_proj", "v_proj")
        yield from linear(f"{path}.0.output_proj", width, heads * head_dim)
        yield from layer_norm(f"{path}.1.ln", width)
        yield from chain(f"{path}.1", (width, 4 * width, width), "fc", "c_proj")
    yield from layer_norm("layer_norm", width)


def _idefics_heads(s: Settings, head: Head) -> Named:
    yield from head_modules(s, head)
    if head == "causal-lm" and s.count("additional_vocab_size"):
        yield from linear("lm_head.additional_fc", s.size("additional_vocab_size"), s.hidden)


def _idefics_visual(s: Settings) -> Named:
    return clip(s.aliased({"hidden_size": "embed_dim"}))


_CLIP = vision_config("clip_vision_model")
_QWEN2_5 = Tower("qwen2_5_vl_vision", qwen2_5_visual)
_HYPERCLOVAX_VISION = Part(
    "vision_config",
    "qwen2_5_vl_vision",
    {"qwen2_5_vl_vision": _QWEN2_5}.get,
    aliases={"qwen2_5_vl": "qwen2_5_vl_vision"},
)
_VIDEO_LLAVA_VISION = vision_config("clip_vision_model")
_PERCEIVER_PART = fixed("perceiver_config", Tower("idefics2_perceiver", lambda _: iter(())))
_OVIS2_BESIDE = seeing(fixed("vision_config", Tower("ovis2_vision", _ovis2_visual)), _ovis2_table)
_OVIS2 = with_towers(text_part("qwen2"), _OVIS2_BESIDE)
_IDEFICS2_VISION = Tower("idefics2_vision", siglip_body)
_IDEFICS2_BESIDE = seeing(fixed("vision_config", _IDEFICS2_VISION), _perceiver, "vision_model")
_IDEFICS_VISION_PART = fixed(
    "vision_config", Tower("idefics_vision", _idefics_visual), attribute_map={"hidden_size": "embed_dim"}
)
_IDEFICS_READER = fixed("perceiver_config", Tower("idefics_perciever", lambda _: iter(())))
_FUYU = with_towers(Part("text_config", "persimmon", flat=True), _fuyu)
_VIDEO_LLAVA = with_towers(text_part("llama"), _video_llava)
_VIDEO_LLAVA_BEFORE_5 = renamed(
    _VIDEO_LLAVA,
    *(
        (f"{before}{tower}_tower.", f"{before}{tower}_tower.vision_model.")
        for before in ("model.", "")
        for tower in ("image", "video")
    ),
)

ARCHITECTURES: Architectures = {
    **FIRST_LLAVAS,
    "llava": llava_like(text_part("llama"), _CLIP, llava_projector),
    "llava_next": llava_like(text_part("llama"), _CLIP, _llava_next),
    "llava_onevision": llava_like(text_part("qwen2"), vision_config("siglip_vision_model"), _llava_next),
    "vipllava": llava_like(text_part("llama"), _CLIP, _vipllava),
    "internvl": llava_like(text_part("qwen2"), vision_config("internvl_vision"), internvl_projector, wrapped=False),
    "idefics3": _idefics3("llama"),
    "smolvlm": like("idefics3"),
    "llava_next_video": like("llava_next"),
    "qianfan_ocr": composite(
        with_towers(
            text_part("qwen3"),
            seeing(fixed("vision_config", Tower("qianfan_ocr_vision", _qianfan_visual)), internvl_projector),
        )
    ),
    "video_llama_3": composite(
        with_towers(
            text_part("qwen2"),
            seeing(
                fixed("vision_config", Tower("video_llama_3_vision", _video_llama_visual)), _readout, "vision_model"
            ),
        )
    ),
    "hyperclovax_vision_v2": composite(
        with_towers(text_part("hyperclovax"), seeing(_HYPERCLOVAX_VISION, _one_linear, "vision_model"))
    ),
    "video_llava": composite(
        _VIDEO_LLAVA, {TRANSFORMERS_4: _VIDEO_LLAVA_BEFORE_5, TRANSFORMERS_4_51: head_inside(_VIDEO_LLAVA_BEFORE_5)}
    ),
    "fuyu": composite(_FUYU, {TRANSFORMERS_4_51: head_inside(_FUYU)}, flat_text=True),
    "got_ocr2": llava_like(
        Part("text_config", "qwen2"),
        fixed("vision_config", Tower("got_ocr2_vision", sam_visual)),
        _got_projector,
        wrapped=False,
    ),
    "ovis2": composite(_ovis2),
    "idefics2": composite(with_towers(text_part("mistral"), _IDEFICS2_BESIDE, language="text_model")),
    "idefics": declared(framed(_idefics, heads=_idefics_heads)),
}
