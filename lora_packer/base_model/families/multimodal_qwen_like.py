"""Models that see through the tower of Qwen3-VL, and Cosmos 3: Qwen4 and Cohere Compass."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TEXT_ONLY, Architecture
from lora_packer.base_model.blocks import Named, layer_norm, linear
from lora_packer.base_model.families.common import decoder, grouped_attention, sizes
from lora_packer.base_model.families.composite import Part, Tower, composite, fixed, text_only, with_towers
from lora_packer.base_model.families.multimodal import seeing
from lora_packer.base_model.families.multimodal_qwen import ARCHITECTURES as QWEN
from lora_packer.base_model.families.multimodal_qwen import (
    QWEN3_VISION,
    qwen3_visual,
    qwen3_visual_without_deepstack,
    visual,
)
from lora_packer.base_model.families.vision import TOWERS, tower_sizes
from lora_packer.base_model.settings import Settings


def _edge_text(s: Settings) -> Named:
    bias, mlp_bias, inner = s.flag("attention_bias"), s.flag("mlp_bias"), s.size("intermediate_size")

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield linear(f"{prefix}.mlp.fc1", inner, s.size("hidden_size"), bias=mlp_bias)
        yield linear(f"{prefix}.mlp.fc2", s.size("hidden_size"), inner, bias=mlp_bias)

    return decoder(s, layer)


def _edge_visual(s: Settings) -> Named:
    """SigLIP 2 without its pooling head."""
    return TOWERS["siglip2_vision_model"].modules(s.with_fields(vision_use_head=False))


def _edge_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    hidden, inner = vision.size("hidden_size"), s.size("projector_hidden_size")
    yield from layer_norm("projector.norm", hidden)
    yield linear("projector.linear_fc1", inner, hidden * vision.size("spatial_merge_size") ** 2, bias=True)
    yield linear("projector.linear_fc2", text.size("hidden_size"), inner, bias=True)


def _model(text: str, tower: Tower) -> Architecture:
    part = Part("text_config", text)
    return composite({}, with_towers(part, visual(tower)), {TEXT_ONLY: text_only(part)})


_EDGE_TEXT = fixed("text_config", Tower(sizes(131072, 2048, 9216, 28, 16, 8, head_dim=128), _edge_text))
_EDGE_VISION = tower_sizes(1152, 4304, 27, 16, 16, 0, num_patches=256, spatial_merge_size=2)

ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen4_exp": _model("qwen4_exp_text", Tower(QWEN3_VISION, qwen3_visual_without_deepstack)),
    "cohere_compass": _model("cohere_compass_text", Tower(QWEN3_VISION, qwen3_visual)),
    "cosmos3_omni": QWEN["qwen3_vl"],
    "cosmos3_edge": composite(
        {"projector_hidden_size": 11520},
        with_towers(
            _EDGE_TEXT, seeing(fixed("vision_config", Tower(_EDGE_VISION, _edge_visual)), _edge_projector, "visual")
        ),
    ),
}
