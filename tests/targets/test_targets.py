"""Targets: what each place that loads an adapter makes of it, as a user sees it through ``check``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY_BASE, ones, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.targets import NAMES, find_target
from lora_packer.targets.features import FEATURES

Cli = Callable[..., Any]
Q = f"{PREFIX}model.layers.0.self_attn.q_proj"


def codes(report: lora_packer.Report, label: str) -> list[tuple[str, str]]:
    return [(item.code, item.severity) for item in report.findings if label in (item.targets or ())]


def checked(folder: Path, target: str, tensors: Any = None, **config: Any) -> lora_packer.Report:
    return lora_packer.check(
        write_adapter(folder / "a", tensors, tiny_config(**config)), base_config=TINY_BASE, target=target, weights=False
    )


# Target, what is in the config, and what is found: code and severity.
FEATURE_CASES: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("vllm", {}, []),
    ("vllm", {"use_rslora": True}, []),
    ("vllm", {"bias": "all"}, [("LP505", "error")]),
    ("vllm", {"init_lora_weights": "pissa_niter_4"}, [("LP505", "error")]),
    ("vllm@0.31.0", {"init_lora_weights": "pissa_niter_4"}, [("LP506", "error")]),
    ("vllm", {"init_lora_weights": "gaussian"}, []),
    ("vllm", {"alpha_pattern": {"q_proj": 3}}, []),
    ("vllm@0.31.0", {"alpha_pattern": {"q_proj": 3}}, [("LP506", "error")]),
    ("vllm@0.31.0", {"alpha_pattern": {"q_proj": 8}, "lora_alpha": 8}, []),
    ("vllm", {"alora_invocation_tokens": [1, 2]}, [("LP505", "error")]),
    ("vllm", {"modules_to_save": ["lm_head"]}, [("LP505", "error")]),
    ("vllm", {"target_modules": ".*_proj"}, []),
    ("sglang", {"use_rslora": True}, [("LP506", "error")]),
    ("sglang", {"target_modules": ".*(q|v)_proj"}, [("LP505", "error")]),
    ("sglang", {"alpha_pattern": {"q_proj": 3}}, [("LP506", "error")]),
    ("llama-cpp", {"use_rslora": True}, [("LP506", "error")]),
    ("llama-cpp", {"alora_invocation_tokens": [1, 2]}, []),
    ("llama-cpp", {"bias": "all"}, []),  # no tensor shows a bias
    ("lmdeploy", {"target_modules": ".*(q|v)_proj"}, [("LP505", "error")]),
    ("mlx", {}, [("LP505", "error")]),
    ("sagemaker", {"bias": "all"}, [("LP507", "warning")]),
    ("together", {"bias": "all"}, [("LP502", "warning")]),
    ("together", {"use_rslora": True}, []),
    ("fireworks", {"use_rslora": True}, [("LP502", "warning")]),
    ("fireworks", {"target_modules": "all-linear"}, [("LP505", "error")]),
    ("cloudflare", {}, [("LP515", "error")]),
    ("cloudflare", {"model_type": "llama"}, []),
    ("portable", {"use_rslora": True}, [("LP506", "error")]),
]


@pytest.mark.parametrize(("target", "config", "found"), FEATURE_CASES, ids=lambda value: str(value)[:50])
def test_what_a_target_does_with_a_feature(
    target: str, config: dict[str, Any], found: list[tuple[str, str]], tmp_path: Path
) -> None:
    report = checked(tmp_path, target, **config)
    limits = ("LP504",)
    assert [item for item in codes(report, target) if item[0] not in limits] == found


def test_a_rank_is_told_with_the_setting_of_the_server(tmp_path: Path) -> None:
    report = checked(tmp_path, "vllm", {f"{Q}.lora_A.weight": ones(24, 48), f"{Q}.lora_B.weight": ones(64, 24)}, r=24)
    (finding,) = [item for item in report.findings if item.code == "LP504"]
    assert (finding.severity, finding.hint) == ("warning", "Start the server with --max-lora-rank 32.")
    assert [item for item in codes(checked(tmp_path, "vllm", r=1000), "vllm") if item[0] == "LP504"] == [
        ("LP504", "error")
    ]
    assert ("LP504", "error") in codes(checked(tmp_path, "fireworks", r=128), "fireworks")
    assert ("LP504", "error") in codes(checked(tmp_path, "fireworks", r=2), "fireworks")


def test_tensors_and_files_show_features_too(tmp_path: Path) -> None:
    head = {**tiny_tensors(), f"{PREFIX}lm_head.weight": ones(112, 48)}
    assert ("LP505", "error") in codes(checked(tmp_path, "vllm", head), "vllm")
    beside = write_adapter(tmp_path / "b")
    (beside / "optimizer.safetensors").write_bytes(b"")
    for target, expected in (("sglang", [("LP511", "error")]), ("vllm", []), ("peft", [])):
        report = lora_packer.check(beside, base_config=TINY_BASE, target=target, weights=False)
        assert codes(report, target) == expected
    outside = {
        **tiny_tensors(),
        f"{PREFIX}model.layers.0.self_attn.zz_proj.lora_A.weight": np.ones((4, 48), np.float32),
    }
    assert ("LP514", "error") in codes(checked(tmp_path, "tgi", outside), "tgi")


def test_tensors_that_are_no_lora_are_refused_by_name(tmp_path: Path) -> None:
    for part in ("lora_velora_embed", "lora_monteclora_sampler.expert_weights"):
        beside = {**tiny_tensors(), f"{Q}.{part}": ones(4, 48)}
        report = checked(tmp_path / part, "vllm,tgi", beside)
        assert codes(report, "vllm").count(("LP505", "error")) == 1
        assert ("LP505", "error") not in codes(report, "tgi")


def test_what_the_model_class_decides_is_never_passed_over(tmp_path: Path) -> None:
    head = {f"{PREFIX}lm_head.lora_A.weight": ones(4, 48), f"{PREFIX}lm_head.lora_B.weight": ones(112, 4)}
    folder = write_adapter(
        tmp_path / "a", {**tiny_tensors(), **head}, tiny_config(target_modules=["q_proj", "v_proj", "lm_head"])
    )
    unknown = {**json.loads(TINY_BASE.read_text()), "architectures": ["OwnForCausalLM"]}
    report = lora_packer.check(folder, base_config=unknown, target="llama-cpp", weights=False)
    (finding,) = [item for item in report.findings if item.code == "LP507"]
    assert "decides by the model's class whether it takes" in finding.message
    assert finding.tensor in head


def test_several_targets_each_have_their_verdict(tmp_path: Path, cli: Cli) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(use_rslora=True))
    asked = ("check", folder, "--base-config", TINY_BASE, "--format", "json")
    result = cli(*asked, "--target", "vllm,sglang", "--target", "vllm@0.31.0")
    told = json.loads(result.out)
    assert result.code == 1
    assert told["target"] == "vllm"
    assert [(item["name"], item["version"], item["status"]) for item in told["targets"]] == [
        ("vllm", "0.33.0", "ok"),
        ("sglang", "0.5.23", "failed"),
        ("vllm", "0.31.0", "ok"),
    ]
    by_code = {item["code"]: item["targets"] for item in told["findings"]}
    assert by_code == {"LP210": None, "LP506": ["sglang"]}
    single = json.loads(cli(*asked, "--target", "vllm").out)
    assert "targets" not in single
    assert single["status"] == "ok"


def test_all_is_a_table_and_the_default_target_decides(tmp_path: Path, cli: Cli) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(use_rslora=True))
    result = cli("check", folder, "--base-config", TINY_BASE, "--target", "all")
    assert result.code == 0
    rows = {line[2:].split()[0]: line for line in result.out.splitlines() if line.startswith(("* ", "  "))}
    assert set(NAMES) <= set(rows)
    assert rows["together"].startswith("* together")
    assert "failed" in rows["sglang"]
    assert "LP506" in rows["sglang"]
    assert "LP506 ignored" not in result.out
    told = lora_packer.check(folder, base_config=TINY_BASE, target="all")
    assert [item.name for item in told.targets] == list(NAMES)
    assert told.ok


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("vlm", "Did you mean vllm?"),
        ("nowhere-at-all", "Known: together, peft, vllm"),
        ("vllm@0.99.0", "Give vllm@0.33.0."),
        ("vllm@0.1.0", "Give vllm@0.6.6."),
        ("vllm@new", "is no release of vllm"),
        ("vllm@", "is no release of vllm"),
        ("together@1.0.0", "has no releases here"),
        ("vllm,,peft", "--target names no target"),
        ("", "target is ''"),
    ],
)
def test_a_target_that_nobody_knows_is_a_sentence(target: str, said: str, cli: Cli) -> None:
    result = cli("check", "anything", "--target", target)
    assert result.code == 2
    assert said in result.out + result.err


OWN = 'engine = "vllm"\nversion = "0.31.0"\nmax_rank = 3\nmodules = ["q_proj"]\ndtypes = ["BF16"]\nmax_bytes = 10\n'


def test_a_server_of_ones_own(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OWN)
    folder = write_adapter(tmp_path / "a", None, tiny_config(alpha_pattern={"q_proj": 3}))
    result = cli("check", folder, "--base-config", TINY_BASE, "--format", "json", "--target-file", file)
    told = json.loads(result.out)
    assert result.code == 1
    assert told["target"] == "mine"
    found = {item["code"] for item in told["findings"] if item["targets"] == ["mine"]}
    assert found == {"LP504", "LP506", "LP512", "LP513", "LP514"}
    both = cli("check", folder, "--base-config", TINY_BASE, "--target", "peft", "--target-file", file)
    assert "mine" in both.out
    assert "peft" in both.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('engin = "vllm"', "Did you mean engine?"),
        ('engine = "vllm"\nmax_rank = "8"', "max_rank is 8, which is not a whole number above 0"),
        ('engine = "vllm"\nmax_rank = true', "max_rank is True"),
        ('engine = "vllm"\nmodules = "q_proj"', "modules is q_proj, which is not a list"),
        ('engine = "vllm"\ndtypes = ["F4"]', "dtypes is"),
        ('engine = "vlm"', "there is no target 'vlm'"),
        ('engine = "vllm"\nversion = "9"', "of vllm 9 nothing is known"),
        ("max_rank = 8", "names no engine"),
        ("engine = ", "is not TOML"),
        ("\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_target_file_that_is_off_is_a_sentence(text: str | None, said: str, tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    result = cli("check", "anything", "--target-file", file)
    assert result.code == 2
    assert said in " ".join((result.out + result.err).split())


EFFECTS = {"supported", "rejected", "crash", "ignored", "wrong", "partial", "unknown", "placed", "untold"}


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_known_feature_effect_and_source(name: str) -> None:
    target = find_target(name)
    for fact in target.facts.values():
        assert fact.of in {*FEATURES}
        assert fact.effect in EFFECTS
        assert fact.source or name == "together"
    if target.kind == "engine" and name != "mlx":
        assert set(target.facts) | {"peft_format"} >= {*FEATURES}, name


def test_each_release_has_one_fact_for_each_feature() -> None:
    for version in ("0.6.6", "0.10.2", "0.12.0", "0.31.0", "0.32.0", "0.33.0"):
        assert set(find_target(f"vllm@{version}").facts) == set(FEATURES) - {"peft_format"}
