"""What PEFT refuses, row by row: the smallest config that it refuses, beside the nearest that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE, ones, tiny_config, write_adapter

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import expect
from lora_packer.peft.refusals import Refusal, refused_config, refused_modules


def refusals(**fields: Any) -> list[Refusal]:
    raw = {"peft_type": "LORA", "target_modules": ["q_proj"], **fields}
    config, _ = parse_config(raw)
    return list(refused_config(config, raw))


@pytest.mark.parametrize(
    ("refused", "taken", "field"),
    [
        ({"lora_bias": True, "use_dora": True}, {"lora_bias": True}, "lora_bias"),
        ({"target_modules": "a", "layers_to_transform": []}, {"target_modules": "a"}, "layers_to_transform"),
        ({"target_modules": "a", "layers_pattern": ""}, {"target_modules": "a"}, "layers_pattern"),
        ({"layers_pattern": "h"}, {"layers_pattern": "h", "layers_to_transform": []}, "layers_pattern"),
        ({"init_lora_weights": "corda_x"}, {"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "kaiming"}, {"init_lora_weights": "Gaussian"}, "init_lora_weights"),
        ({"init_lora_weights": "PiSSA"}, {"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_x"}, {"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"lora_bias": True, "init_lora_weights": None}, {"lora_bias": True, "init_lora_weights": False}, "lora_bias"),
        ({"use_dora": True, "kasa_config": {}}, {"kasa_config": {}}, "kasa_config"),
        ({"modules_to_save": ["default"]}, {"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"modules_to_save": [""]}, {"modules_to_save": []}, "modules_to_save"),
        ({"trainable_token_indices": []}, {"trainable_token_indices": [0]}, "trainable_token_indices"),
        ({"megatron_config": {"x": 1}}, {"megatron_config": {}}, "megatron_config"),
        ({"arrow_config": {}}, {"arrow_config": None}, "arrow_config"),
        ({"eva_config": False}, {"eva_config": {"rho": 1}}, "eva_config"),
        ({"eva_config": {"tau": 2}}, {"eva_config": {"tau": 1}}, "eva_config"),
        ({"lora_ga_config": "x"}, {"lora_ga_config": {"x": 1}}, "lora_ga_config"),
        ({"monteclora_config": {"x": 1}}, {"monteclora_config": {"num_samples": 2}}, "monteclora_config"),
        ({"velora_config": {"num_groups": 0}}, {"velora_config": {"num_groups": 1}}, "velora_config"),
        (
            {"use_bdlora": {"target_modules_bd_a": ["a"], "target_modules_bd_b": ["a"]}},
            {"use_bdlora": {"target_modules_bd_a": ["a"], "target_modules_bd_b": ["b"]}},
            "use_bdlora",
        ),
        (
            {"alora_invocation_tokens": [1]},
            {"alora_invocation_tokens": [1], "task_type": "CAUSAL_LM"},
            "alora_invocation_tokens",
        ),
    ],
)
def test_a_config_that_peft_refuses(refused: dict[str, Any], taken: dict[str, Any], field: str) -> None:
    assert [item.field for item in refusals(**refused)] == [field]
    assert refusals(**taken) == []


def test_another_methods_config_is_not_asked() -> None:
    assert refusals(peft_type="LOHA", layers_pattern="h") == []


TINY: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1},
    "mamba": {"model_type": "mamba", "hidden_size": 8, "state_size": 4, "num_hidden_layers": 1, "vocab_size": 16},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 16},
    "lfm2": {"model_type": "lfm2", "hidden_size": 32, "num_hidden_layers": 1, "layer_types": ["conv"]},
    "qwen3_moe": {"model_type": "qwen3_moe", "hidden_size": 32, "moe_intermediate_size": 24, "num_experts": 4},
}
TINY["whisper"] = {"model_type": "whisper", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 64}
TINY["llama"] |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64}
TINY["lfm2"] |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "intermediate_size": 48}
TINY["qwen3_moe"] |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1, "vocab_size": 64}
TINY["deberta-v2"] = {"model_type": "deberta-v2", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64}
TINY["deberta-v2"] |= {"conv_kernel_size": 3, "conv_groups": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONVOLUTION = {"target_modules": ["conv.conv"]}
EXPERTS = {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]}
HEAD = {"target_modules": ["lm_head"]}
EMBEDDING = {"target_modules": ["embed_tokens"]}


@pytest.mark.parametrize(
    ("base", "refused", "taken", "field"),
    [
        ("mamba", {"target_modules": ["out_proj"]}, {"target_modules": ["in_proj"]}, "target_modules"),
        ("mamba", {"target_modules": ["in_proj", "conv1d"]}, {"target_modules": ["x_proj"]}, "target_modules"),
        ("whisper", {"target_modules": ["conv1"]}, {"target_modules": ["out_proj"]}, "target_modules"),
        ("lfm2", {"target_modules": ["conv.conv"]}, {"target_modules": ["conv.in_proj"]}, "target_modules"),
        (
            "llama",
            {"use_dora": True, **EXPERTS, "target_parameters": ["o_proj.weight"]},
            {"use_dora": True},
            "use_dora",
        ),
        ("llama", EMBEDDING | {"kasa_config": {}}, EMBEDDING | {"use_dora": True}, "kasa_config"),
        ("llama", EMBEDDING | {"lora_bias": True}, {"lora_bias": True}, "lora_bias"),
        ("llama", {"kasa_config": {}, "r": 32}, {"kasa_config": {}, "r": 31}, "kasa_config"),
        ("gpt2", {"target_modules": ["c_attn"], "kasa_config": {}}, HEAD | {"kasa_config": {}}, "kasa_config"),
        (
            "llama",
            {"init_lora_weights": "orthogonal", "r": 3},
            {"init_lora_weights": "orthogonal"},
            "init_lora_weights",
        ),
        ("llama", {"init_lora_weights": "mica", "r": 33}, {"init_lora_weights": "mica"}, "init_lora_weights"),
        ("qwen3_moe", EXPERTS | {"lora_dropout": 0.1}, {"lora_dropout": 0.1}, "lora_dropout"),
        ("qwen3_moe", EXPERTS | {"fan_in_fan_out": True}, {"fan_in_fan_out": True}, "fan_in_fan_out"),
        (
            "qwen3_moe",
            EXPERTS | {"init_lora_weights": "pissa"},
            EXPERTS | {"init_lora_weights": "eva"},
            "init_lora_weights",
        ),
        (
            "qwen3_moe",
            EXPERTS | {"modules_to_save": ["experts"]},
            EXPERTS | {"modules_to_save": ["gate"]},
            "modules_to_save",
        ),
        (
            "llama",
            {"target_parameters": ["norm.weight"]},
            {"target_parameters": ["o_proj.weight"]},
            "target_parameters",
        ),
        (
            "llama",
            {"target_parameters": ["q_proj.weight"]},
            {"target_parameters": ["o_proj.weight"]},
            "target_parameters",
        ),
        (
            "llama",
            {"trainable_token_indices": {"wte": [1]}},
            {"trainable_token_indices": {"tokens": [1]}},
            "trainable_token_indices",
        ),
        (
            "llama",
            {"trainable_token_indices": {"norm": [1]}},
            {"trainable_token_indices": {"lm_head": [1]}},
            "trainable_token_indices",
        ),
        (
            "llama",
            EMBEDDING | {"trainable_token_indices": [1]},
            {"trainable_token_indices": [1]},
            "trainable_token_indices",
        ),
        ("llama", HEAD | {"modules_to_save": ["head"]}, {"modules_to_save": ["head"]}, "modules_to_save"),
        ("llama", {"use_bdlora": {}}, {"use_bdlora": {"match_strict": False}}, "use_bdlora"),
        (
            "llama",
            {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 3}},
            {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 4}},
            "use_bdlora",
        ),
        ("llama", {"alpha_pattern": {"q_proj": 0}}, {"alpha_pattern": {"k_proj": 0}}, "alpha_pattern"),
        ("deberta-v2", CONVOLUTION | {"r": 3}, CONVOLUTION | {"r": 4}, "r"),
        ("deberta-v2", CONVOLUTION | {"rank_pattern": {"conv": 5}}, {"target_modules": ["query_proj"], "r": 3}, "r"),
    ],
)
def test_a_base_model_on_which_peft_refuses(
    base: str, refused: dict[str, Any], taken: dict[str, Any], field: str
) -> None:
    def told(fields: dict[str, Any]) -> list[Refusal]:
        raw = {"peft_type": "LORA", "target_modules": ["q_proj"], **fields}
        config, problems = parse_config(raw)
        assert not problems
        assert list(refused_config(config, raw)) == []
        model = BaseModel.load(TINY[base])
        targeted = expect(config, model.modules, ()).targeted
        return list(refused_modules(config, model.model_type, model.modules, targeted))

    assert [(item.field, item.severity) for item in told(refused)] == [(field, "error")]
    assert told(taken) == []


@pytest.mark.parametrize(("target", "told"), [("c_attn", [("init_lora_weights", "warning")]), ("attn.c_proj", [])])
def test_what_peft_loads_and_no_prompt_can_use_is_a_warning(target: str, told: list[tuple[str, str]]) -> None:
    config, _ = parse_config({"peft_type": "LORA", "target_modules": [target], "init_lora_weights": "olora"})
    assert config is not None
    model = BaseModel.load(TINY["gpt2"])
    found = refused_modules(config, model.model_type, model.modules, expect(config, model.modules, ()).targeted)
    assert [(item.field, item.severity) for item in found] == told


def test_some_layers_without_an_effect_are_a_warning() -> None:
    config, _ = parse_config(
        {"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 0}}
    )
    model = BaseModel.load(TINY["llama"])
    targeted = expect(config, model.modules, ()).targeted
    found = list(refused_modules(config, model.model_type, model.modules, targeted))
    assert [(item.kind, item.severity) for item in found] == [("no-effect", "warning")]
    assert "1 of 2 layers" in found[0].message


def test_an_old_peft_that_did_not_refuse_is_told() -> None:
    model = {"model_type": "nemotron_h", "hidden_size": 32, "num_hidden_layers": 1, "layers_block_type": ["mamba"]}
    base = BaseModel.load(model | {"vocab_size": 16})
    config, _ = parse_config({"peft_type": "LORA", "target_modules": ["out_proj"]})
    targeted = expect(config, base.modules, ()).targeted
    (refusal,) = refused_modules(config, base.model_type, base.modules, targeted)
    assert refusal.kind == "target"
    assert "0.19.1" in refusal.message


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"alpha_pattern": {".*": 0}}, [("LP204", "error")]),
        ({"alpha_pattern": {"v_proj": 0}}, [("LP204", "warning")]),
        ({"lora_alpha": 0, "alpha_pattern": {".*": 8}}, []),
        ({"init_lora_weights": "orthogonal"}, []),
        ({"trainable_token_indices": {"wte": [1]}}, [("LP202", "error")]),
        ({"use_rslora": 0}, [("LP202", "warning")]),
        ({"layers_pattern": "layers", "layers_to_transform": []}, []),
        ({"task_type": "QUESTION_ANS"}, [("LP308", "error")]),
    ],
)
def test_what_the_check_makes_of_it(tmp_path: Path, changes: dict[str, Any], codes: list[tuple[str, str]]) -> None:
    folder = write_adapter(tmp_path, config=tiny_config(**changes))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft", weights=False)
    assert [(item.code, item.severity) for item in report.findings] == codes


def test_lora_past_a_kernel_is_an_unsupported_target(tmp_path: Path) -> None:
    raw = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["out_proj"], "task_type": "CAUSAL_LM"}
    config, _ = parse_config(raw)
    wanted = expect(config, BaseModel.load(TINY["mamba"]).modules, ()).required
    folder = write_adapter(tmp_path, {name: ones(*want.shape) for name, want in wanted.items()}, raw)
    report = lora_packer.check(folder, base_config=TINY["mamba"], target="peft")
    assert [(item.code, item.severity, item.field) for item in report.findings if item.severity == "error"] == [
        ("LP207", "error", "target_modules")
    ]
