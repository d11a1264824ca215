"""Models with vision towers or projectors of their own: GLM-V, Kimi, LFM2-VL, Ovis2, GOT-OCR2, Idefics2 and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_4, TRANSFORMERS_5, Architecture, Head
from lora_packer.base_model.blocks import Named, attention, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import decoder, sizes
from lora_packer.base_model.families.composite import Part, Tower, composite, fixed, renamed, with_towers
from lora_packer.base_model.families.moe_shared import ARCHITECTURES as SHARED
from lora_packer.base_model.families.multimodal import llava_like, seeing, two_linears
from lora_packer.base_model.families.multimodal_qwen import depth, patch_embedding, visual
from lora_packer.base_model.families.vision import conv, patch_conv, patches, siglip_body, tower_sizes, vision_config
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _glm4v_visual(s: Settings) -> Named:
    width, outputs, inner = s.size("hidden_size"), s.size("out_hidden_size"), s.size("intermediate_size")
    yield "embeddings.position_embedding", Module("embedding", (patches(s), width))
    yield patch_embedding(s, "patch_embed.proj", width, bias=True)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield linear(f"{path}.attn.qkv", 3 * width, width, bias=s.flag("attention_bias"))
        yield linear(f"{path}.attn.proj", width, width)
        yield from gated_mlp(f"{path}.mlp", width, outputs)
        yield norm(f"{path}.norm1", width)
        yield norm(f"{path}.norm2", width)
    yield linear("merger.proj", outputs, outputs)
    yield from layer_norm("merger.post_projection_norm", outputs)
    yield from gated_mlp("merger", outputs, inner)
    merge = s.size("spatial_merge_size")
    yield conv("downsample", (outputs, width, merge, merge), bias=True)
    yield norm("post_conv_layernorm", width)
    yield norm("post_layernorm", width)


def _glm4v_text(s: Settings) -> Named:
    hidden, inner, heads = s.size("hidden_size"), s.size("intermediate_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads

    def layer(prefix: str) -> Named:
        yield from attention(f"{prefix}.self_attn", hidden, heads, kv_heads, hidden // heads, bias=True)
        yield linear(f"{prefix}.mlp.gate_up_proj", 2 * inner, hidden)
        yield linear(f"{prefix}.mlp.down_proj", hidden, inner)

    return decoder(s, layer, {"post_self_attn_layernorm": hidden, "post_mlp_layernorm": hidden})


def _glm4v_moe_text(dialect: str) -> Tower:
    """The decoder of GLM-4.5 with other defaults, and without norms on queries and keys."""
    build = SHARED["glm4_moe"].dialects[dialect]
    defaults = {**SHARED["glm4_moe"].defaults, "vocab_size": 151424, "attention_bias": True}
    return Tower(defaults, lambda s: build(Settings({**s.raw, "use_qk_norm": False}, defaults), "none"))


def _glm4v(text: Tower, before_5: Tower | None = None) -> Architecture:
    beside = visual(Tower(_GLM4V_VISION, _glm4v_visual))
    older = {} if before_5 is None else {TRANSFORMERS_4: with_towers(fixed("text_config", before_5), beside)}
    return composite({}, with_towers(fixed("text_config", text), beside), older)


def _kimi_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield conv("patch_embed.proj", (hidden, 3, *s.pair("patch_size")), bias=True)
    grid = (s.size("pos_emb_height"), s.size("pos_emb_width"), hidden)
    yield "patch_embed.pos_emb.position_embeddings", Module("parameter", grid)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "proj"):
            yield linear(f"{path}.attn.{name}", hidden, hidden, bias=True)
        yield linear(f"{path}.mlp.fc1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.fc2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.norm1", hidden)
        yield from layer_norm(f"{path}.norm2", hidden)
    yield from layer_norm("final_layernorm", hidden)


def _kimi_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    height, width = vision.pair("merge_kernel_size")
    merged = vision.size("hidden_size") * height * width
    yield from layer_norm("mm_projector.pre_norm", s.size("projection_hidden_size"))
    yield linear("mm_projector.in_proj", merged, merged, bias=True)
    yield linear("mm_projector.out_proj", text.size("hidden_size"), merged, bias=True)


def _lfm2(s: Settings, vision: Settings, text: Settings) -> Named:
    folded, inner = vision.size("hidden_size") * s.size("downsample_factor") ** 2, s.size("projector_hidden_size")
    if s.flag("projector_use_layernorm"):
        yield from layer_norm("multi_modal_projector.layer_norm", folded)
    yield linear("multi_modal_projector.linear_1", inner, folded, bias=s.flag("projector_bias"))
    yield linear("multi_modal_projector.linear_2", text.size("hidden_size"), inner, bias=s.flag("projector_bias"))


def _cohere2(s: Settings, vision: Settings, text: Settings) -> Named:
    folded = vision.size("hidden_size") * s.size("downsample_factor") ** 2
    width = s.size("alignment_intermediate_size")
    yield linear("multi_modal_projector.linear_1", width, folded, bias=True)
    yield linear("multi_modal_projector.linear_2", text.size("hidden_size"), width // 2, bias=True)


def _deepseek(_s: Settings, vision: Settings, text: Settings) -> Named:
    for path, module in two_linears("aligner", vision.size("hidden_size"), text.size("hidden_size")):
        yield path.replace("linear_", "linear"), module


def sam_visual(s: Settings) -> Named:
    """The encoder of Segment Anything."""
    hidden, outputs, grid = (
        s.size("hidden_size"),
        s.size("output_channels"),
        s.size("image_size") // s.size("patch_size"),
    )
    head_dim = hidden // s.size("num_attention_heads")
    inner = s.optional_size("mlp_dim") or int(hidden * s.ratio("mlp_ratio"))
    everywhere = s.indices("global_attn_indexes")
    if s.flag("use_abs_pos"):
        yield "pos_embed", Module("parameter", (1, grid, grid, hidden))
    yield patch_conv(s, "patch_embed.projection", bias=True)
    for index in range(s.size("num_hidden_layers")):
        path = f"layers.{index}"
        yield linear(f"{path}.attn.qkv", 3 * hidden, hidden, bias=s.flag("qkv_bias"))
        yield linear(f"{path}.attn.proj", hidden, hidden, bias=True)
        if s.flag("use_rel_pos"):
            side = grid if index in everywhere else s.count("window_size") or grid
            yield f"{path}.attn.rel_pos_h", Module("parameter", (2 * side - 1, head_dim))
            yield f"{path}.attn.rel_pos_w", Module("parameter", (2 * side - 1, head_dim))
        yield linear(f"{path}.mlp.lin1", inner, hidden, bias=True)
        yield linear(f"{path}.mlp.lin2", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.layer_norm1", hidden)
        yield from layer_norm(f"{path}.layer_norm2", hidden)
    yield from sam_neck("neck", hidden, outputs)


def sam_neck(path: str, hidden: int, outputs: int) -> Named:
    """What narrows the output of Segment Anything's encoder."""
    yield conv(f"{path}.conv1", (outputs, hidden, 1, 1), bias=False)
    yield from layer_norm(f"{path}.layer_norm1", outputs)
    yield conv(f"{path}.conv2", (outputs, outputs, 3, 3), bias=False)
    yield from layer_norm(f"{path}.layer_norm2", outputs)


