"""How large each update is: the norms against the plain product, and what they cost nobody who did not ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    PREFIX,
    ROOT,
    TINY,
    TINY_BASE,
    Tensors,
    ones,
    raw_safetensors,
    tiny_config,
    tiny_tensors,
    write_adapter,
)

import lora_packer
from lora_packer.adapter import LoraConfig
from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector import norms
from lora_packer.inspector.norms import ModuleStats, module_stats
from lora_packer.peft.expected import Expectation

Cli = Callable[..., Any]


def random_tensors() -> Tensors:
    random = np.random.default_rng(7)
    return {name: random.standard_normal(t.shape).astype(np.float32) for name, t in tiny_tensors().items()}


def stats_of(folder: Path, **how: Any) -> dict[str, ModuleStats]:
    report = lora_packer.check(folder, base_config=TINY_BASE, target="peft", stats=True, **how)
    assert report.stats is not None
    return {item.module: item for item in report.stats}


@pytest.mark.parametrize("piece", [1 << 20, 40, 1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_norm_is_that_of_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, dtype: type[Any]
) -> None:
    monkeypatch.setattr(norms, "_PIECE", piece)
    tensors = {name: tensor.astype(dtype) for name, tensor in random_tensors().items()}
    config = tiny_config(alpha_pattern={"v_proj": 2}, use_rslora=True)
    found = stats_of(write_adapter(tmp_path / "a", tensors, config))
    assert len(found) == 4
    for module, item in found.items():
        scale = (2 if "v_proj" in module else 8) / np.sqrt(4)
        a, b = (tensors[f"{PREFIX}{module}.lora_{x}.weight"].astype(np.float64) for x in "AB")
        assert (item.rank, item.scale) == (4, scale)
        assert item.norm == pytest.approx(scale * np.linalg.norm(b @ a))


def test_bfloat16_is_read_as_it_is(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 0.25, 3.0], np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {
        "x.lora_A.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]},
        "x.lora_B.weight": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [4, 8]},
    }
    path = tmp_path / "t.safetensors"
    path.write_bytes(raw_safetensors(header, data))
    with path.open("rb") as file:
        (item,) = module_stats(file, read_header(file, path.stat().st_size), LoraConfig(r=1, lora_alpha=1), None)
    assert item.norm == pytest.approx(np.linalg.norm(np.outer([0.25, 3.0], [1.5, -2.0])))


def test_fused_experts_do_not_mix(tmp_path: Path) -> None:
    """A's rows are expert-major and B's columns rank-major, as PEFT's ParamWrapper lays them out."""
    experts, rank, out, size = 3, 2, 5, 4
    random = np.random.default_rng(3)
    a, b = random.standard_normal((experts, rank, size)), random.standard_normal((experts, out, rank))
    stored = {
        "x.lora_A.weight": a.reshape(experts * rank, size),
        "x.lora_B.weight": np.ascontiguousarray(b.transpose(1, 2, 0).reshape(out, rank * experts)),
    }
    folder = write_adapter(tmp_path / "a", stored)
    expectation = Expectation(experts={"x": ("x.down_proj", experts)})
    path = folder / "adapter_model.safetensors"
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
        (item,) = module_stats(file, header, LoraConfig(r=rank, lora_alpha=rank), expectation)
    whole = np.sqrt(sum(np.linalg.norm(b[e] @ a[e]) ** 2 for e in range(experts)))
    assert (item.module, item.rank) == ("x.down_proj", rank)
    assert item.norm == pytest.approx(whole)


def test_what_is_not_finite_or_does_not_fit_has_no_norm(tmp_path: Path) -> None:
    tensors = random_tensors()
    names = list(tensors)
    tensors[names[0]][0, 0] = np.nan
    first = names[0].removeprefix(PREFIX).rpartition(".lora_")[0]
    found = stats_of(write_adapter(tmp_path / "a", tensors))
    assert [module for module, item in found.items() if item.norm is None] == [first]
    half = {name: tensor for name, tensor in random_tensors().items() if name != names[0]}
    assert first not in stats_of(write_adapter(tmp_path / "b", half))


def test_the_report_has_stats_only_where_they_were_asked_for(cli: Cli) -> None:
    plain = json.loads(cli("check", TINY, "--base-config", TINY_BASE, "--format", "json").out)
    assert "stats" not in plain
    asked = json.loads(cli("check", TINY, "--base-config", TINY_BASE, "--format", "json", "--stats").out)
    assert {key: asked[key] for key in plain} == plain
    assert [sorted(item) for item in asked["stats"]] == [["module", "norm", "rank", "scale"]] * 4
    refused = cli("check", TINY, "--base-config", TINY_BASE, "--stats", "--no-weights")
    assert refused.code == 2
    assert "--no-weights" in refused.err


def test_the_picture_has_kinds_down_and_layers_across(cli: Cli, tmp_path: Path) -> None:
    tensors = {name: tensor.copy() for name, tensor in tiny_tensors().items()}
    tensors[PREFIX + "model.layers.1.self_attn.v_proj.lora_B.weight"][:] = 0
    out = cli("check", write_adapter(tmp_path / "a", tensors), "--base-config", TINY_BASE, "--stats").out
    assert "layers 0 to 1\nself_attn.q_proj |@@|\nself_attn.v_proj |* |\n" in out
    assert "\x1b" not in out


def loaded_stats(folder: Path, base: str, tensors: Tensors, **config: Any) -> dict[str, ModuleStats]:
    raw = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **config}
    write_adapter(folder, tensors, raw)
    given = ROOT / "fixtures" / "loading" / f"{base}.json"
    report = lora_packer.check(folder, base_config=given, target="peft", stats=True)
    assert report.ok, report.findings
    return {item.module: item for item in report.stats or ()}


def ones_for(path: str, inputs: int, outputs: int) -> Tensors:
    return {f"{PREFIX}{path}.lora_A.weight": ones(4, inputs), f"{PREFIX}{path}.lora_B.weight": ones(outputs, 4)}


def test_the_scale_of_a_module_that_peft_renames_is_that_of_its_name_in_the_model(tmp_path: Path) -> None:
    tensors: Tensors = {}
    for layer in (0, 1):
        tensors |= ones_for(f"language_model.model.layers.{layer}.self_attn.o_proj", 32, 48)
    first = "model.language_model.layers.0.self_attn.o_proj"
    found = loaded_stats(tmp_path / "a", "kimi_k25", tensors, target_modules=["o_proj"], alpha_pattern={first: 40})
    assert {name: item.scale for name, item in found.items()} == {first: 10.0, first.replace("0", "1"): 2.0}


def test_the_scale_of_experts_that_peft_merges_is_the_parameters_own(tmp_path: Path) -> None:
    """The parameter has the alpha of the pattern, and the rank of both halves."""
    experts = "language_model.model.layers.1.mlp.experts"
    tensors: Tensors = {}
    for expert in range(4):
        for name, (inputs, outputs) in {"gate_proj": (48, 20), "up_proj": (48, 20), "down_proj": (20, 48)}.items():
            tensors |= ones_for(f"{experts}.{expert}.{name}", inputs, outputs)
    found = loaded_stats(
        tmp_path / "a",
        "kimi_k25",
        tensors,
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        rank_pattern={r".*\.gate_up_proj": 8},
        alpha_pattern={r".*\.gate_up_proj": 32},
    )
    scales = {name.rpartition(".")[2]: (item.rank, item.scale) for name, item in found.items()}
    assert scales == {"gate_proj": (4, 4.0), "up_proj": (4, 4.0), "down_proj": (4, 2.0)}
    assert len(found) == 12
