"""What PEFT's and transformers' releases write differently, on base models where it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from shapes import BIOGPT, BLOOM, GPTJ, JAMBA, LLAMA, QWEN3_MOE, Shapes, pair, q_proj, told

QKV = pair("transformer.h.0.self_attention.query_key_value", 64, 192)
EXPERT = "model.layers.1.mlp.experts.{}.up_proj"
WIDE = {"target_modules": ["q_proj"]}

# what it is, base config, adapter config, tensors
ACCEPTED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Shapes]] = {
    "PEFT before 0.21 saved all whose name holds the embedding's": (
        BLOOM,
        {"target_modules": ["query_key_value"]},
        {
            **QKV,
            "transformer.word_embeddings.weight": (120, 64),
            "lm_head.weight": (120, 64),
            "transformer.word_embeddings_layernorm.weight": (64,),
            "transformer.word_embeddings_layernorm.bias": (64,),
        },
    ),
    "and took all with bias in the name for biases": (
        JAMBA,
        {"target_modules": ["q_proj"], "bias": "all"},
        {
            **pair("model.layers.1.self_attn.q_proj", 64, 64),
            "model.layers.0.mamba.conv1d.bias": (128,),
            "model.layers.0.mamba.dt_proj.bias": (128,),
            "model.layers.0.mamba.a_buffer_bias": (7,),
        },
    ),
    "an output head of another name": (
        BIOGPT,
        {"target_modules": ["q_proj", "output_projection"]},
        {
            **pair("biogpt.layers.0.self_attn.q_proj", 64, 64),
            **pair("output_projection", 64, 112),
            "output_projection.base_layer.weight": (112, 64),
        },
    ),
    "a resized output head with a bias": (
        GPTJ,
        {"target_modules": ["q_proj"], "trainable_token_indices": [113]},
        {
            **pair("transformer.h.0.attn.q_proj", 64, 64),
            "transformer.wte.token_adapter.trainable_tokens_delta": (1, 64),
            "transformer.wte.token_adapter.base_layer.weight": (120, 64),
            "lm_head.token_adapter.base_layer.weight": (120, 64),
            "lm_head.token_adapter.base_layer.bias": (120,),
        },
    ),
    "layers that are not all alike, replicated": (
        JAMBA,
        {"target_modules": ["q_proj"], "layer_replication": [[0, 2], [1, 2]]},
        {**pair("model.layers.1.self_attn.q_proj", 64, 64), **pair("model.layers.2.self_attn.q_proj", 64, 64)},
    ),
    "a depthwise convolution before PEFT 0.16": (
        JAMBA,
        {"target_modules": ["model.layers.0.mamba.conv1d"]},
        {
            "model.layers.0.mamba.conv1d.lora_A.weight": (4, 128, 4),
            "model.layers.0.mamba.conv1d.lora_B.weight": (128, 4, 1),
        },
    ),
    "layers_to_transform before PEFT 0.20 counted experts": (
        QWEN3_MOE,
        {"target_modules": ["up_proj"], "layers_to_transform": [2]},
        {
            **pair("model.layers.0.mlp.experts.2.up_proj", 48, 20),
            **pair("model.layers.1.mlp.experts.2.up_proj", 48, 20),
        },
    ),
    "and counts layers since": (
        QWEN3_MOE,
        {"target_modules": ["up_proj"], "layers_to_transform": [1]},
        {name: shape for expert in range(3) for name, shape in pair(EXPERT.format(expert), 48, 20).items()},
    ),
    "pissa has no more ranks than the matrix": (
        {**LLAMA, "num_key_value_heads": 1, "head_dim": 2},
        {"target_modules": ["k_proj"], "init_lora_weights": "pissa"},
        {
            name: shape
            for layer in range(2)
            for name, shape in pair(f"model.layers.{layer}.self_attn.k_proj", 48, 2, rank=2).items()
        },
    ),
    "question answering without a task type": (
        LLAMA,
        {"target_modules": ["q_proj"], "task_type": None},
        q_proj(prefix="transformer."),
    ),
    "a classifier's own number of labels": (
        LLAMA,
        {"target_modules": ["q_proj"], "task_type": "SEQ_CLS"},
        {**q_proj(), "score.weight": (7, 48)},
    ),
    "the bare model": (LLAMA, {**WIDE, "task_type": "FEATURE_EXTRACTION"}, q_proj(prefix="")),
    "the bare model, and no task type": (
        {**LLAMA, "architectures": ["LlamaForCausalLM"]},
        {**WIDE, "task_type": None},
        q_proj(prefix=""),
    ),
    "the bare model, by its config": (
        {**LLAMA, "architectures": ["LlamaModel"]},
        {**WIDE, "task_type": None},
        q_proj(prefix=""),
    ),
}


# What is said of the accepted ones besides: a base that was resized, names of another class or release.
NOTED = {
    "PEFT before 0.21 saved all whose name holds the embedding's": ["LP318"],
    "a resized output head with a bias": ["LP318"],
    "layers_to_transform before PEFT 0.20 counted experts": ["LP321"],
    "and counts layers since": ["LP321"],
    "the bare model, and no task type": ["LP321"],
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_peft_loads_is_accepted(case: str) -> None:
    findings = told(*ACCEPTED[case])
    assert [finding.code for finding in findings] == NOTED.get(case, [])
    assert all(finding.severity != "error" for finding in findings)


# what it is, base config, adapter config, tensors, then the only error's code and what it says
REFUSED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Shapes, str, str]] = {
    "replication past the end": (
        LLAMA,
        {**WIDE, "layer_replication": [[0, 3]]},
        q_proj(3),
        "LP202",
        "layer_replication names layer 2, and the last of this base model is 1",
    ),
    "replication of what PEFT does not find": (
        BIOGPT,
        {**WIDE, "layer_replication": [[0, 1]]},
        pair("biogpt.layers.0.self_attn.q_proj", 64, 64),
        "LP202",
        "PEFT finds no layers",
    ),
    "a lost output head is no other task": (
        LLAMA,
        {**WIDE, "task_type": None, "modules_to_save": ["lm_head"]},
        q_proj(),
        "LP308",
        "modules_to_save",
    ),
    "embeddings of another width": (
        LLAMA,
        WIDE,
        {**q_proj(), "model.embed_tokens.weight": (112, 40), "lm_head.weight": (112, 40)},
        "LP301",
        "full embeddings of another shape",
    ),
    "embeddings that disagree": (
        LLAMA,
        WIDE,
        {**q_proj(), "model.embed_tokens.weight": (120, 48), "lm_head.weight": (116, 48)},
        "LP318",
        "different vocabularies: 116, 120",
    ),
    "more experts than the base model": (
        QWEN3_MOE,
        {"target_modules": ["up_proj"]},
        {
            name: shape
            for layer in range(2)
            for expert in range(5)
            for name, shape in pair(f"model.layers.{layer}.mlp.experts.{expert}.up_proj", 48, 20).items()
        },
        "LP317",
        "8 tensors for experts that this base model (qwen3_moe) does not have (its last is 2)",
    ),
    "fused experts of another number": (
        QWEN3_MOE,
        {**WIDE, "target_parameters": ["mlp.experts.gate_up_proj"]},
        {
            **q_proj(),
            **{
                name: shape
                for layer in range(2)
                for name, shape in pair(f"model.layers.{layer}.mlp.experts", 48, 40, rank=20).items()
            },
        },
        "LP301",
        "experts x rank 20 instead of 12",
    ),
    "a task whose classifier is not there": (
        LLAMA,
        {**WIDE, "task_type": "SEQ_CLS"},
        q_proj(),
        "LP308",
        "task_type is SEQ_CLS",
    ),
    "lost in several ways": (
        LLAMA,
        {"target_modules": ["q_proj", "o_proj"]},
        {
            **pair("model.layers.0.self_attn.q_proj", 48, 64),
            "model.layers.1.self_attn.q_proj.lora_A.weight": (4, 48),
            "model.layers.0.self_attn.o_proj.lora_B.weight": (48, 4),
        },
        "LP306",
        "tensors were lost: lora_A of 1 module, lora_B of 1 module, all of 1 module (layer 1)",
    ),
    "a kind that only a lost layer had": (
        JAMBA,
        {"target_modules": ["q_proj", "k_proj", "in_proj"]},
        pair("model.layers.0.mamba.in_proj", 64, 256),
        "LP307",
        "2 targeted modules have no tensors (layer 1)",
    ),
}


@pytest.mark.parametrize(("base", "config", "shapes", "code", "says"), REFUSED.values(), ids=REFUSED)
def test_one_error(base: Mapping[str, Any], config: Mapping[str, Any], shapes: Shapes, code: str, says: str) -> None:
    errors = [finding for finding in told(base, config, shapes) if finding.severity == "error"]
    assert [error.code for error in errors] == [code], errors
    assert says in errors[0].message
    assert errors[0].tensor or errors[0].field


def test_names_of_the_bare_model_are_a_warning_where_the_base_config_has_a_head() -> None:
    """Without a task type, PEFT loads them with AutoModel, and drops them with AutoModelForCausalLM."""
    (finding,) = told(LLAMA, {**WIDE, "task_type": None}, q_proj(prefix=""))
    assert (finding.code, finding.severity, finding.count) == ("LP321", "warning", 4)
    assert "bare model (AutoModel)" in finding.message
    (finding,) = told(LLAMA, WIDE, q_proj(prefix=""))
    assert (finding.code, finding.severity) == ("LP311", "error")
    assert told({**LLAMA, "architectures": ["LlamaModel"]}, {**WIDE, "task_type": None}, q_proj(prefix="")) == ()


@pytest.mark.parametrize(
    ("nested", "tokens", "severity"),
    [
        (True, [111], None),
        (True, [112, 119], "warning"),  # PEFT does not save resized embeddings where it finds no vocab_size
        (True, [112, 500], "error"),
        (False, [112], "error"),  # there it does
    ],
)
def test_tokens_past_the_vocabulary(nested: bool, tokens: list[int], severity: str | None) -> None:
    base = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"num_hidden_layers": 1}} if nested else LLAMA
    prefix = "model.language_model." if nested else "model."
    delta = {f"{prefix}embed_tokens.token_adapter.trainable_tokens_delta": (len(tokens), 48)}
    config = {"target_modules": r".*layers\.\d+\.self_attn\.q_proj" if nested else ["q_proj"]}
    if nested:
        config["exclude_modules"] = ".*vision_tower.*"
    findings = told(base, {**config, "trainable_token_indices": tokens}, {**q_proj(prefix=prefix), **delta})
    assert [(item.code, item.severity) for item in findings] == ([("LP209", severity)] if severity else [])
