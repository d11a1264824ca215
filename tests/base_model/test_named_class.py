"""The class that a base config names: each is its own, and where another stands in for it that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE, write_adapter

import lora_packer
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.tasks import FILE, is_described, standing_in
from lora_packer.errors import UnknownArchitecture

_TINY = json.loads(TINY_BASE.read_text(encoding="utf-8"))
_DESCRIBED = json.loads(FILE.read_text(encoding="utf-8"))["described"]


def _named(*classes: str, **fields: Any) -> dict[str, Any]:
    return {**_TINY, **fields, "architectures": list(classes)}


def _notes(tmp_path: Path, base: dict[str, Any]) -> list[lora_packer.Finding]:
    adapter = write_adapter(tmp_path / "a")
    report = lora_packer.check(adapter, base_config=base, target="peft")
    return [finding for finding in report.findings if finding.code == "LP325"]


@pytest.mark.parametrize(
    "named",
    [
        "Eagle3LlamaForCausalLM", "LlamaForCausalLMEagle3", "EagleLlamaForCausalLM", "PEagleDraftModel", "DFlashDraftModel",
        "CosyVoice3Eagle3LlamaForCausalLM", "LlamaMedusaModel", "MLPSpeculatorPreTrainedModel", "Glm4MoeMTPModel",
    ],
)  # fmt: skip
def test_a_draft_model_is_not_the_model_that_it_drafts_for(named: str) -> None:
    with pytest.raises(UnknownArchitecture, match=f"'{named}', the class that the base config names, drafts tokens"):
        BaseModel.load(_named(named))


def test_no_described_class_is_taken_for_a_draft_model() -> None:
    for model_type, classes in _DESCRIBED.items():
        for named in classes.values():
            assert is_described(model_type, named)


def test_every_type_of_transformers_has_its_classes_recorded() -> None:
    assert {name for name, entry in ARCHITECTURES.items() if entry.proof is None} == _DESCRIBED.keys()
    assert not [name for name, classes in _DESCRIBED.items() if not classes]


@pytest.mark.parametrize(
    "named", ["LLaMAForCausalLM", "LlamaForReward", "MixtralForCausalLM", "LlamaForCausalLM2\x1b[0m"]
)
def test_another_class_that_stands_in_is_told(tmp_path: Path, named: str) -> None:
    (note,) = _notes(tmp_path, _named(named))
    assert (note.severity, note.expected, note.actual) == ("info", named, "LlamaForCausalLM")
    assert note.message.endswith("are not known here: the adapter was held against LlamaForCausalLM")
    assert "\x1b" not in note.message


@pytest.mark.parametrize(
    "base", [_named("LlamaForCausalLM"), _named("LlamaForSequenceClassification"), _named("LlamaModel"), _TINY]
)
def test_a_class_of_the_type_is_its_own(tmp_path: Path, base: dict[str, Any]) -> None:
    assert _notes(tmp_path, base) == []
    assert _notes(tmp_path, {**base, "architectures": None}) == []


def test_an_encoder_is_a_class_of_its_own() -> None:
    t5 = {
        "model_type": "t5",
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 320,
    }
    encoder = BaseModel.load({**t5, "architectures": ["T5EncoderModel"]})
    assert encoder.head == "encoder"
    assert not [path for path in encoder.modules if path.startswith("decoder.")]
    assert is_described("t5", "T5EncoderModel")
    assert standing_in("t5", "encoder") == "T5EncoderModel"
    assert is_described("bert", "BertForMaskedLM")
    assert not is_described("bert", "BertForMultipleChoice")


def test_the_text_class_of_a_type_that_sees_is_described() -> None:
    assert is_described("gemma3", "Gemma3ForConditionalGeneration")
    assert is_described("shieldgemma2", "ShieldGemma2ForImageClassification")
