"""Trained tokens beside whole modules: what PEFT 0.21.2 writes of both, reads, and can run; each row was run in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import write_adapter
from shapes import LLAMA, q_proj, told

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.keys import PREFIX
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import expect
from lora_packer.peft.refusals import refused_modules

BASES = {"untied": LLAMA, "tied": {**LLAMA, "tie_word_embeddings": True}}
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
WRAPPED = ".token_adapter.base_layer.weight"
DELTA = ".token_adapter.trainable_tokens_delta"
FORWARD, NAMES = "tuners/trainable_tokens/layer.py:272", "utils/other.py:1579"

# base, modules_to_save, trainable_token_indices, ensure_weight_tying: the names in the file, and the line that raises
ROWS: list[tuple[str, Sequence[str], Any, bool, set[str], str | None]] = [
    ("untied", [], [1, 2], False, {EMBEDDING + DELTA}, None),
    ("untied", ["embed_tokens"], [1, 2], False, {EMBEDDING + WRAPPED, EMBEDDING + DELTA}, FORWARD),
    ("untied", ["embed_tokens"], {"lm_head": [1, 2]}, False, {EMBEDDING + ".weight", HEAD + DELTA}, None),
    ("untied", ["embed_tokens"], {"embed_tokens": [1, 2]}, False, {EMBEDDING + WRAPPED, EMBEDDING + DELTA}, NAMES),
    ("untied", ["embed_tokens"], {"mbed_tokens": [1, 2]}, False, {EMBEDDING + WRAPPED, EMBEDDING + DELTA}, FORWARD),
    ("untied", ["lm_head"], [1, 2], False, {HEAD + ".weight", EMBEDDING + DELTA}, None),
    ("untied", ["lm_head"], {"lm_head": [1, 2]}, False, {HEAD + WRAPPED, HEAD + DELTA}, NAMES),
    (
        "untied",
        ["embed_tokens", "lm_head"],
        [1, 2],
        False,
        {EMBEDDING + WRAPPED, HEAD + ".weight", EMBEDDING + DELTA},
        FORWARD,
    ),
    ("untied", ["embed_tokens"], None, True, {EMBEDDING + ".weight"}, None),
    ("tied", ["lm_head"], [1, 2], False, {HEAD + WRAPPED, EMBEDDING + DELTA}, FORWARD),
    ("tied", ["lm_head"], {"embed_tokens": [1, 2]}, False, {HEAD + WRAPPED, EMBEDDING + DELTA}, FORWARD),
    ("tied", ["embed_tokens"], {"lm_head": [1, 2]}, False, {EMBEDDING + ".weight", HEAD + DELTA}, None),
    (
        "tied",
        ["embed_tokens", "lm_head"],
        [1, 2],
        False,
        {EMBEDDING + WRAPPED, HEAD + ".weight", EMBEDDING + DELTA},
        FORWARD,
    ),
    ("tied", ["embed_tokens"], None, False, {EMBEDDING + ".weight"}, None),
    ("tied", ["embed_tokens"], None, True, {EMBEDDING + ".weight", HEAD + ".weight"}, None),
    ("tied", ["model.embed_tokens"], None, True, {EMBEDDING + ".weight", HEAD + ".weight"}, None),
    ("tied", ["lm_head"], None, True, {EMBEDDING + ".weight", HEAD + ".weight"}, None),
    ("tied", ["mbed_tokens"], None, True, {EMBEDDING + ".weight"}, None),
    (
        "tied",
        ["embed_tokens"],
        {"lm_head": [1, 2]},
        True,
        {EMBEDDING + ".weight", HEAD + WRAPPED, HEAD + DELTA},
        FORWARD,
    ),
]


def config_of(saved: Sequence[str], tokens: Any, tying: bool) -> Mapping[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "modules_to_save": list(saved) or None,
        "trainable_token_indices": tokens,
        "ensure_weight_tying": tying,
    }


@pytest.mark.parametrize(("base", "saved", "tokens", "tying", "names", "raised"), ROWS)
def test_whole_modules_beside_trained_tokens(
    base: str, saved: Sequence[str], tokens: Any, tying: bool, names: set[str], raised: str | None
) -> None:
    config, problems = parse_config(config_of(saved, tokens, tying))
    assert not problems
    model = BaseModel.load(BASES[base])
    wanted = expect(config, model.modules, model.default_targets, input_embedding=EMBEDDING, tied=model.tied)
    assert {name.removeprefix(PREFIX) for name in wanted.required if "q_proj" not in name} == names
    refused = list(
        refused_modules(config, "llama", model.modules, wanted.targeted, saved_with_tokens=wanted.saved_with_tokens)
    )
    assert [item.source for item in refused] == ([raised] if raised else [])


def test_a_tied_head_that_is_lost_is_missed() -> None:
    shapes = {**q_proj(), "model.embed_tokens.weight": (112, 48)}
    (finding,) = told(BASES["tied"], config_of(["embed_tokens"], None, True), shapes)
    assert (finding.code, finding.tensors) == ("LP308", (f"{PREFIX}lm_head.weight",))


@pytest.mark.parametrize("base", BASES)
def test_what_peft_writes_of_both_is_told_once(tmp_path: Path, base: str) -> None:
    shapes = {**q_proj(), HEAD + ".weight": (112, 48), EMBEDDING + WRAPPED: (112, 48), EMBEDDING + DELTA: (2, 48)}
    tensors = {PREFIX + name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    folder = write_adapter(tmp_path, tensors, config_of(["embed_tokens", "lm_head"], [1, 2], False))
    report = lora_packer.check(folder, base_config=dict(BASES[base]), target="peft")
    (error,) = (finding for finding in report.findings if finding.severity == "error")
    assert (error.code, error.field) == ("LP202", "trainable_token_indices")
    assert "is saved whole and has trained tokens too" in error.message


def test_an_embedding_that_is_never_run_under_its_own_name_is_not_refused() -> None:
    # T5's encoder and decoder have it under names of their own, which PEFT does not wrap.
    base = {
        "model_type": "t5",
        "d_model": 48,
        "d_ff": 80,
        "num_layers": 2,
        "num_heads": 4,
        "d_kv": 12,
        "vocab_size": 112,
    }
    model = BaseModel.load(base)
    raw = {**config_of(["shared"], {"hared": [1, 2]}, False), "task_type": "SEQ_2_SEQ_LM", "target_modules": ["q"]}
    config, _ = parse_config(raw)
    wanted = expect(config, model.modules, model.default_targets, tied=model.tied)
    assert wanted.saved_with_tokens == ["shared"]
    assert not list(refused_modules(config, "t5", model.modules, wanted.targeted, wanted.saved_with_tokens))
