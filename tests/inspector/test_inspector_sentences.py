"""Sentences that have to be true: why a tensor would be dropped, what PEFT does with another shape, where a base is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY_BASE, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.inspector import reading
from lora_packer.inspector.identify import fitting

Q0 = PREFIX + "model.layers.0.self_attn.q_proj"
K0 = PREFIX + "model.layers.0.self_attn.k_proj"
NORM = PREFIX + "model.norm.weight"


def full(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, 0.3, np.float32)


def errors(tmp_path: Path, more: Mapping[str, Any], **config: Any) -> list[lora_packer.Finding]:
    folder = write_adapter(tmp_path / "a", {**tiny_tensors(), **more}, tiny_config(**config))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft")
    return [finding for finding in report.findings if finding.severity == "error"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (Q0 + ".lora_A.default.weight", (4, 48)),  # beside the plain name
        (Q0 + ".lora_velora_embed", (8,)),
        (Q0 + ".lora_embedding_A", (4, 48)),
    ],
)
@pytest.mark.parametrize("config", [{}, {"exclude_modules": ["o_proj"], "layers_to_transform": [0, 1]}])
def test_an_extra_tensor_of_a_targeted_module_blames_no_field(
    tmp_path: Path, name: str, shape: tuple[int, ...], config: dict[str, Any]
) -> None:
    (finding,) = errors(tmp_path, {name: full(*shape)}, **config)
    assert (finding.code, finding.count, finding.field) == ("LP313", 1, None)
    assert "the LoRA that the config puts on q_proj has none of that name" in finding.message
    assert "because of" not in finding.message


def test_all_of_a_module_under_parts_that_it_does_not_have_is_one_finding(tmp_path: Path) -> None:
    tensors = {n.replace(".lora_A.weight", ".lora_embedding_A").replace(".lora_B.weight", ".lora_embedding_B"): t
               for n, t in tiny_tensors().items()}  # fmt: skip
    report = lora_packer.check(write_adapter(tmp_path / "a", tensors), base_config=TINY_BASE, target="peft")
    assert [(f.code, f.count) for f in report.findings] == [("LP313", 8)]
    assert "none of that name, and the file has not those that it has" in report.findings[0].message


def test_what_excludes_an_untargeted_module_is_still_said(tmp_path: Path) -> None:
    pair = {K0 + ".lora_A.weight": full(4, 48), K0 + ".lora_B.weight": full(32, 4)}
    targets = ["q_proj", "v_proj", "k_proj"]
    (finding,) = errors(tmp_path, pair, target_modules=targets, exclude_modules=["k_proj"])
    assert (finding.field, "because of exclude_modules" in finding.message) == ("exclude_modules", True)
    (finding,) = errors(tmp_path, pair)
    assert (finding.field, "because of" in finding.message) == ("target_modules", False)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        (NORM, (48,), "would overwrite the base model's own weights"),
        (NORM, (49,), "another shape: PEFT raises a size mismatch"),
        (K0 + ".weight", (32, 48), "would overwrite"),
        (K0 + ".weight", (48, 32), "another shape"),
        (Q0 + ".base_layer.weight", (64, 48), "would overwrite"),
        (Q0 + ".base_layer.weight", (60, 48), "another shape"),
    ],
)
def test_weights_of_another_shape_overwrite_nothing(
    tmp_path: Path, name: str, shape: tuple[int, ...], says: str
) -> None:
    (finding,) = errors(tmp_path, {name: full(*shape)})
    assert (finding.code, finding.actual) == ("LP315", list(shape))
    assert says in finding.message
    assert (finding.expected is not None) == ("another shape" in says)


def test_a_base_may_have_a_hub_id_without_an_organisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub" / "models--gpt2"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    (cache / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (cache / "snapshots" / ("a" * 40) / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert BaseModel.load("gpt2").model_type == "gpt2"
    for name in ("gpt3.json", "./gpt2", "a/b/c"):
        with pytest.raises(lora_packer.InputError, match="there is no file"):
            BaseModel.load(name)
    with pytest.raises(lora_packer.InputError, match="neither a file nor a Hub id"):
        BaseModel.load("two words")


def shaped(base: str, leaves: tuple[str, ...], rank: int = 2) -> dict[str, Any]:
    found = {}
    for path, module in BaseModel.load(base).modules.items():
        if path.rpartition(".")[2] in leaves:
            for half, shape in (("A", (rank, module.in_features)), ("B", (module.out_features, rank))):
                found[f"{PREFIX}{path}.lora_{half}.weight"] = lora_packer.adapter.TensorInfo("F32", shape, 0, 0)
    return found


def test_the_hint_works_out_what_a_model_calls_for_only_where_its_sizes_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nearly every known model is told by one tensor, whatever its task type may be."""
    tensors = shaped("Qwen/Qwen3-8B", ("q_proj", "k_proj"))
    config = lora_packer.adapter.LoraConfig(r=2, target_modules=("q_proj", "k_proj"))
    expected = []
    real = reading.expect
    monkeypatch.setattr(reading, "expect", lambda *given, **named: expected.append(1) or real(*given, **named))
    known = fitting(config, tensors)
    assert "Qwen/Qwen3-8B" in known
    assert len(expected) <= 2 * len(known)
    assert fitting(config, shaped("Qwen/Qwen3-8B", ("q_proj",))) == []
    assert fitting(lora_packer.adapter.LoraConfig(r=3, target_modules=("q_proj", "k_proj")), tensors) == []


def test_the_base_models_own_weights_are_no_lost_half_under_another_name(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in tiny_tensors().items() if name != Q0 + ".lora_A.weight"}
    folder = write_adapter(tmp_path / "a", {**tensors, PREFIX + "lm_head.weight": full(112, 48)})
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft")
    assert [finding.code for finding in report.findings] == ["LP306", "LP320"]


@pytest.mark.parametrize("end", ["\n", "\x1b[2J", "\u202e", "\x00"])
def test_a_name_that_ends_in_a_control_character_is_told_and_never_shown(tmp_path: Path, end: str) -> None:
    (finding,) = errors(tmp_path, {Q0 + ".lora_A.weight" + end: full(4, 48)})
    assert finding.code == "LP316"
    assert "would be dropped" in finding.message
    assert (finding.tensor or "").isprintable()
    assert finding.message.isprintable()
