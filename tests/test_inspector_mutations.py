"""Every kind of damage on adapters that PEFT wrote, of every architecture: noticed, named, and one error for one cause."""

from __future__ import annotations

import dataclasses
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from builders import PREFIX, ROOT

from lora_packer.adapter import LoraConfig, TensorInfo, open_source, read_adapter
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.inspector.against import against

Tensors = Mapping[str, TensorInfo]
VARIANTS = ("qv", "alllinear", "dora", "rankpat", "embed", "tparams")


def shaped(tensors: Tensors, change: Callable[[str, tuple[int, ...]], tuple[int, ...]]) -> Tensors:
    return {name: info._replace(shape=change(name, info.shape)) for name, info in tensors.items()}


def named(tensors: Tensors, change: Callable[[str], str]) -> Tensors:
    return {change(name): info for name, info in tensors.items()}


def swapped(name: str) -> str:
    return name.replace("lora_A.", "?").replace("lora_B.", "lora_A.").replace("?", "lora_B.")


def other_sizes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank_axis = 0 if "_A" in name else 1 if "_B" in name else -1
    return tuple(56 if size == 48 and axis != rank_axis else size for axis, size in enumerate(shape))


LAST_LAYER = re.compile(r"^([^0-9]*\.)1(?=\.)")

# what it is, what happens to the tensors, the rule that has to name it
MUTATIONS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "prefix lost": (lambda t: named(t, lambda n: n.removeprefix(PREFIX)), "LP311"),
    "prefix doubled": (lambda t: named(t, lambda n: PREFIX + n), "LP311"),
    "torch.compile": (lambda t: named(t, lambda n: n.replace(PREFIX, PREFIX + "_orig_mod.")), "LP311"),
    "FSDP": (lambda t: named(t, lambda n: re.sub(r"\.(\d+)\.", r".\1._fsdp_wrapped_module.", n, count=1)), "LP311"),
    "data-parallel": (lambda t: named(t, lambda n: "module." + n), "LP311"),
    "lower case": (lambda t: named(t, lambda n: n.replace("lora_A", "lora_a").replace("lora_B", "lora_b")), "LP311"),
    "transposed": (
        lambda t: shaped(t, lambda n, s: s[::-1] if n.endswith((".lora_A.weight", ".lora_B.weight")) else s),
        "LP303",
    ),
    "swapped": (lambda t: named(t, swapped), "LP304|LP303"),  # a square layer's pair looks the same either way
    "another hidden size": (lambda t: shaped(t, other_sizes), "LP301"),
    "ungathered": (lambda t: shaped(t, lambda n, s: (0,)), "LP305"),
    "rank": (lambda t: shaped(t, lambda n, s: (s[0] + 1, *s[1:]) if "lora_A." in n else s), "LP302"),
    "no lora_B": (lambda t: {n: i for n, i in t.items() if not n.endswith("lora_B.weight")}, "LP306"),
    "no lora_A": (lambda t: {n: i for n, i in t.items() if not n.endswith("lora_A.weight")}, "LP306"),
    "a layer lost": (lambda t: {n: i for n, i in t.items() if not LAST_LAYER.search(n)}, "LP307"),
    "a layer renumbered": (lambda t: named(t, lambda n: LAST_LAYER.sub(r"\g<1>77", n)), "LP317"),
    "an unknown module": (
        lambda t: {**t, PREFIX + "model.zzz.lora_A.weight": TensorInfo("F32", (4, 5), 0, 0)},
        "LP316",
    ),
}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, LoraConfig, BaseModel, Tensors]]:
    folder = tmp_path_factory.mktemp("peft")
    with tarfile.open(ROOT / "fixtures" / "peft-adapters.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return list(_read(folder))


def _read(folder: Path) -> Iterator[tuple[str, LoraConfig, BaseModel, Tensors]]:
    for oracle in sorted(folder.glob("*/*/oracle.json")):
        config = json.loads((oracle.parent / "base_config.json").read_text())
        if not oracle.parent.name.endswith(tuple(f"-{variant}" for variant in VARIANTS)):
            continue
        if config["model_type"] in ARCHITECTURES:
            with open_source(next(oracle.parent.rglob("adapter_config.json")).parent) as source:
                adapter = read_adapter(source)
            assert adapter.config is not None
            yield (
                f"{oracle.parent.parent.name}/{oracle.parent.name}",
                adapter.config,
                BaseModel.load(config),
                adapter.tensors,
            )


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_is_one_named_error(
    mutation: str, adapters: list[tuple[str, LoraConfig, BaseModel, Tensors]]
) -> None:
    change, code = MUTATIONS[mutation]
    assert len(adapters) > 30
    wrong = []
    tried = 0
    for name, config, base, tensors in adapters:
        mutated = change(tensors)
        if mutated == tensors:
            continue
        tried += 1
        errors = against(config, base, mutated).errors
        if len(errors) != 1 or not re.fullmatch(code, errors[0].code):
            wrong.append((name, [(error.code, error.count, error.message) for error in errors]))
    assert tried
    assert wrong == []


def test_a_config_that_names_less_or_other_layers_is_one_error(
    adapters: list[tuple[str, LoraConfig, BaseModel, Tensors]],
) -> None:
    tried = 0
    for name, config, base, tensors in adapters:
        targets = config.target_modules
        if not isinstance(targets, tuple) or len(targets) < 2 or config.target_parameters:
            continue
        tried += 1
        for changed in (
            dataclasses.replace(config, target_modules=targets[:1]),
            dataclasses.replace(config, exclude_modules=targets[:1]),
        ):
            errors = against(changed, base, tensors).errors
            assert [error.code for error in errors] == ["LP313"], (name, errors)
    assert tried
