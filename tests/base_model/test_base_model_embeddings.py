"""Which embedding a model takes its tokens from, and which layer is its output head, where several could be."""

from __future__ import annotations

import pytest

from lora_packer import BaseModel
from lora_packer.peft.targets import output_head


@pytest.mark.parametrize(
    ("model_type", "path"),
    [
        ("florence2", "model.language_model.shared"),
        ("pi0", "model.vlm.language_model.embed_tokens"),
        ("diffusion_gemma", "model.encoder.language_model.embed_tokens"),
        ("llama", "model.embed_tokens"),
    ],
)
def test_input_embedding(model_type: str, path: str) -> None:
    # get_input_embeddings() of the class that transformers 5.24.0 has for the type
    config = {
        "model_type": model_type,
        "text_config": {"moe_intermediate_size": 64, "num_experts": 2, "top_k_experts": 1},
    }
    assert (
        BaseModel.load(config if model_type == "diffusion_gemma" else {"model_type": model_type})
        .with_head("causal-lm")
        .input_embedding
        == path
    )


@pytest.mark.parametrize(
    ("model_type", "path"),
    [
        ("albert", "predictions.decoder"),
        ("distilbert", "vocab_projector"),
        ("git", "output"),
        ("bert", "cls.predictions.decoder"),
        ("llama", "lm_head"),
    ],
)
def test_output_head(model_type: str, path: str) -> None:
    # get_output_embeddings() of the same classes
    assert output_head(BaseModel.load({"model_type": model_type}).with_head("causal-lm").modules) == path
