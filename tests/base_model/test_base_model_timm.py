"""Models whose tower is one of timm, in the variants that are proven; any other is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from lora_packer import BaseModel
from lora_packer.errors import UnknownArchitecture

LARGE = {
    "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336",
    "model_args": {"embed_dim": 1024, "depth": 23, "img_size": [448, 448], "global_pool": "", "init_values": 0.1,
                   "use_post_transformer_norm": False, "ref_feat_shape": [32, 32]},
}  # fmt: skip
GIGANTIC = {"architecture": "vit_pe_core_gigantic_patch14_448", "model_args": {"embed_dim": 1536, "depth": 47}}
TOWER = "model.vision_tower.timm_model."


@pytest.mark.parametrize(
    ("config", "shapes", "absent"),
    [
        ({"model_type": "fast_vlm"}, {
            TOWER + "stages.2.blocks.23.token_mixer.reparam_conv": (384, 1, 3, 3),
            TOWER + "stages.4.blocks.1.token_mixer.qkv": (4608, 1536), TOWER + "final_conv.se.fc1": (192, 3072, 1, 1),
            "model.multi_modal_projector.linear_1": (3584, 3072)}, TOWER + "stages.0.downsample.proj.1.reparam_conv"),
        ({"model_type": "perception_lm", "text_config": {"hidden_size": 2048}, "vision_config": LARGE}, {
            TOWER + "pos_embed": (1, 1025, 1024), TOWER + "blocks.22.attn.qkv": (3072, 1024),
            "model.multi_modal_projector.linear_1": (2048, 1024)}, TOWER + "norm.weight"),
        ({"model_type": "perception_lm", "vision_config": GIGANTIC}, {
            TOWER + "pos_embed": (1, 1024, 1536), TOWER + "blocks.46.mlp.fc1": (8960, 1536),
            TOWER + "attn_pool.kv": (3072, 1536)}, TOWER + "cls_token"),
    ],
)  # fmt: skip
def test_modules(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], absent: str) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes
    assert absent not in modules


@pytest.mark.parametrize(
    ("model_type", "vision"),
    [
        ("fast_vlm", {"architecture": "fastvit_mci4", "hidden_size": 4096, "model_args": {"inference_mode": True}}),
        ("fast_vlm", {"architecture": "fastvit_mci3", "hidden_size": 3072}),
        ("perception_lm", {"architecture": "resnet50", "model_args": {"embed_dim": 64}}),
        ("perception_lm", {**LARGE, "model_args": {"embed_dim": 64, "num_heads": 4}}),
        ("perception_lm", {**LARGE, "model_args": {"embed_dim": 64, "global_pool": "avg"}}),
    ],
)
def test_a_tower_that_is_not_proven_is_unknown(model_type: str, vision: dict[str, Any]) -> None:
    with pytest.raises(UnknownArchitecture, match=r"tower '\w+' of timm, or for its arguments"):
        BaseModel.load({"model_type": model_type, "vision_config": vision})
