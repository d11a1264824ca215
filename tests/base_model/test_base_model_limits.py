"""Base models at the edges: the largest sizes that are read, the first that is not, and what is asked first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from builders import TINY_BASE

from lora_packer.base_model import BaseModel, checkpoint, found_config, hub_config, load, meta
from lora_packer.base_model.checkpoint import load_checkpoint
from lora_packer.base_model.fallback import find_base
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InconclusiveError, InputError

TINY: dict[str, Any] = json.loads(TINY_BASE.read_text())
UNKNOWN = {"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}


@pytest.mark.parametrize(
    ("name", "most", "told"),
    [
        ("vocab_size", 1 << 40, "1,099,511,627,776"),
        ("num_hidden_layers", 10_000, "10,000"),
        ("n_layer", 10_000, "10,000"),
        ("depth", 10_000, "10,000"),
    ],
)
def test_the_largest_size_that_is_read_and_the_next(name: str, most: int, told: str) -> None:
    assert Settings({name: most}, {}).size(name) == most
    with pytest.raises(InputError, match=f"{name} is {most + 1}; it has to be a whole number from 1 to {told}"):
        Settings({name: most + 1}, {}).size(name)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "8", None])
def test_a_size_is_a_positive_whole_number(value: object) -> None:
    with pytest.raises(InputError, match="has to be a whole number from 1 to"):
        Settings({"head_dim": value}, {}).size("head_dim")


def test_a_ratio_is_below_2_to_the_40() -> None:
    assert Settings({"mlp_ratio": 0.5}, {}).ratio("mlp_ratio") == 0.5
    for value in (0, -1.0, float(1 << 40), True, "4", None):
        with pytest.raises(InputError, match="has to be a positive number"):
            Settings({"mlp_ratio": value}, {}).ratio("mlp_ratio")


def test_a_class_that_fills_a_field_in_does_so_where_it_is_null() -> None:
    s = Settings({"cross_attention_layers": None, "vocab_size": None}, "mllama_text_model")
    assert s.indices("cross_attention_layers") == frozenset()
    filled = s.filled("cross_attention_layers")
    assert filled.indices("cross_attention_layers") == {3, 8, 13, 18, 23, 28, 33, 38}
    assert filled.optional_size("vocab_size") is None


@pytest.mark.parametrize(("value", "length"), [(None, 0), ([], 0), ([1, 2], 2)])
def test_the_length_of_a_list(value: object, length: int) -> None:
    assert Settings({"listed": value}, {}).length("listed") == length


def test_the_length_of_what_is_no_list() -> None:
    with pytest.raises(InputError, match="listed is not a list"):
        Settings({"listed": "ab"}, {}).length("listed")


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ({}, 2),
        ({"num_labels": None}, 2),
        ({"num_labels": 0}, 2),
        ({"num_labels": 5}, 5),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3),
        ({"id2label": {"0": "a"}, "num_labels": 7}, 1),
    ],
)
def test_a_classifier_has_two_labels_unless_the_config_says_otherwise(labels: dict[str, Any], rows: int) -> None:
    base = BaseModel.load({**TINY, "architectures": ["LlamaForSequenceClassification"], **labels})
    assert base.modules["score"].weight_shape == (rows, 48)


def test_as_many_modules_as_are_read_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(BaseModel.load(TINY_BASE).modules)
    monkeypatch.setattr(load, "MAX_MODULES", count)
    assert len(BaseModel.load(TINY_BASE).modules) == count
    monkeypatch.setattr(load, "MAX_MODULES", count - 1)
    with pytest.raises(InputError, match=f"more than {count - 1} modules"):
        BaseModel.load(TINY_BASE)


def test_absurdly_many_modules_are_refused_before_they_are_made() -> None:
    assert 249_924 <= load.MAX_MODULES <= 400_000  # the largest known mixture of experts has so many: Kimi-K3
    with pytest.raises(InputError, match=f"more than {load.MAX_MODULES} modules"):
        BaseModel.load({"model_type": "mixtral", "num_hidden_layers": 10_000, "num_local_experts": 1 << 30})


def test_the_largest_config_that_is_read_and_the_next(tmp_path: Path) -> None:
    path, text = tmp_path / "config.json", json.dumps(TINY)
    path.write_text(text.ljust(hub_config.MAX_CONFIG_BYTES))
    assert BaseModel.load(path).model_type == "llama"
    path.write_text(text.ljust(hub_config.MAX_CONFIG_BYTES + 1))
    with pytest.raises(InputError, match=r"it has more than 4,000,000 bytes"):
        BaseModel.load(path)


@pytest.mark.parametrize("name", ["a/b/c", "./gone", "~/gone", "gone.json", "org/gone.json"])
def test_what_cannot_be_a_hub_id_is_a_missing_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def asked(_name: str) -> bytes:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(found_config, "hub_config", asked)
    with pytest.raises(InputError, match="there is no file"):
        BaseModel.load(name)


def _folder(tmp_path: Path, weight_map: dict[str, str]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(UNKNOWN))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


def test_the_largest_index_that_is_read_and_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path, {"a": "gone.safetensors"})
    size = (folder / "model.safetensors.index.json").stat().st_size
    monkeypatch.setattr(checkpoint, "_MAX_INDEX_BYTES", size)
    with pytest.raises(InconclusiveError, match=r"gone\.safetensors cannot be read"):
        load_checkpoint(folder)
    monkeypatch.setattr(checkpoint, "_MAX_INDEX_BYTES", size - 1)
    with pytest.raises(InconclusiveError, match="is too large"):
        load_checkpoint(folder)


def test_as_many_shards_as_are_read_and_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    monkeypatch.setattr(checkpoint, "_MAX_SHARDS", 2)
    with pytest.raises(InconclusiveError, match="cannot be read"):
        load_checkpoint(folder)
    monkeypatch.setattr(checkpoint, "_MAX_SHARDS", 1)
    with pytest.raises(InconclusiveError, match="names files outside its folder"):
        load_checkpoint(folder)


def test_the_installed_transformers_is_asked_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names are those of the running model; a checkpoint's may be those under which it was saved."""
    order = []

    def installed(_config: object, _source: object) -> BaseModel:
        order.append("transformers")
        raise InconclusiveError("transformers cannot build it.")

    def headers(_source: object) -> BaseModel:
        order.append("checkpoint")
        return BaseModel.load(TINY_BASE)

    monkeypatch.setattr(meta, "is_available", lambda: True)
    monkeypatch.setattr(meta, "load_meta", installed)
    monkeypatch.setattr(checkpoint, "load_checkpoint", headers)
    assert find_base(_folder(tmp_path, {})).model_type == "llama"
    assert order == ["transformers", "checkpoint"]


