"""What was not checked never reads as fine: every rule is run, or named with a reason, whatever is selected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import PREFIX, TINY_BASE, raw_safetensors, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.inspector import RULES

Q0 = PREFIX + "model.layers.0.self_attn.q_proj"
AGAINST_BASE = {code for code in RULES if code.startswith("LP3") and code != "LP319"}
OTHER_WIDTH = {**json.loads(TINY_BASE.read_text()), "hidden_size": 32}


def full(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, 0.3, np.float32)


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def no_config(folder: Path) -> None:
    without(write_adapter(folder), "adapter_config.json")


def no_weights(folder: Path) -> None:
    without(write_adapter(folder), "adapter_model.safetensors")


def damaged(folder: Path) -> None:
    write_adapter(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\0" * 40)


def with_config(text: str | None = None, **changes: Any) -> Callable[[Path], object]:
    return lambda folder: write_adapter(folder, None, text or tiny_config(**changes))


def foreign(folder: Path) -> None:
    names = {n.removeprefix(PREFIX).replace(".lora_A.weight", ".lora_a").replace(".lora_B.weight", ".lora_b"): t
             for n, t in tiny_tensors().items()}  # fmt: skip
    write_adapter(folder, names)


# what it is, the adapter, the reason that has to be given for every rule about the base model
NOT_COMPARED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (no_config, "adapter_config.json is missing"),
    "an invalid field": (with_config(bias="some"), "not known before it is corrected"),
    "a combination that PEFT refuses": (with_config(lora_bias=True, use_dora=True), "before it is corrected"),
    "another method": (with_config(peft_type="LOHA"), "before it is corrected"),
    "no JSON": (with_config("{"), "adapter_config.json could not be read"),
    "no weights": (no_weights, "adapter_model.safetensors is missing"),
    "damaged weights": (damaged, "adapter_model.safetensors could not be read"),
    "no tensors": (lambda folder: write_adapter(folder, {}), "holds no tensors"),
    "another framework's names": (foreign, "MLX"),
    "a pattern that is none": (with_config(target_modules="(q_proj"), "a pattern in adapter_config.json"),
    "a pattern that is not evaluated": (with_config(target_modules=r"(.*)(q_proj|v_proj)\2?"), "not evaluated"),
    "layers that there are not": (with_config(layer_replication=[[0, 9]]), "layer_replication has to be corrected"),
    "no target": (with_config(target_modules=["misspelt"]), "targets nothing"),
}


@pytest.mark.parametrize(("write", "why"), NOT_COMPARED.values(), ids=NOT_COMPARED)
@pytest.mark.parametrize("base", [TINY_BASE, OTHER_WIDTH], ids=["its base", "another base"])
def test_what_was_not_compared_is_named(tmp_path: Path, write: Any, why: str, base: Any) -> None:
    write(tmp_path / "a")
    whole = lora_packer.check(tmp_path / "a", base_config=base, target="peft")
    assert whole.status == ("inconclusive" if why == "not evaluated" else "failed")
    reasons = {item.code: item.reason for item in whole.unchecked}
    missing = AGAINST_BASE - {"LP318"} - reasons.keys()  # of the vocabulary the reading says
    assert not missing
    assert all(why in reasons[code] for code in AGAINST_BASE - {"LP318"}), reasons
    found = {finding.code for finding in whole.findings if finding.severity == "error"}
    for select, ignore in ((["LP3"], sorted(found)), (["LP301"], []), ([], sorted(found)), (["LP306"], [])):
        part = lora_packer.check(tmp_path / "a", base_config=base, target="peft", select=select, ignore=ignore)
        assert part.status == "inconclusive", (select, ignore, part.findings)


@pytest.mark.parametrize(
    ("tensors", "config", "not_run"),
    [
        (None, {"r": 8}, {"LP301", "LP302", "LP315"}),
        ({n.replace(".weight", ".mine.weight"): t for n, t in tiny_tensors().items()}, {}, {"LP311", "LP312"}),
        ({Q0 + ".lora_A.weight": full(0, 48), Q0 + ".lora_B.weight": full(64, 0)}, {}, {"LP302", "LP303"}),
    ],
    ids=["rank", "adapter name", "empty"],
)
def test_without_a_base_config_the_rules_that_need_it_are_named(
    tmp_path: Path, tensors: Any, config: dict[str, Any], not_run: set[str]
) -> None:
    folder = write_adapter(tmp_path / "a", tensors, tiny_config(base_model_name_or_path=None, **config))
    report = lora_packer.check(folder, target="peft")
    assert report.status != "ok"
    named = {item.code for item in report.unchecked}
    assert named == {code for code, rule in RULES.items() if rule.needs == "base" and code != "LP516"}  # of vLLM alone
    assert named >= not_run | {"LP302", "LP305", "LP312"}
    for code in sorted(named):
        assert lora_packer.check(folder, target="peft", select=[code]).status in ("inconclusive", "failed"), code


@pytest.mark.parametrize("shape", [(0,), (0, 48)])
def test_tensors_without_elements_are_that_also_without_a_base(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensors = {name: np.zeros(shape, np.float32) for name in tiny_tensors()}
    report = lora_packer.check(write_adapter(tmp_path / "a", tensors, tiny_config(base_model_name_or_path=None)))
    assert [(f.code, f.count) for f in report.findings] == [("LP305", 8)]


def test_half_pairs_need_no_base(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None))
    assert lora_packer.check(folder, select=["LP306"]).status == "ok"


@pytest.mark.parametrize("codes", [["LP4"], ["LP105"]])
def test_values_that_could_not_be_read_are_not_fine(tmp_path: Path, codes: list[str]) -> None:
    no_weights(tmp_path / "a")
    report = lora_packer.check(tmp_path / "a", base_config=TINY_BASE, select=codes)
    assert (report.status, report.findings) == ("inconclusive", ())
    spared = lora_packer.check(tmp_path / "a", base_config=TINY_BASE, select=["LP401"], weights=False)
    assert (spared.status, [item.code for item in spared.unchecked]) == ("ok", ["LP401"])


def test_the_config_itself(tmp_path: Path) -> None:
    no_config(tmp_path / "a")
    for code in ("LP102", "LP103", "LP2", "LP5"):
        assert lora_packer.check(tmp_path / "a", base_config=TINY_BASE, select=[code]).status == "inconclusive", code
    assert lora_packer.check(tmp_path / "a", base_config=TINY_BASE, select=["LP104", "LP4"]).status == "ok"


def test_each_reason_names_the_file_that_it_is_about(tmp_path: Path) -> None:
    no_weights(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text("{")
    reasons = {item.code: item.reason for item in lora_packer.check(tmp_path / "a", base_config=TINY_BASE).unchecked}
    assert reasons["LP202"] == "adapter_config.json could not be read"
    assert reasons["LP401"] == "adapter_model.safetensors is missing"
    assert reasons["LP301"] == f"{reasons['LP401']}; {reasons['LP202']}"
    assert all(reasons.values())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A base model of an unknown type, of which only the checkpoint's headers tell."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "new", "architectures": ["NewForCausalLM"]}))
    header: dict[str, Any] = {}
    at = 0
    for path, module in BaseModel.load(TINY_BASE).modules.items():
        size = 2 * int(np.prod(module.weight_shape))
        name = path if module.kind == "parameter" else f"{path}.weight"
        header[name] = {"dtype": "BF16", "shape": module.weight_shape, "data_offsets": [at, at + size]}
        at += size
    (folder / "model.safetensors").write_bytes(raw_safetensors(header, bytes(at)))
    return folder


EMBED, HEAD = PREFIX + "model.embed_tokens.weight", PREFIX + "lm_head.weight"


@pytest.mark.parametrize(
    ("change", "status", "codes"),
    [
        (lambda tensors: tensors, "ok", []),
        (lambda tensors: {n.replace("layers", "blocks"): t for n, t in tensors.items()}, "inconclusive", []),
        (lambda tensors: {**tensors, Q0 + ".lora_A.weight": full(4, 40)}, "failed", ["LP301"]),
        (lambda tensors: {n: t for n, t in tensors.items() if "lora_B" not in n}, "failed", ["LP306"]),
        (lambda tensors: {**tensors, EMBED: full(100, 48), HEAD: full(100, 48)}, "failed", ["LP318"]),
    ],
    ids=["its own", "other names", "another shape", "halves", "a smaller vocabulary"],
)
def test_the_names_of_a_checkpoint_decide_nothing_and_its_shapes_do(
    tmp_path: Path, checkpoint: Path, change: Any, status: str, codes: list[str]
) -> None:
    folder = write_adapter(tmp_path / "a", change(tiny_tensors()))
    report = lora_packer.check(folder, base_config=checkpoint, target="peft")
    assert (report.status, [finding.code for finding in report.findings]) == (status, codes)
    assert ({item.code for item in report.unchecked} >= AGAINST_BASE) == (status == "inconclusive")


def test_the_names_of_a_checkpoint_decide_nothing_where_the_config_is_wrong_too(
    tmp_path: Path, checkpoint: Path
) -> None:
    tensors = {name.replace(PREFIX, PREFIX + "model.", 1): tensor for name, tensor in tiny_tensors().items()}
    folder = write_adapter(tmp_path / "a", tensors, tiny_config(target_modules=["q_proj"]))
    report = lora_packer.check(folder, base_config=checkpoint, target="peft")
    assert (report.status, report.findings) == ("inconclusive", ())


def test_every_rule_has_a_stage_and_every_stage_names_its_rules() -> None:
    from lora_packer.inspector.stages import STAGES

    runs = [rule.code for stage in STAGES for rule in stage.runs]
    assert sorted(runs) == sorted(RULES)


def test_all_is_run_on_an_adapter_that_is_fine(tmp_path: Path) -> None:
    report = lora_packer.check(write_adapter(tmp_path / "a"), base_config=TINY_BASE)
    assert (report.status, report.unchecked) == ("ok", ())
    for code in RULES:
        assert lora_packer.check(tmp_path / "a", base_config=TINY_BASE, select=[code]).status == "ok"
