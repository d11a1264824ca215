"""A base model without a definition: from the headers of its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import TINY_BASE, write_adapter
from safetensors.numpy import save_file

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.base_model.checkpoint import from_tensors, load_checkpoint


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {}
    for path, module in BaseModel.load(TINY_BASE).modules.items():
        shapes[path if module.kind == "parameter" else f"{path}.weight"] = module.weight_shape
    return shapes


def save(folder: Path, config: dict[str, Any], shards: int, shapes: dict[str, tuple[int, ...]]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: t for name, t in tensors.items() if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


UNKNOWN = {"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_modules_are_those_of_the_file(tmp_path: Path, shards: int, tied: bool) -> None:
    shapes = {name: shape for name, shape in tiny_shapes().items() if not (tied and name.startswith("lm_head"))}
    base = load_checkpoint(save(tmp_path / "base", UNKNOWN, shards, shapes))
    defined = BaseModel.load(TINY_BASE)
    assert dict(base.modules) == dict(defined.modules)
    assert (base.model_type, base.head, base.input_embedding) == ("brand_new", "causal-lm", "model.embed_tokens")
    assert base.vocab_size == 112
    resized = base.with_vocab(120)
    assert (resized.vocab_size, resized.modules["lm_head"].weight_shape) == (120, (120, 48))
    assert base.with_head("none") is base


def test_biases_and_convolutions() -> None:
    tensors = {
        "wte.weight": (8, 4),
        "a.weight": (3, 4),
        "a.bias": (3,),
        "c.weight": (2, 3, 5),
        "n.weight": (4,),
        "n.bias": (4,),
        "x": (2, 3, 4),
    }
    modules = from_tensors({"model_type": "new", "architectures": ["NewModel"]}, tensors, None).modules
    assert modules["a"].bias
    assert {path: module.kind for path, module in modules.items()} == {
        "wte": "embedding", "a": "linear", "c": "conv", "n.weight": "parameter", "n.bias": "parameter", "x": "parameter",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "shapes", "says"),
    [
        (UNKNOWN, {"q.qweight": (8, 4)}, "quantised"),
        ({**UNKNOWN, "quantization_config": {}}, {"wte.weight": (8, 4)}, "quantised"),
        (UNKNOWN, {"q.weight": (8, 4)}, "no input embedding"),
    ],
)
def test_what_headers_cannot_tell(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(lora_packer.InconclusiveError, match=says):
        from_tensors(config, shapes, None)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (None, "neither model.safetensors nor"),
        ("{", "not a safetensors index"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "outside its folder"),
        ('{"weight_map": {"a": 3}}', "outside its folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "cannot be read"),
    ],
)
def test_a_folder_without_a_checkpoint(tmp_path: Path, index: str | None, says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(UNKNOWN))
    if index is not None:
        (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(lora_packer.InconclusiveError, match=says):
        load_checkpoint(tmp_path)


def test_the_hub_is_asked_only_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(lora_packer.InconclusiveError, match="could not be"):
        load_checkpoint("org/unknown")


def test_check_judges_by_the_checkpoint_where_there_is_no_definition(tmp_path: Path) -> None:
    base = save(tmp_path / "base", UNKNOWN, 1, tiny_shapes())
    adapter = write_adapter(tmp_path / "a")
    report = lora_packer.check(adapter, base_config=base)
    assert (report.status, report.findings) == ("ok", ())
    assert report.base_model.model_type == "brand_new"
    other = {name: tuple(2 * n for n in shape) for name, shape in tiny_shapes().items()}
    report = lora_packer.check(adapter, base_config=save(tmp_path / "other", UNKNOWN, 1, other))
    assert [finding.code for finding in report.findings] == ["LP301"]


def test_names_that_the_checkpoint_does_not_have_are_no_verdict(tmp_path: Path) -> None:
    renamed = {
        name.replace("model.layers", "language_model.model.layers"): shape for name, shape in tiny_shapes().items()
    }
    report = lora_packer.check(write_adapter(tmp_path / "a"), base_config=save(tmp_path / "base", UNKNOWN, 1, renamed))
    assert report.status == "inconclusive"
    assert report.findings == ()
    assert "names" in report.unchecked[0].reason
