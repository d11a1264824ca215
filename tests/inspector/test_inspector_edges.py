"""The smallest case of each thing that decides a diagnosis beside the main road."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY_BASE, tiny_config, tiny_tensors, write_adapter
from shapes import JAMBA, LLAMA, QWEN3_MOE, Shapes, pair, q_proj, told

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.inspector.foreign import foreign_framework
from lora_packer.peft.replicate import layers_of

Q = {"target_modules": ["q_proj"]}
CLASSIFIER = {**LLAMA, "architectures": ["LlamaForSequenceClassification"]}
ATTENTION = {"q_proj": (48, 64), "k_proj": (48, 32), "v_proj": (48, 32), "o_proj": (64, 48)}


def layer(index: int, *leaves: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for leaf in leaves:
        found |= pair(f"model.layers.{index}.self_attn.{leaf}", *ATTENTION[leaf])
    return found


def experts(ranks: Mapping[int, int], inner: int = 48, outer: int = 40) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for index, rank in ranks.items():
        found |= pair(f"model.layers.{index}.mlp.experts", inner, outer, rank=rank)
    return found


FUSED = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]}
GATE_AND_DOWN = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
NUMBERED = {
    name: shape
    for expert in range(3)
    for leaf in ("up_proj", "gate_proj")
    for name, shape in pair(f"model.layers.0.mlp.experts.{expert}.{leaf}", 48, 20).items()
}

# what it is, base config, adapter config, tensors, then the findings: code and what the message says
CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Shapes, list[tuple[str, str]]]] = {
    # --- the reading of the base
    "feature extraction from a class with a head": (LLAMA, {**Q, "task_type": "FEATURE_EXTRACTION"}, q_proj(), []),
    "labels by the LoRA on a classifier": (
        CLASSIFIER,
        {"target_modules": ["q_proj", "score"], "task_type": None},
        {**q_proj(), **pair("score", 48, 7)},
        [],
    ),
    "a pair on an embedding swapped, as square as can be": (
        LLAMA,
        {"target_modules": ["embed_tokens"], "r": 48},
        {"model.embed_tokens.lora_embedding_A": (48, 48), "model.embed_tokens.lora_embedding_B": (48, 112)},
        [("LP304", "swapped")],
    ),
    "another rank in the older layout of fused experts": (
        QWEN3_MOE,
        {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]},
        experts({0: 9, 1: 9}, inner=40, outer=48),
        [("LP302", "rank 12, and the file has rank 9")],
    ),
    # --- shapes
    "fused experts of two other numbers": (
        QWEN3_MOE,
        FUSED,
        {**q_proj(), **experts({0: 20, 1: 24})},
        [("LP302", "rank 12, and the file has rank 20, 24")],
    ),
    "fused experts of one other number": (
        QWEN3_MOE,
        FUSED,
        {**q_proj(), **experts({0: 20, 1: 20})},
        [("LP301", "experts x rank 20 instead of 12")],
    ),
    "one shape of eight is off, and a layer is lost": (
        LLAMA,
        {"target_modules": list(ATTENTION)},
        {**layer(0, *ATTENTION), "model.layers.0.self_attn.k_proj.lora_B.weight": (40, 4)},
        [("LP301", "; 4 targeted modules have no tensors (layer 1)")],
    ),
    "half of the shapes are off, and a layer is lost": (
        LLAMA,
        {"target_modules": list(ATTENTION)},
        {n: (4, 40) if s == (4, 48) else s for n, s in layer(0, *ATTENTION).items()}
        | {"model.layers.0.self_attn.o_proj.lora_B.weight": (40, 4)},
        [("LP301", "hidden size 40 instead of 48, 1 layer instead of 2")],
    ),
    # --- missing
    "experts of a lost layer": (
        QWEN3_MOE,
        {"target_modules": ["up_proj", "gate_proj"]},
        NUMBERED,
        [("LP307", "6 targeted modules have no tensors (layer 1)")],
    ),
    "one module of a kind of its own is no lost layer": (
        JAMBA,
        {"target_modules": ["in_proj", "q_proj"]},
        pair("model.layers.0.mamba.in_proj", 64, 256),
        [("LP309", "q_proj")],
    ),
    "fused experts that were not trained": (
        QWEN3_MOE,
        {"target_modules": ["q_proj", "k_proj"], "target_parameters": [*GATE_AND_DOWN]},
        {**q_proj(), **experts({0: 12, 1: 12}, inner=20, outer=48)},
        [
            (
                "LP309",
                "target_modules also names k_proj, for which the file has no tensors, and target_parameters also names "
                "mlp.experts.gate_up_proj, for which",
            )
        ],
    ),
    "one kind of fused experts was not trained": (
        QWEN3_MOE,
        {"target_modules": [], "target_parameters": [*GATE_AND_DOWN]},
        experts({0: 12, 1: 12}, inner=20, outer=48),
        [("LP309", "target_parameters also names mlp.experts.gate_up_proj, for which the file has no tensors")],
    ),
    # --- extra
    "saved modules have no LoRA": (
        LLAMA,
        {"target_modules": ["q_proj", "o_proj"], "modules_to_save": ["o_proj"]},
        {
            **layer(0, "q_proj", "o_proj"),
            **layer(1, "q_proj", "o_proj"),
            "model.layers.0.self_attn.o_proj.weight": (48, 64),
            "model.layers.1.self_attn.o_proj.weight": (48, 64),
        },
        [("LP313", "does not target o_proj because of modules_to_save")],
    ),
    "a buffer with bias in its name": (
        JAMBA,
        {**Q, "bias": "all"},
        {**pair("model.layers.1.self_attn.q_proj", 64, 64), "model.layers.0.mamba.a_buffer_bias": (7,)},
        [],
    ),
    "the same buffer, and no biases asked for": (
        JAMBA,
        Q,
        {**pair("model.layers.1.self_attn.q_proj", 64, 64), "model.layers.0.mamba.a_buffer_bias": (7,)},
        [("LP316", "belongs to nothing")],
    ),
    "embeddings without rows": (
        LLAMA,
        Q,
        {**q_proj(), "model.embed_tokens.weight": (0, 48), "lm_head.weight": (0, 48)},
        [("LP301", "full embeddings of another shape")],
    ),
    # --- the task
    "the head of question answering was trained": (
        LLAMA,
        {**Q, "task_type": "QUESTION_ANS"},
        {**q_proj(prefix="transformer."), "qa_outputs.weight": (2, 48), "qa_outputs.bias": (2,)},
        [],
    ),
    "the head of question answering is lost": (
        LLAMA,
        {**Q, "task_type": "QUESTION_ANS"},
        q_proj(prefix="transformer."),
        [("LP308", "task_type is QUESTION_ANS")],
    ),
    "nothing of the file is that task's": (
        LLAMA,
        {"target_modules": ["lm_head"], "task_type": "SEQ_CLS"},
        pair("lm_head", 48, 112),
        [("LP206", "lm_head")],
    ),
}


@pytest.mark.parametrize(("base", "config", "shapes", "expected"), CASES.values(), ids=CASES)
def test_edges(
    base: Mapping[str, Any], config: Mapping[str, Any], shapes: Shapes, expected: list[tuple[str, str]]
) -> None:
    findings = [finding for finding in told(base, config, shapes) if finding.code != "LP321"]
    assert [finding.code for finding in findings] == [code for code, _ in expected], findings
    for finding, (_, says) in zip(findings, expected, strict=True):
        assert says in finding.message


# --- values ----------------------------------------------------------------------------------------------------------


def with_rows(rows: Mapping[str, slice]) -> dict[str, np.ndarray[Any, Any]]:
    """The tiny adapter with values in some rows of lora_B only."""
    tensors = {}
    for name, tensor in tiny_tensors().items():
        leaf = name.split(".")[-3]
        if "lora_B" in name and leaf in rows:
            kept = np.zeros_like(tensor)
            kept[rows[leaf]] = 0.3
            tensor = kept
        tensors[name] = tensor
    return tensors


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        ({"q_proj": slice(16, 32), "v_proj": slice(8, 16)}, ["LP405"]),
        ({"q_proj": slice(16, 31), "v_proj": slice(8, 15)}, []),  # it ends before its block does
        ({"q_proj": slice(17, 32), "v_proj": slice(9, 16)}, []),
        ({"q_proj": slice(16, 32)}, []),
    ],
)
def test_a_shard_is_exactly_a_block(tmp_path: Path, rows: Mapping[str, slice], codes: list[str]) -> None:
    folder = write_adapter(tmp_path / "a", with_rows(rows))
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft", select=["LP4"])
    assert [finding.code for finding in report.findings] == codes


PHI3 = {"model_type": "phi3", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 112}
PHI3 |= {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("rows", "leaf", "codes"),
    [
        (slice(0, 48), "qkv_proj", []),  # q_proj of it alone was trained
        (slice(0, 48), "o_proj", ["LP405"]),
    ],
)
def test_a_part_of_a_fused_projection_is_no_shard(tmp_path: Path, rows: slice, leaf: str, codes: list[str]) -> None:
    tensors = {}
    for index in range(2):
        path = f"{PREFIX}model.layers.{index}.self_attn.{leaf}"
        b = np.zeros((144, 4), np.float32)
        b[rows] = 0.3
        tensors |= {f"{path}.lora_A.weight": np.full((4, 48), 0.3, np.float32), f"{path}.lora_B.weight": b}
    folder = write_adapter(tmp_path / "a", tensors, tiny_config(target_modules=[leaf]))
    report = lora_packer.check(folder, base_config=PHI3, target="peft", select=["LP4"])
    assert [finding.code for finding in report.findings] == codes


# --- without a base, names, targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "codes"),
    [({}, ["LP302"]), ({"use_bdlora": {"nblocks": 2, "target_modules_bd_b": ["q_proj"]}}, [])],
)
def test_block_diagonal_ranks_differ_by_design(tmp_path: Path, config: dict[str, Any], codes: list[str]) -> None:
    tensors = {n: t[:, :2].copy() if "lora_B" in n else t for n, t in tiny_tensors().items()}
    folder = write_adapter(tmp_path / "a", tensors, tiny_config(base_model_name_or_path=None, **config))
    report = lora_packer.check(folder, target="peft")
    assert [finding.code for finding in report.findings if finding.severity == "error"] == codes


@pytest.mark.parametrize(
    ("named", "codes"),
    [("org/LLAMA-3.1-8b-instruct/", []), ("org/Llama-3.1-8B-Instruct", []), ("org/Llama-3.1-8B", ["LP501"])],
)
def test_a_base_models_name_is_the_same_in_any_case(tmp_path: Path, named: str, codes: list[str]) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=named))
    hosted = "meta-llama/Llama-3.1-8B-Instruct"
    report = lora_packer.check(folder, base_config=TINY_BASE, base_model=hosted, select=["LP5"])
    assert [finding.code for finding in report.findings] == codes


@pytest.mark.parametrize(("foreign", "name"), [(1, None), (4, None), (5, "MLX")])
def test_a_frameworks_names_are_most_of_them(foreign: int, name: str | None) -> None:
    names = [f"model.layers.{i}.q_proj.lora_a" for i in range(foreign)]
    names += [f"model.layers.{i}.q_proj.lora_A.weight" for i in range(8 - foreign)]  # a prefix is lost, no more
    found = foreign_framework(names)
    assert (found.name if found else None) == name


def test_peft_replicates_the_layers_below_bert() -> None:
    base = BaseModel.load({"model_type": "bert", "num_hidden_layers": 3})
    assert layers_of(base.modules) == ("bert.encoder.layer", 3)
