"""The task of an adapter, and the classes that transformers has for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import ones, write_adapter
from follow_hints import follow

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.tasks import FILE, generates, has_class
from lora_packer.peft.expected import expect

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
LLAMA = {"model_type": "llama", **SIZES}
HELIUM = {"model_type": "helium", "num_key_value_heads": 4, "head_dim": 8, **SIZES}
COHERE = {"model_type": "cohere", "num_key_value_heads": 4, **SIZES}


def found(folder: Path, base: dict[str, Any], trained: str, also: str = "", **changes: Any) -> list[tuple[str, str]]:
    """Check an adapter that was trained on the class with the head ``trained``; its config names ``also`` besides."""
    raw = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], **changes}
    config, _ = parse_config({**raw, "task_type": None})
    wanted = expect(config, BaseModel.load(base).with_head(trained).modules, ()).required  # type: ignore[arg-type]
    written = {**raw, "target_modules": [*raw["target_modules"], also]} if also else raw
    write_adapter(folder, {name: ones(*want.shape) for name, want in wanted.items()}, written)
    report = lora_packer.check(folder, base_config=base, target="peft", weights=False)
    return [(item.code, item.severity) for item in report.findings]


@pytest.mark.parametrize(
    ("base", "task", "findings"),
    [
        (HELIUM, "QUESTION_ANS", [("LP308", "warning")]),  # PEFT loads it on the language model, the only class
        (COHERE, "TOKEN_CLS", [("LP308", "warning")]),
        (COHERE, "SEQ_CLS", [("LP308", "warning")]),
        (LLAMA, "QUESTION_ANS", [("LP308", "error")]),  # the class has a head, and the file has not
        (LLAMA, "TOKEN_CLS", [("LP308", "error")]),
        (HELIUM, "SEQ_CLS", [("LP308", "error")]),
    ],
    ids=str,
)
def test_a_language_model_s_adapter_for_another_task(
    tmp_path: Path, base: dict[str, Any], task: str, findings: list[tuple[str, str]]
) -> None:
    assert found(tmp_path, base, "causal-lm", task_type=task) == findings


def test_a_class_of_the_trainer_s_own_has_the_task_s_head(tmp_path: Path) -> None:
    assert found(tmp_path, COHERE, "sequence-classification", task_type="SEQ_CLS", modules_to_save=["score"]) == []


def test_a_head_that_no_class_has_is_not_missing_beside_another_tensor(tmp_path: Path) -> None:
    """Under either class something is missing: the one that there is decides."""
    codes = found(tmp_path, HELIUM, "causal-lm", also="lm_head", task_type="QUESTION_ANS")
    assert codes == [("LP308", "warning"), ("LP309", "warning")]


def test_the_head_of_a_task_is_not_named_where_there_is_none(tmp_path: Path) -> None:
    """PEFT adds "score" to modules_to_save, and refuses a score that gets LoRA: a language model has none."""
    codes = found(tmp_path, COHERE, "causal-lm", task_type="TOKEN_CLS", target_modules="all-linear")
    assert codes == [("LP308", "warning")]


def test_which_classes_there_are() -> None:
    assert has_class("llama", "question-answering")
    assert not has_class("helium", "question-answering")
    assert has_class("no-such-type", "question-answering")
    assert has_class("helium", "causal-lm")


def test_the_recorded_types_have_definitions() -> None:
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    assert recorded["made_by"] == "tools/record_tasks.py"
    assert [name for types in recorded["without"].values() for name in types if name not in ARCHITECTURES] == []


MODERNBERT = {"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"], **SIZES}
BERT = {"model_type": "bert", "architectures": ["BertLMHeadModel"], **SIZES}


def of_an_encoder(folder: Path, base: dict[str, Any], leaf: str, task: str | None, target: str) -> lora_packer.Report:
    raw = {"peft_type": "LORA", "task_type": task, "r": 2, "lora_alpha": 2, "target_modules": [leaf]}
    config, _ = parse_config({**raw, "task_type": None})
    wanted = expect(config, BaseModel.load(base).modules, ()).required
    write_adapter(folder, {name: ones(*want.shape) for name, want in wanted.items()}, raw)
    return lora_packer.check(folder, base_config=base, target=target, weights=False)


@pytest.mark.parametrize("task", ["CAUSAL_LM", "SEQ_2_SEQ_LM"])
def test_a_task_that_generates_on_a_type_that_does_not(tmp_path: Path, task: str) -> None:
    """PEFT's class takes prepare_inputs_for_generation of the model, which transformers 4.57 and 5 give no such class."""
    report = of_an_encoder(tmp_path, MODERNBERT, "Wqkv", task, "peft")
    (finding,) = report.findings
    assert (report.status, finding.code, finding.severity, finding.field) == ("failed", "LP202", "error", "task_type")
    taken = "PEFT takes the model's prepare_inputs_for_generation, which no class of modernbert in transformers 5 has"
    assert finding.message == f"task_type is {task}, for which {taken}"
    assert finding.hint == "Set task_type to null: PEFT then loads it on the class it was trained on."
    assert finding.actual == task
    ((config, tensors),) = follow(finding, tmp_path, MODERNBERT) or []
    write_adapter(tmp_path, tensors, config)
    assert lora_packer.check(tmp_path, base_config=MODERNBERT, target="peft", weights=False).findings == ()


