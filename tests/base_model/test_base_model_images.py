"""Models that read images or sound and no text: what is known of them, and no word of a vocabulary they have not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import ones, write_adapter

import lora_packer
from lora_packer import BaseModel

VIT_LARGE = {
    "model_type": "vit", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 32, "image_size": 224, "architectures": ["ViTForImageClassification"],
}  # fmt: skip
CLIP_LARGE_336 = {
    "model_type": "clip", "projection_dim": 768,
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 336, "patch_size": 14,
    },
}  # fmt: skip
TINY_VIT = {
    "model_type": "vit", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "patch_size": 16, "image_size": 32, "architectures": ["ViTForImageClassification"],
}  # fmt: skip
TINY_WAV2VEC2 = {
    "model_type": "wav2vec2", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "conv_dim": [8, 8], "conv_kernel": [10, 3], "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "vocab_size": 32, "classifier_proj_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (VIT_LARGE, {"vit.layers.23.attention.q_proj": (1024, 1024), "vit.embeddings.position_embeddings": (1, 50, 1024),
                     "classifier": (2, 1024)}),
        (CLIP_LARGE_336, {"vision_model.embeddings.position_embedding": (577, 1024), "text_projection": (768, 768),
                          "visual_projection": (768, 1024), "text_model.embeddings.token_embedding": (49408, 768)}),
        ({"model_type": "dinov2", "use_swiglu_ffn": True, "hidden_size": 1536},
         {"encoder.layer.0.mlp.gate_proj": (4096, 1536)}),
        ({"model_type": "siglip", "architectures": ["SiglipForImageClassification"]}, {"classifier": (2, 768)}),
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]},
         {"lm_head": (32, 768), "wav2vec2.encoder.pos_conv_embed.conv": (768, 48, 128)}),
        ({"model_type": "whisper", "architectures": ["WhisperForAudioClassification"]},
         {"projector": (256, 384), "classifier": (2, 256)}),
    ],
)  # fmt: skip
def test_dimensions_of_well_known_models(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    modules = BaseModel.load(config).modules
    assert {path: modules[path].weight_shape for path in shapes} == shapes


@pytest.mark.parametrize("config", [VIT_LARGE, TINY_WAV2VEC2, {"model_type": "clip_vision_model"}])
def test_what_reads_no_tokens_has_no_vocabulary(config: dict[str, Any]) -> None:
    base = BaseModel.load(config)
    assert (base.input_embedding, base.vocab_size) == (None, None)


def test_a_class_for_images_reads_no_tokens_where_another_of_its_type_does() -> None:
    both, images = (BaseModel.load({**CLIP_LARGE_336, "architectures": [name]})
                    for name in ("CLIPModel", "CLIPForImageClassification"))  # fmt: skip
    assert both.input_embedding == "text_model.embeddings.token_embedding"
    assert images.input_embedding is None


def test_the_class_that_a_config_names_decides_about_its_projection() -> None:
    config = {"model_type": "clip_vision_model", "hidden_size": 64, "projection_dim": 24, "num_hidden_layers": 1}
    projecting = BaseModel.load({**config, "architectures": ["CLIPVisionModelWithProjection"]}).modules
    assert projecting["visual_projection"].weight_shape == (24, 64)
    assert "visual_projection" not in BaseModel.load({**config, "architectures": ["CLIPVisionModel"]}).modules


def test_a_class_of_another_library_is_not_taken_for_one_of_these() -> None:
    config = {**CLIP_LARGE_336, "architectures": ["StableDiffusionSafetyChecker"]}
    with pytest.raises(lora_packer.UnknownArchitecture, match="StableDiffusionSafetyChecker"):
        BaseModel.load(config)


def _classifier(tmp_path: Path, prefix: str, names: tuple[str, str], **config: Any) -> Path:
    """An adapter of an image classifier with 7 labels, as PEFT writes it."""
    path = "base_model.model."
    tensors = {f"{path}{prefix}.{name}.lora_{half}.weight": ones(*((4, 16) if half == "A" else (16, 4)))
               for name in names for half in "AB"}  # fmt: skip
    tensors |= {f"{path}classifier.weight": ones(7, 16), f"{path}classifier.bias": ones(7)}
    fields = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [name.rpartition(".")[2] for name in names],
        "modules_to_save": ["classifier"],
    }
    return write_adapter(tmp_path / "adapter", tensors, {**fields, "task_type": None, **config})


def test_an_adapter_of_an_image_classifier_fits(tmp_path: Path) -> None:
    adapter = _classifier(tmp_path, "vit.layers.0.attention", ("q_proj", "v_proj"))
    result = lora_packer.check(adapter, base_config=TINY_VIT, target="peft")
    assert result.status == "ok", result.findings
    assert {finding.code for finding in result.findings} <= {"LP406"}, result.findings  # ones fit any precision


def test_an_adapter_under_the_names_of_transformers_4_fits(tmp_path: Path) -> None:
    names = ("attention.query", "attention.value")
    adapter = _classifier(tmp_path, "vit.encoder.layer.0.attention", names)
    result = lora_packer.check(adapter, base_config=TINY_VIT, target="together")
    assert result.status == "ok", result.findings


def test_letters_of_another_language_are_no_resized_vocabulary(tmp_path: Path) -> None:
    """Speech recognition by CTC has a head over letters, which every fine-tune sets anew."""
    path = "base_model.model.wav2vec2.encoder.layers.0.attention."
    tensors = {f"{path}q_proj.lora_A.weight": ones(4, 16), f"{path}q_proj.lora_B.weight": ones(16, 4),
               "base_model.model.lm_head.weight": ones(45, 16), "base_model.model.lm_head.bias": ones(45)}  # fmt: skip
    fields = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "modules_to_save": ["lm_head"],
        "task_type": None,
    }
    adapter = write_adapter(tmp_path / "adapter", tensors, fields)
    result = lora_packer.check(
        adapter, base_config={**TINY_WAV2VEC2, "architectures": ["Wav2Vec2ForCTC"]}, target="peft"
    )
    assert result.status == "ok", result.findings
    assert {finding.code for finding in result.findings} <= {"LP406"}, result.findings  # ones fit any precision