def _got_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    channels, hidden = vision.size("output_channels"), text.size("hidden_size")
    yield conv("multi_modal_projector.conv_upsampler1", (2 * channels, channels, 3, 3), bias=False)
    yield conv("multi_modal_projector.conv_upsampler2", (hidden, 2 * channels, 3, 3), bias=False)
    yield linear("multi_modal_projector.multimodal_projector", hidden, hidden, bias=True)


def _ovis2_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield patch_conv(s, "transformer.embeddings.patch_embedding", bias=True)
    yield "transformer.embeddings.position_embedding", Module("embedding", (patches(s), hidden))
    yield norm("transformer.embeddings.rms_norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"transformer.encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{path}.attention.{name}", hidden, hidden, bias=s.flag("qkv_bias"))
        yield from gated_mlp(f"{path}.ffn", hidden, inner, bias=s.flag("mlp_bias"))
        yield norm(f"{path}.rms_norm1", hidden)
        yield norm(f"{path}.rms_norm2", hidden)
    yield norm("transformer.rms_norm", hidden)
    visible = s.size("vocab_size") - s.size("num_visual_indicator_tokens")
    yield linear("head_linear", visible, hidden * s.size("hidden_stride") ** 2)
    yield from layer_norm("head_norm", visible)


def _ovis2(s: Settings, head: Head) -> Named:
    """The head has the sizes at the root of the config, unless it is tied to the language model's embedding."""
    tied = s.flag("tie_word_embeddings")
    for path, module in _OVIS2(s, head):
        own = path == "lm_head" and not tied
        yield linear(path, s.size("vocab_size"), s.size("hidden_size")) if own else (path, module)


def _ovis2_table(s: Settings, vision: Settings, _text: Settings) -> Named:
    yield "visual_embeddings_table", Module("embedding", (vision.size("vocab_size"), s.size("hidden_size")))


def _perceiver(s: Settings, vision: Settings, text: Settings) -> Named:
    """Idefics2's connector: the image's tokens, read by a few latent ones."""
    hidden, inner, path = text.size("hidden_size"), text.size("intermediate_size"), "connector.modality_projection"
    yield linear(f"{path}.gate_proj", inner, vision.size("hidden_size"))
    yield linear(f"{path}.up_proj", inner, vision.size("hidden_size"))
    yield linear(f"{path}.down_proj", hidden, inner)
    part, _ = _PERCEIVER_PART.of(s)
    heads, kv_heads = part.size("resampler_n_heads"), part.size("num_key_value_heads")
    yield "connector.perceiver_resampler.latents", Module("parameter", (part.size("resampler_n_latents"), hidden))
    for index in range(part.size("resampler_depth")):
        path = f"connector.perceiver_resampler.layers.{index}"
        yield from attention(f"{path}.self_attn", hidden, heads, kv_heads, part.size("resampler_head_dim"))
        yield from gated_mlp(f"{path}.mlp", hidden, 4 * hidden)
        for name in ("input_latents_norm", "input_context_norm", "post_attention_layernorm"):
            yield norm(f"{path}.{name}", hidden)
    yield norm("connector.perceiver_resampler.norm", hidden)


_GLM4V_VISION: dict[str, Any] = {
    "depth": 24,
    "hidden_size": 1536,
    "in_channels": 3,
    "image_size": 336,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 4096,
    "intermediate_size": 13696,
}
_KIMI_VISION = tower_sizes(1152, 4304, 27, 16, 14, 896, pos_emb_height=64, pos_emb_width=64, merge_kernel_size=[2, 2])
SAM_VISION = tower_sizes(
    768,
    3072,
    12,
    12,
    16,
    1024,
    output_channels=256,
    qkv_bias=True,
    use_abs_pos=True,
    use_rel_pos=True,
    window_size=14,
    global_attn_indexes=[2, 5, 8, 11],
    mlp_dim=3072,
)
_GOT_TEXT = sizes(151860, 1024, 2816, 24, 16, 16)
_OVIS2_VISION = tower_sizes(
    1024, 2816, 24, 8, 14, 224, vocab_size=16384, hidden_stride=1, num_visual_indicator_tokens=5
)
_PERCEIVER: dict[str, Any] = {
    "resampler_n_latents": 64,
    "resampler_depth": 3,
    "resampler_n_heads": 16,
    "resampler_head_dim": 96,
    "num_key_value_heads": 4,
}
_PERCEIVER_PART = fixed("perceiver_config", Tower(_PERCEIVER, lambda _: iter(())))
_KIMI_TEXT = Part("text_config", "deepseek_v3", aliases={"kimi_k2": "deepseek_v3"})
_KIMI_BESIDE = seeing(fixed("vision_config", Tower(_KIMI_VISION, _kimi_visual)), _kimi_projector)
_DEEPSEEK_BESIDE = seeing(vision_config("siglip_vision_model"), _deepseek, "vision_model")
_DEEPSEEK = with_towers(Part("text_config", "llama"), _DEEPSEEK_BESIDE)
_DEEPSEEK_BEFORE_5 = renamed(
    _DEEPSEEK,
    ("model.vision_model.", "model.vision_model.vision_model."),
    ("vision_model.", "vision_model.vision_model."),
)
_OVIS2_BESIDE = seeing(fixed("vision_config", Tower(_OVIS2_VISION, _ovis2_visual)), _ovis2_table)
_OVIS2 = with_towers(Part("text_config", "qwen2"), _OVIS2_BESIDE)
_IDEFICS2_VISION = Tower(tower_sizes(768, 3072, 12, 12, 32, 224), siglip_body)
_IDEFICS2_BESIDE = seeing(fixed("vision_config", _IDEFICS2_VISION), _perceiver, "vision_model")

ARCHITECTURES: Mapping[str, Architecture] = {
    "glm4v": _glm4v(Tower(sizes(151552, 4096, 13696, 40, 32, 2), _glm4v_text)),
    "glm4v_moe": _glm4v(_glm4v_moe_text(TRANSFORMERS_5), _glm4v_moe_text(TRANSFORMERS_4)),
    "kimi_k25": composite({"projection_hidden_size": 1152}, with_towers(_KIMI_TEXT, _KIMI_BESIDE)),
    "lfm2_vl": llava_like(
        Part("text_config", "lfm2"),
        vision_config("siglip2_vision_model"),
        _lfm2,
        {
            "downsample_factor": 2,
            "projector_hidden_size": 2560,
            "projector_bias": True,
            "projector_use_layernorm": True,
        },
    ),
    "cohere2_vision": llava_like(
        Part("text_config", "cohere2"),
        vision_config("siglip_vision_model", tower_sizes(1152, 3072, 27, 12, 16, 512)),
        _cohere2,
        {"downsample_factor": 2, "alignment_intermediate_size": 36864},
    ),
    "deepseek_vl": composite({}, _DEEPSEEK, {TRANSFORMERS_4: _DEEPSEEK_BEFORE_5}),
    "got_ocr2": llava_like(
        Part("text_config", "qwen2", absent=_GOT_TEXT),
        fixed("vision_config", Tower(SAM_VISION, sam_visual)),
        _got_projector,
        {},
        wrapped=False,
    ),
    "ovis2": composite({"hidden_size": 1536, "vocab_size": 151643, "tie_word_embeddings": True}, _ovis2),
    "idefics2": composite({}, with_towers(Part("text_config", "mistral"), _IDEFICS2_BESIDE, language="text_model")),
}