def test_a_service_cannot_serve_it_either(tmp_path: Path) -> None:
    report = of_an_encoder(tmp_path, MODERNBERT, "Wqkv", "CAUSAL_LM", "together")
    told = [(item.severity, item.field) for item in report.findings if item.code == "LP202"]
    assert told == [("error", "task_type")]


@pytest.mark.parametrize(
    ("base", "leaf", "task"),
    [(MODERNBERT, "Wqkv", None), (BERT, "query", "CAUSAL_LM"), (LLAMA, "q_proj", "SEQ_2_SEQ_LM")],
    ids=str,
)
def test_a_task_that_the_type_has(tmp_path: Path, base: dict[str, Any], leaf: str, task: str | None) -> None:
    report = of_an_encoder(tmp_path, base, leaf, task, "peft")
    assert report.ok
    assert [item for item in report.findings if item.field == "task_type"] == []


def test_which_types_generate() -> None:
    assert generates("bert")
    assert not generates("modernbert")
    assert generates("no-such-type")


T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 64}


@pytest.mark.parametrize(
    ("base", "named", "leaf", "task", "instead"),
    [
        (BERT, "BertForMaskedLM", "query", "CAUSAL_LM", "BertLMHeadModel"),
        (BERT, "BertForMaskedLM", "query", "SEQ_2_SEQ_LM", "BertLMHeadModel"),
        (BERT, "BertForPreTraining", "query", "CAUSAL_LM", "BertLMHeadModel"),
        (LLAMA, "LlamaModel", "q_proj", "CAUSAL_LM", "LlamaForCausalLM"),
        (LLAMA, "LlamaForSequenceClassification", "q_proj", "CAUSAL_LM", "LlamaForCausalLM"),
        (T5, "T5EncoderModel", "q", "SEQ_2_SEQ_LM", "T5ForConditionalGeneration"),
    ],
    ids=str,
)
def test_a_task_that_generates_on_a_class_that_does_not(
    tmp_path: Path, base: dict[str, Any], named: str, leaf: str, task: str, instead: str
) -> None:
    """Real PEFT on each of these classes: AttributeError, no attribute 'prepare_inputs_for_generation'."""
    head = "seq2seq" if base is T5 else "causal-lm"
    found(tmp_path, base, head, target_modules=[leaf], task_type=task)
    base = {**base, "architectures": [named]}
    for target, severity, status in (("peft", "error", "failed"), ("together", "warning", "ok")):
        report = lora_packer.check(tmp_path, base_config=base, target=target, weights=False)
        (finding,) = [item for item in report.findings if item.field == "task_type"]
        assert (finding.code, finding.severity, report.status) == ("LP202", severity, status)
        lacks = f"prepare_inputs_for_generation, which {named} has not, the class that the base config names"
        assert finding.message == f"task_type is {task}, for which PEFT takes the model's {lacks}"
        assert finding.hint == f"Load it into {instead}, which has it."
    again = lora_packer.check(tmp_path, base_config={**base, "architectures": [instead]}, target="peft", weights=False)
    assert [item for item in again.findings if item.field == "task_type"] == []


@pytest.mark.parametrize("named", ["BertLMHeadModel", "NobodysBert", None])
def test_a_class_that_generates_or_that_nobody_knows(tmp_path: Path, named: str | None) -> None:
    base = {**BERT, "architectures": [named] if named else None}
    told = found(tmp_path, base, "causal-lm", target_modules=["query"], task_type="CAUSAL_LM")
    # Another class stands in for one that nobody knows, and that is all that is said.
    assert told == ([("LP325", "info")] if named == "NobodysBert" else [])


def test_a_class_that_does_not_generate_under_another_task(tmp_path: Path) -> None:
    base = {**BERT, "architectures": ["BertForMaskedLM"]}
    assert found(tmp_path, base, "causal-lm", target_modules=["query"]) == []
