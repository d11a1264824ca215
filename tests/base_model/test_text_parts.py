"""The text part of a model that sees, saved as a model of its own: what stands in the whole one, one level higher."""

from __future__ import annotations

import json

import pytest

from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.defaults import FILE

_TYPES = json.loads(FILE.read_text(encoding="utf-8"))["types"]
_TEXTS = {
    name: text
    for name, entry in ARCHITECTURES.items()
    if entry.text_config and (text := _TYPES.get(name, {}).get("text_config", {}).get("model_type")) in ARCHITECTURES
    if text.endswith("_text")
}
_SMALL = {"num_hidden_layers": 2, "num_local_experts": 4, "num_experts": 4}


@pytest.mark.parametrize("whole", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm_ocr", "molmo2",
                                   "muse_glimmer", "muse_spark", "hunyuan_vl", "hy_v4_vl", "cosmos3_edge", "glm4v_moe",
                                   "glm5_next", "mistral_large4"])  # fmt: skip
def test_the_text_part_is_that_of_the_whole_model(whole: str) -> None:
    text = _TEXTS[whole]
    config = {"model_type": text, **_SMALL}
    before = "language_model."
    bare = BaseModel.load({"model_type": whole, "text_config": config}).with_head("none")
    inside = {path.removeprefix(before): module for path, module in bare.modules.items() if path.startswith(before)}
    assert BaseModel.load(config).with_head("none").modules == inside
