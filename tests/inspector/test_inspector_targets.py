"""Targets that reach further than what was trained, or nothing at all: what is said, and what following it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import ones, write_adapter
from follow_hints import follow
from lora_on import GPT_OSS, MISTRAL3, PHI3, QWEN_VL, T5, lora_config, lora_on, pair

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.nearest import nearest

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Base = Mapping[str, Any]


def check(folder: Path, base: Base) -> tuple[Finding, ...]:
    return lora_packer.check(folder, base_config=base, target="peft").findings


def language(path: str) -> bool:
    return "language_model" in path and path.rpartition(".")[2] in ALL


def vision(path: str) -> bool:
    return "vision_tower" in path and path.rpartition(".")[2] in ALL


def attention(path: str) -> bool:
    return path.endswith(("q_proj", "k_proj", "v_proj", "o_proj")) and "qkv" not in path


WIDER: list[Any] = [
        (MISTRAL3, ALL, language, "reaches model.vision_tower, in which", 'Set exclude_modules to ".*vision_tower.*".'),
        (MISTRAL3, ALL, vision, "reaches model.language_model, in which", 'Set exclude_modules to ".*language_model.*'),
        (QWEN_VL, ALL, language, "reaches model.visual, in which", 'Set exclude_modules to ".*visual.*".'),
        (QWEN_VL, "all-linear", language, "reaches model.visual, in which", "Set exclude_modules to"),
        (T5, ["q", "v"], lambda p: p.startswith("encoder.") and p[-2:] in (".q", ".v"), "reaches decoder, in which",
         'Set exclude_modules to ".*decoder.*".'),
        (T5, ["q", "v"], lambda p: "EncDec" in p and p[-2:] in (".q", ".v"), "reaches encoder, in which", "Set target_modules"),
        # names of which there is nothing in the file are named, and the others stay
        (PHI3, ["qkv_proj", "o_proj"], lambda p: p.endswith("qkv_proj"), "also names o_proj, for which",
         'Set target_modules to ["qkv_proj"].'),
        (PHI3, "all-linear", lambda p: p.endswith("qkv_proj"), "down_proj, gate_up_proj, o_proj, for which",
         'Set target_modules to ["qkv_proj"].'),
        (PHI3, r".*\.(qkv_proj|o_proj)", lambda p: p.endswith("qkv_proj"), "also names o_proj, for which",
         'Set target_modules to ["qkv_proj"].'),
        # both at once
        (MISTRAL3, ALL, lambda p: language(p) and "q_proj" in p, "reaches model.vision_tower, in which nothing was "
         "trained, and also names down_proj, gate_proj, k_proj, o_proj, up_proj, v_proj, for which", "Set target_modules"),
    ]  # fmt: skip


@pytest.mark.parametrize(("base", "targets", "trained", "part", "hint"), WIDER)
def test_a_wider_config_is_narrowed_to_what_was_trained(
    tmp_path: Path, base: Base, targets: object, trained: Callable[[str], bool], part: str, hint: str
) -> None:
    folder = write_adapter(tmp_path / "a", lora_on(base, trained), lora_config(target_modules=targets))
    (finding,) = check(folder, base)
    assert (finding.code, finding.severity) == ("LP309", "warning")
    assert part in finding.message
    assert (finding.hint or "").startswith(hint)
    ((config, tensors),) = follow(finding, folder, base) or ()
    after = write_adapter(tmp_path / "b", tensors, config)
    assert check(after, base) == ()


DEAD_ON_GPT_OSS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


UNMATCHED: list[Any] = [
        (GPT_OSS, {"target_modules": DEAD_ON_GPT_OSS}, "target_modules",
         "names gate_proj, up_proj, down_proj, which this base model (gpt_oss) does not have: nothing was trained under "
         "them (nearest: mlp.experts.gate_up_proj, mlp.experts.down_proj in target_parameters)"),
        (PHI3, {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}, "target_modules",
         "names q_proj, k_proj, v_proj, which this base model (phi3) does not have: nothing was trained under them "
         "(nearest: qkv_proj)"),
        (PHI3, {"target_modules": ["o_proj", "qkv_porj"]}, "target_modules", "(nearest: qkv_proj)"),
        (PHI3, {"target_modules": ["o_proj", "gate_projup_proj"]}, "target_modules", "(nearest: gate_up_proj)"),
        (PHI3, {"target_modules": ["o_proj", "query_key_value"]}, "target_modules", "(nearest: qkv_proj)"),
        (PHI3, {"target_modules": ["o_proj", "model.layers.7.self_attn.qkv_proj"]}, "target_modules", "names model.layers.7"),
        (PHI3, {"target_modules": ["o_proj", ".*mlp.*"]}, "target_modules", "names .*mlp.*, which"),
        (PHI3, {"target_modules": ["o_proj", "model.layers.0.self_attn.qkv_proj.weight"]}, "target_modules", "qkv_proj.weight, which"),
        (PHI3, {"target_modules": ["o_proj", "qkv_proj.lora_A"]}, "target_modules", "names qkv_proj.lora_A, which"),
        (PHI3, {"target_modules": ["o_proj", "base_model.model"]}, "target_modules", "names base_model.model, which"),
        (PHI3, {"target_modules": ["o_proj", " qkv_proj"]}, "target_modules", "names ' qkv_proj', which"),
        (PHI3, {"target_modules": ["o_proj", "qkv_proj, gate_up_proj"]}, "target_modules", "names 'qkv_proj, gate_up_proj', which"),
        (PHI3, {"target_modules": ["o_proj", "all-linear"]}, "target_modules", "names all-linear, which"),
        (PHI3, {"target_modules": ["o_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters",
         "target_parameters names mlp.experts.gate_up_proj, which"),
        (PHI3, {"target_modules": ["o_proj"], "layers_to_transform": [0, 1, 2, 31]}, "layers_to_transform",
         "layers_to_transform names 2, 31, and this base model (phi3) has no such layer"),
    ]  # fmt: skip


@pytest.mark.parametrize(("base", "targets", "field", "says"), UNMATCHED)
def test_a_name_that_matches_nothing_is_told_with_the_nearest(
    tmp_path: Path, base: Base, targets: dict[str, Any], field: str, says: str
) -> None:
    folder = write_adapter(tmp_path / "a", lora_on(base, attention), lora_config(**targets))
    (finding,) = check(folder, base)
    assert (finding.code, finding.severity, finding.field) == ("LP211", "warning", field)
    assert says in finding.message
    ((config, tensors),) = follow(finding, folder, base) or ()
    after = write_adapter(tmp_path / "b", tensors, config)
    assert check(after, base) == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("o_porj", "o_proj"),
        ("dwn_proj", "down_proj"),
        ("gat_up_proj", "gate_up_proj"),
        ("oproj", "o_proj"),
        ("O_proj", "o_proj"),
        ("W_pack", "qkv_proj"),
        ("linear_fc2", "down_proj"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_what_was_meant(name: str, meant: str) -> None:
    assert nearest(name, BaseModel.load(PHI3).modules) == (meant,)


@pytest.mark.parametrize("name", ["in_proj", "x_proj", "dt_proj", "z_proj", "kv_b_proj", "v_head"])
def test_the_name_of_another_layer_is_no_slip_of_the_pen(name: str) -> None:
    """Most names end in _proj, so that what they have in common says little."""
    assert nearest(name, BaseModel.load(PHI3).modules) == ()


@pytest.mark.parametrize(
    ("base", "config"),
    [
        # heads that only some classes have, names of an older release, default targets, and patterns
        (PHI3, {"target_modules": ["o_proj", "lm_head", "score"]}),
        (PHI3, {"target_modules": ["o_proj"], "task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]}),
        (PHI3, {"target_modules": r".*\.(o_proj|foo)"}),
        (PHI3, {"target_modules": ["self_attn.o_proj", "model.layers.1.self_attn.o_proj"]}),
    ],
)
def test_what_some_class_has_is_no_dead_name(tmp_path: Path, base: Base, config: dict[str, Any]) -> None:
    folder = write_adapter(tmp_path / "a", lora_on(base, lambda p: p.endswith("o_proj")), lora_config(**config))
    assert "LP211" not in [item.code for item in check(folder, base)]


NOTHING: list[Any] = [
    (["c_attn"], 'Set target_modules to ["o_proj"]. The file has tensors for exactly that.'),
    ([".*o_proj"], 'Set target_modules to ["o_proj"].'),
    ("o_proj", 'Set target_modules to ["o_proj"].'),
]


@pytest.mark.parametrize(("targets", "hint"), NOTHING)
def test_what_the_file_has_is_named_where_nothing_is_targeted(tmp_path: Path, targets: object, hint: str) -> None:
    tensors = lora_on(PHI3, lambda p: p.endswith("o_proj"))
    folder = write_adapter(tmp_path / "a", tensors, lora_config(target_modules=targets))
    (finding,) = check(folder, PHI3)
    assert (finding.code, (finding.hint or "").startswith(hint)) == ("LP206", True)
    ((config, tensors),) = follow(finding, folder, PHI3) or ()
    after = write_adapter(tmp_path / "b", tensors, config)
    assert check(after, PHI3) == ()


DROPPED: list[Any] = [
    {"target_modules": ["qkv_proj"]},
    {"target_modules": ["qkv_proj", "o_porj"]},
    {"target_modules": ["qkv_proj", "o_proj"], "exclude_modules": ["o_proj"]},
    {"target_modules": ["qkv_proj", "o_proj"], "layers_to_transform": [0]},
    {"target_modules": ["qkv_proj", "o_proj"], "layers_to_transform": [5]},
]


@pytest.mark.parametrize("config", DROPPED)
def test_what_is_dropped_is_targeted_after_the_hint(tmp_path: Path, config: dict[str, Any]) -> None:
    tensors = lora_on(PHI3, lambda p: p.endswith(("qkv_proj", "o_proj")))
    folder = write_adapter(tmp_path / "a", tensors, lora_config(**config))
    (finding,) = check(folder, PHI3)
    assert finding.code in ("LP206", "LP313")
    ((config, tensors),) = follow(finding, folder, PHI3) or ()
    after = write_adapter(tmp_path / "b", tensors, config)
    assert check(after, PHI3) == ()


QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 48, "intermediate_size": 80,
         "head_dim": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 112}  # fmt: skip
GATE_UP, DOWN = "model.layers.0.mlp.experts.gate_up_projs.{}", "model.layers.0.mlp.experts.down_projs.{}"


@pytest.mark.parametrize(
    ("base", "more", "way_out"),
    [
        (QWEN3, pair("model.unembed_tokens", 48, 112), "tinker_cookbook.weights.build_lora_adapter"),
        (QWEN3, pair("model.layers.0.linear_attn.in_proj_q", 48, 64), "tinker_cookbook.weights.build_lora_adapter"),
        (GPT_OSS, pair(GATE_UP.format(0), 48, 160) | pair(DOWN.format(0), 80, 48), "save_pretrained_merged(save_method="),
        (GPT_OSS, pair("model.layers.0.mlp.experts.0.gate_proj", 48, 80), "train the experts through target_parameters"),
        (QWEN3, pair("model.mm_projector.0", 48, 48), "merge_lora_weights.py"),
        (QWEN3, pair("model.layers.0.mlp.experts.0.gate_proj", 48, 80), "Check that the base model is the right one"),
        (QWEN3, pair("model.layers.0.cross_attn.q_proj", 48, 64), "export the adapter again with the tool that trained"),
    ],
)  # fmt: skip
def test_what_was_trained_under_a_tools_own_names_is_never_to_be_removed(
    tmp_path: Path, base: Base, more: dict[str, Any], way_out: str
) -> None:
    tensors = lora_on(base, lambda path: path.endswith(("q_proj", "v_proj")))
    folder = write_adapter(tmp_path / "a", tensors | more, lora_config(target_modules=["q_proj", "v_proj"]))
    (finding,) = check(folder, base)
    assert (finding.code, finding.severity, finding.count) == ("LP316", "error", len(more))
    assert way_out in (finding.hint or "")
    assert "Remove" not in (finding.hint or "")


def test_tensors_are_not_to_be_removed_where_the_file_has_no_others(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", {"foo.bar": ones(2)}, lora_config(target_modules=["o_proj"]))
    assert not any("Remove" in (item.hint or "") for item in check(folder, QWEN3))


def test_the_name_of_a_part_before_the_prefix_belongs_behind_it(tmp_path: Path) -> None:
    """https://github.com/NVIDIA-NeMo/Automodel/issues/3595: a thinker that was trained as a part of its model."""
    small = {key: value for key, value in QWEN_VL.items() if key[0] in "hinv" and key != "vision_config"}
    text = {"model_type": "qwen2_5_omni_text", **small, "vocab_size": 128}
    audio = {"encoder_layers": 1, "d_model": 32, "encoder_attention_heads": 4, "encoder_ffn_dim": 32, "output_dim": 64}
    thinker = {"text_config": text, "vision_config": {**QWEN_VL["vision_config"], "depth": 1}, "audio_config": audio}
    base = {"model_type": "qwen2_5_omni", "thinker_config": thinker}
    right = lora_on(base, lambda path: "thinker.model.language_model" in path and path.endswith(".q_proj"))
    wrong = {"thinker." + name.replace("thinker.", "", 1): tensor for name, tensor in right.items()}
    folder = write_adapter(tmp_path / "a", wrong, lora_config(target_modules=["q_proj"]))
    finding = next(item for item in check(folder, base) if item.code == "LP311")
    assert "'thinker.' stands before the prefix 'base_model.model.' and belongs behind it" in finding.message
    ((_, tensors),) = follow(finding, folder, base) or ()
    assert tensors.keys() == right.keys()