class _Layer:
    """A torch module that holds parameters itself."""

    def __init__(self, *, is_transposed: bool, **shapes: tuple[int, ...]) -> None:
        self.is_transposed = is_transposed
        self.shapes = shapes

    def named_parameters(self, *, recurse: bool) -> Iterator[tuple[str, SimpleNamespace]]:
        assert not recurse
        return iter([(name, SimpleNamespace(shape=shape)) for name, shape in self.shapes.items()])


class _Linear(_Layer):
    """A torch linear, of a class that may have parameters of its own."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__(is_transposed=False, **shapes)
        self.weight, self.bias = SimpleNamespace(shape=shapes["weight"]), None


def test_what_a_class_adds_to_a_layer_is_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_torch(monkeypatch, _Linear)
    layers = {"lm_head": _Linear(weight=(48, 64), logit_scale=(48,))}
    modules = meta.modules_of(SimpleNamespace(named_modules=lambda: iter(layers.items())))
    assert {path: (module.kind, module.weight_shape) for path, module in modules.items()} == {
        "lm_head": ("linear", (48, 64)),
        "lm_head.logit_scale": ("parameter", (48,)),
    }


def _fake_torch(monkeypatch: pytest.MonkeyPatch, linear: type) -> None:
    torch, utils = ModuleType("torch"), ModuleType("transformers.pytorch_utils")
    kinds = ("Embedding", "Conv1d", "Conv2d", "Conv3d")
    torch.nn = SimpleNamespace(Linear=linear, **{name: type(name, (), {}) for name in kinds})  # type: ignore[attr-defined]
    utils.Conv1D = type("Conv1D", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", utils)


def test_only_experts_of_three_dimensions_are_stored_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias beside them has two, and a module that does not say so has none."""
    _fake_torch(monkeypatch, type("Linear", (), {}))
    layers = {
        "": _Layer(is_transposed=False, scale=(4,)),
        "experts": _Layer(is_transposed=True, gate_up_proj=(8, 4, 6), gate_up_proj_bias=(8, 6)),
        "others": _Layer(is_transposed=False, gate_up_proj=(8, 6, 4)),
    }
    modules = meta.modules_of(SimpleNamespace(named_modules=lambda: iter(layers.items())))
    assert {path: (module.weight_shape, module.transposed) for path, module in modules.items()} == {
        "scale": ((4,), False),
        "experts.gate_up_proj": ((8, 4, 6), True),
        "experts.gate_up_proj_bias": ((8, 6), False),
        "others.gate_up_proj": ((8, 6, 4), False),
    }
