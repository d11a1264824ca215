"""Adapters that PEFT 0.21.2 wrote of the types that transformers 5.23 and 5.24 build differently: either passes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

import lora_packer
from lora_packer.base_model import BaseModel

sys.path.insert(0, str(ROOT / "tools"))

from sweep_cases import write_unread

RECORDED: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "fixtures" / "bands.json").read_text(encoding="utf-8"))
CASES = [
    pytest.param(release, case, id=f"{release}-{case['type']}-{case['head']}-{number}")
    for release, cases in RECORDED.items()
    for number, case in enumerate(cases)
]
# What PEFT itself drops of mistral_large4 under either release: it renames the shared experts once too often.
DROPPED_BY_BOTH = ("mistral_large4", "weights_proj")
# The class without the towers is another class: what it wrote does not load into the one that sees.
OTHER_CLASS = "text-only"


def checked(folder: Path, case: dict[str, Any], target: str) -> lora_packer.Report:
    write_unread(folder, case["config"], case["tensors"])
    return lora_packer.check(folder, base_config=case["base"], target=target, weights=False)


def problems(report: lora_packer.Report) -> set[str]:
    # LP502: what the service's page says nothing about.
    return {item.code for item in report.findings if item.severity != "info" and item.code != "LP502"}


def both_drop(case: dict[str, Any]) -> bool:
    return case["type"] == DROPPED_BY_BOTH[0] and DROPPED_BY_BOTH[1] in case["config"]["target_modules"]


@pytest.mark.parametrize(("release", "case"), CASES)
def test_an_adapter_of_either_release_passes(release: str, case: dict[str, Any], tmp_path: Path) -> None:
    report = checked(tmp_path, case, "together")
    assert report.status == "ok"
    told = {"LP322"} if both_drop(case) or case["head"] == OTHER_CLASS else set()
    assert problems(report) == told


@pytest.mark.parametrize(("release", "case"), CASES)
def test_peft_of_today_is_asked_with_5_24(release: str, case: dict[str, Any], tmp_path: Path) -> None:
    """As tools/loading_oracle.py had it of both: what 5.23 wrote under names or sizes of its own, 5.24 does not load."""
    report = checked(tmp_path, case, "peft")
    own_names = case["type"].startswith("inkling2")
    own_sizes = bool(case["config"]["modules_to_save"])
    refused = (release == "5.23" and (own_names or own_sizes)) or case["head"] == OTHER_CLASS or both_drop(case)
    assert report.status == ("failed" if refused else "ok")
    assert {item.code for item in report.findings if item.severity == "error"} == ({"LP322"} if refused else set())


def test_what_is_of_5_23_is_said(tmp_path: Path) -> None:
    case = RECORDED["5.23"][0]
    note = next(item for item in checked(tmp_path, case, "together").findings if item.code == "LP321")
    assert "transformers 5.23" in note.message
    assert note.severity == "info"


def test_a_target_that_became_a_container_is_named(tmp_path: Path) -> None:
    case = RECORDED["5.23"][0]
    (error,) = (item for item in checked(tmp_path, case, "peft").findings if item.severity == "error")
    assert "self_attn.k_proj', which is not a layer" in error.message


@pytest.mark.parametrize(
    ("model_type", "dialect", "there", "not_there"),
    [
        (
            "inkling2_text",
            "transformers-5",
            "model.layers.0.self_attn.q_proj.linear",
            "model.layers.0.self_attn.q_proj",
        ),
        (
            "inkling2_text",
            "transformers-5.23",
            "model.layers.0.self_attn.r_proj",
            "model.layers.0.self_attn.q_proj.linear",
        ),
        (
            "inkling2",
            "text-only of transformers-5.23",
            "model.layers.0.self_attn.rel_logits_proj.proj",
            "model.vision_tower.merger.linear_1",
        ),
        ("mistral_large4", "transformers-5", "model.language_model.rotary_emb.alpha", "lm_head.bias"),
        ("mistral_large4", "transformers-5.23", "lm_head", "model.language_model.rotary_emb.alpha"),
    ],
)
def test_the_names_of_each_release(model_type: str, dialect: str, there: str, not_there: str) -> None:
    modules = BaseModel.load({"model_type": model_type}).dialects[dialect]
    assert there in modules
    assert not_there not in modules


def test_the_heads_of_each_release() -> None:
    config = {"model_type": "gptj", "num_labels": 3}
    answering = BaseModel.load(config).with_head("question-answering").dialects
    assert [answering[name]["qa_outputs"].out_features for name in answering] == [2, 3]
    predicting = BaseModel.load({"model_type": "reformer"}).with_head("causal-lm").dialects
    assert [predicting[name]["lm_head.decoder"].bias for name in predicting] == [True, False]
    padded = BaseModel.load({"model_type": "inkling2_text"}).dialects
    assert [padded[name]["lm_head"].out_features for name in padded] == [200058, 201024]
