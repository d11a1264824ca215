"""``identify``, and what the catalogue knows: real configs without what decides no shape, and names that look alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, raw_safetensors, tiny_config, write_adapter

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.base_model.catalogue import catalogue, lookalike

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
Cli = Callable[..., Any]


def adapter_for(
    base_model: str,
    folder: Path,
    leaves: tuple[str, ...] = ("q_proj", "k_proj", "o_proj"),
    renamed: Callable[[str], str] = str,
) -> Path:
    """An adapter of rank 2 for a real base model, its values a hole in the file."""
    folder.mkdir()
    header: dict[str, Any] = {}
    at = 0
    for path, module in BaseModel.load(base_model).modules.items():
        if path.rpartition(".")[2] in leaves:
            for half, shape in (("A", [2, module.in_features]), ("B", [module.out_features, 2])):
                size = 2 * shape[0] * shape[1]
                name = f"base_model.model.{renamed(path)}.lora_{half}.weight"
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
                at += size
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(raw_safetensors(header))
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size + at)
    config = tiny_config(r=2, target_modules=list(leaves), base_model_name_or_path=None)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("base_model", sorted(catalogue()))
def test_the_catalogue_lost_nothing_that_decides_a_shape(base_model: str) -> None:
    config = json.loads((ROOT / "fixtures" / "base-configs" / f"{base_model.replace('/', '--')}.json").read_text())
    whole, kept = BaseModel.load(config), BaseModel.load(catalogue()[base_model])
    assert kept.modules == whole.modules
    assert list(kept.dialects) == list(whole.dialects)
    assert (kept.head, kept.vocab_size) == (whole.head, whole.vocab_size)


def test_the_catalogue_is_small() -> None:
    assert (ROOT / "lora_packer" / "base_model" / "catalogue.json").stat().st_size < 300_000
    assert len(catalogue()) > 70


def test_python_and_the_command_say_the_same(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_for(LLAMA, tmp_path / "a")
    found = lora_packer.identify(folder)
    assert isinstance(found[0], lora_packer.Candidate)
    printed = json.loads(cli("identify", folder, "--format", "json").out)
    assert [item.id for item in found if item.fits] == [item["id"] for item in printed["candidates"] if item["fits"]]


def test_the_base_models_that_fit_come_first(cli: Cli, tmp_path: Path) -> None:
    folder = adapter_for(LLAMA, tmp_path / "a")
    result = cli("identify", folder, "--format", "json")
    assert result.code == 0
    found = json.loads(result.out)
    fitting = [item["id"] for item in found["candidates"] if item["fits"]]
    assert LLAMA in fitting
    assert found["candidates"][0] == {
        "id": fitting[0],
        "model_type": "llama",
        "fits": True,
        "mismatches": 0,
        "first_mismatch": None,
    }
    others = [item for item in found["candidates"] if not item["fits"]]
    assert [item["mismatches"] for item in others] == sorted(item["mismatches"] for item in others)
    assert all(item["first_mismatch"] for item in others)
    text = cli("identify", folder)
    assert f"fits  {LLAMA} (llama)\n" in text.out
    assert "cannot be told apart" in text.out
    assert others[0]["id"] not in text.out
    assert others[0]["id"] in cli("identify", folder, "--verbose").out


def test_none_that_fits_is_exit_1(cli: Cli, tmp_path: Path) -> None:
    assert (cli("identify", TINY).code, cli("identify", TINY, "--quiet").code) == (1, 1)
    assert "none" in cli("identify", TINY).out
    half = adapter_for(LLAMA, tmp_path / "a", leaves=("q_proj",))
    config = json.loads((half / "adapter_config.json").read_text()) | {"r": 3}
    (half / "adapter_config.json").write_text(json.dumps(config))
    result = cli("identify", half)
    assert result.code == 1
    assert "64 mismatches; the config gives 64 tensors rank 3" in result.out


@pytest.mark.parametrize(
    ("config", "code", "says"),
    [
        ("{nope", 2, "not JSON"),
        (json.dumps(tiny_config(r=0)), 2, "r is 0"),
        (json.dumps(tiny_config(peft_type="LOHA")), 2, "LOHA"),
        (json.dumps(tiny_config(target_modules=r"(q)\1?.*")), 3, "not evaluated"),
    ],
)
def test_what_cannot_be_identified(cli: Cli, tmp_path: Path, config: str, code: int, says: str) -> None:
    folder = adapter_for(LLAMA, tmp_path / "a")
    (folder / "adapter_config.json").write_text(config)
    result = cli("identify", folder)
    assert (result.code, result.out) == (code, "")
    assert says in result.err


def test_no_tensors_and_no_adapter(cli: Cli, tmp_path: Path) -> None:
    assert cli("identify", write_adapter(tmp_path / "a", {})).code == 2
    assert cli("identify", tmp_path / "gone").code == 2


def test_check_says_which_known_base_model_would_fit(tmp_path: Path) -> None:
    folder = adapter_for("Qwen/Qwen3-8B", tmp_path / "a")
    report = lora_packer.check(folder, base_config="Qwen/Qwen3-32B", weights=False, target="peft")
    (finding,) = report.findings
    assert finding.code == "LP301"
    assert finding.hint is not None
    assert "Qwen/Qwen3-8B" in finding.hint
    right = lora_packer.check(folder, base_config="Qwen/Qwen3-8B", weights=False, target="peft")
    assert (right.status, right.findings) == ("ok", ())


def test_names_of_an_older_transformers_are_said(tmp_path: Path) -> None:
    base = BaseModel.load("mistralai/Mixtral-8x7B-v0.1")
    tensors = {}
    for path, module in base.dialects["transformers-4"].items():
        if path.endswith((".w1", ".w2", ".w3")) and ".layers.0." in path:
            tensors[path] = module
    header: dict[str, Any] = {}
    for path, module in tensors.items():
        for half, shape in (("A", [0, module.in_features]), ("B", [module.out_features, 0])):
            name = f"base_model.model.{path}.lora_{half}.weight"
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]}
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(raw_safetensors(header))
    config = tiny_config(target_modules=["w1", "w2", "w3"], layers_to_transform=[0])
    (folder / "adapter_config.json").write_text(json.dumps(config))
    report = lora_packer.check(folder, base_config="mistralai/Mixtral-8x7B-v0.1", weights=False, target="peft")
    assert [(f.code, f.severity) for f in report.findings] == [("LP321", "info"), ("LP305", "error")]
    assert report.findings[0].count == 48


@pytest.mark.parametrize(
    ("hosted", "known"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", LLAMA),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", LLAMA),
        ("meta-llama/Llama-3.3-70B-Instruct-FP8-Lora", "meta-llama/Llama-3.3-70B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct-Lora", "Qwen/Qwen2.5-7B-Instruct"),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-3B-Instruct"),
        ("unsloth/llama-3.2-1b-instruct-unsloth-bnb-4bit", "meta-llama/Llama-3.2-1B-Instruct"),
        ("org/another-model-Turbo", None),
        ("-Turbo", None),
        ("", None),
    ],
)
def test_hosted_names_look_like_known_models(hosted: str, known: str | None) -> None:
    assert lookalike(hosted) == known


def test_a_lookalike_is_proposed_and_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "unsloth/Llama-3.1-8B-Instruct-bnb-4bit"
    folder = adapter_for(LLAMA, tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text())
    for changes, how in (
        ({"base_model_name_or_path": name}, {}),
        ({"base_model_name_or_path": None}, {"base_model": name}),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        report = lora_packer.check(folder, weights=False, **how)
        assert report.status == "inconclusive"
        assert report.base_model.config_source is None
        reason = report.unchecked[0].reason
        assert f"'{name}' looks like {LLAMA}: give --base-config {LLAMA}" in reason


KIMI = "moonshotai/Kimi-K2.5"


def names_of_its_own_code(path: str) -> str:
    return path.replace("model.language_model.", "language_model.model.")


def test_names_that_peft_converts_are_recognised(tmp_path: Path) -> None:
    """Kimi K2.5's own code calls its layers language_model.model.layers, and PEFT renames them."""
    own = adapter_for(KIMI, tmp_path / "own", ("q_a_proj", "o_proj"), names_of_its_own_code)
    todays = adapter_for(KIMI, tmp_path / "todays", ("q_a_proj", "o_proj"))
    fits = {item.id for item in lora_packer.identify(todays) if item.fits}
    assert KIMI in fits
    assert {item.id for item in lora_packer.identify(own) if item.fits} >= fits


def test_another_base_is_named_by_names_that_peft_converts(tmp_path: Path) -> None:
    own = adapter_for(KIMI, tmp_path / "own", ("q_a_proj", "o_proj"), names_of_its_own_code)
    report = lora_packer.check(own, base_config=LLAMA, target="peft", weights=False)
    hints = [item.hint or "" for item in report.findings if item.severity == "error"]
    assert any(hint.startswith(f"These tensors fit {KIMI}") for hint in hints), hints