@pytest.mark.parametrize(
    ("target", "trained", "hint"),
    [
        ("mlp", False, 'Set target_modules to ["o_proj"].'),  # what the file has
        ("norm", False, 'Set target_modules to ["o_proj"].'),
        ("mlp", True, "Name the layers inside it: gate_up_proj, down_proj."),
        ("norm", True, "Take it out of target_modules: there is no layer in it."),
    ],
)
def test_what_is_no_layer_is_replaced_by_what_is_one(tmp_path: Path, target: str, trained: bool, hint: str) -> None:
    """Where the config already says all that the file has, the layers inside are named."""
    tensors = {} if trained else lora_on(PHI3, lambda path: path.endswith("o_proj"))
    other = lora_on(PHI3, lambda path: path.endswith("0.self_attn.o_proj")) if trained else {}
    folder = write_adapter(tmp_path / "a", tensors | other, lora_config(target_modules=["o_proj", target]))
    finding = next(item for item in check(folder, PHI3) if item.code == "LP207")
    assert finding.hint == hint


def test_no_narrower_config_is_proposed_for_a_file_that_lost_tensors(tmp_path: Path) -> None:
    tensors = lora_on(PHI3, lambda path: path.endswith(("o_proj", "0.self_attn.qkv_proj")))
    folder = write_adapter(tmp_path / "a", tensors, lora_config(target_modules=["qkv_proj"]))
    assert not any("Set " in (item.hint or "") for item in check(folder, PHI3))
