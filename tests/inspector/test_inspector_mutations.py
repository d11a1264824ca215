"""Every kind of damage on adapters that PEFT wrote, of every architecture: noticed, named, and one error for one cause."""

from __future__ import annotations

import json
import random
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders import PREFIX, ROOT

from lora_packer.adapter import LoraConfig, TensorInfo, open_source, read_adapter
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.keys import parse_key
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.inspector.diagnosis import diagnose

Tensors = Mapping[str, TensorInfo]
VARIANTS = ("qv", "alllinear", "dora", "rankpat", "embed", "tparams", "mts", "tokens", "lora_bias")


class Written(NamedTuple):
    """An adapter as PEFT wrote it."""

    name: str
    raw: Mapping[str, Any]
    config: LoraConfig
    base: BaseModel
    tensors: Tensors


def shaped(tensors: Tensors, change: Callable[[str, tuple[int, ...]], tuple[int, ...]]) -> Tensors:
    return {name: info._replace(shape=change(name, info.shape)) for name, info in tensors.items()}


def named(tensors: Tensors, change: Callable[[str], str]) -> Tensors:
    return {change(name): info for name, info in tensors.items()}


def without(tensors: Tensors, lost: Callable[[str], object]) -> Tensors:
    return {name: info for name, info in tensors.items() if not lost(name)}


def swapped(name: str) -> str:
    return re.sub(r"lora_([AB])\.weight", lambda match: f"lora_{'AB'[match[1] == 'A']}.weight", name)


def other_sizes(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank_axis = 0 if "_A" in name else 1 if "_B" in name else -1
    return tuple(56 if size == 48 and axis != rank_axis else size for axis, size in enumerate(shape))


def first_pair(tensors: Tensors) -> str:
    return next((name for name in sorted(tensors) if name.endswith(".lora_A.weight")), "")


def lost_at_random(tensors: Tensors) -> Tensors:
    chance = random.Random(len(tensors))
    return without(tensors, lambda _: chance.random() < 0.4)


INSIDE_LAYERS = re.compile(r"\.(\d+)\.")
LAST_LAYER = re.compile(r"^([^0-9]*\.)1(?=\.)")

# what it is, what happens to the tensors, the rule that has to name it
MUTATIONS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "prefix lost": (lambda t: named(t, lambda n: n.removeprefix(PREFIX)), "LP311"),
    "prefix halved": (lambda t: named(t, lambda n: n.removeprefix("base_model.")), "LP311"),
    "prefix doubled": (lambda t: named(t, lambda n: PREFIX + n), "LP311"),
    "one model. too many": (lambda t: named(t, lambda n: n.replace(PREFIX, PREFIX + "model.", 1)), "LP311"),
    "one model. lost": (lambda t: named(t, lambda n: n.replace(PREFIX + "model.", PREFIX, 1)), "LP311"),
    "torch.compile in front": (lambda t: named(t, lambda n: "_orig_mod." + n), "LP311"),
    "torch.compile": (lambda t: named(t, lambda n: n.replace(PREFIX, PREFIX + "_orig_mod.")), "LP311"),
    "FSDP": (lambda t: named(t, lambda n: INSIDE_LAYERS.sub(r".\1._fsdp_wrapped_module.", n, count=1)), "LP311"),
    "checkpointed": (
        lambda t: named(t, lambda n: INSIDE_LAYERS.sub(r".\1._checkpoint_wrapped_module.", n, count=1)),
        "LP311",
    ),
    "data-parallel": (lambda t: named(t, lambda n: "module." + n), "LP311"),
    "data-parallel inside": (lambda t: named(t, lambda n: n.replace(PREFIX, PREFIX + "module.")), "LP311"),
    "lower case": (lambda t: named(t, lambda n: n.replace("lora_A", "lora_a").replace("lora_B", "lora_b")), "LP311"),
    "no .weight": (lambda t: named(t, lambda n: re.sub(r"(lora_[AB])\.weight$", r"\1", n)), "LP311"),
    "transposed": (
        lambda t: shaped(t, lambda n, s: s[::-1] if n.endswith((".lora_A.weight", ".lora_B.weight")) else s),
        "LP303",
    ),
    "one transposed": (lambda t: shaped(t, lambda n, s: s[::-1] if n == first_pair(t) else s), "LP303"),
    "swapped": (lambda t: named(t, swapped), "LP304|LP303"),  # a square layer's pair looks the same either way
    "another hidden size": (lambda t: shaped(t, other_sizes), "LP301"),
    "more key/value heads": (
        lambda t: shaped(t, lambda n, s: (2 * s[0], *s[1:]) if re.search(r"\.[kv]_proj\.lora_(B|m)", n) else s),
        "LP301",
    ),
    "ungathered": (lambda t: shaped(t, lambda n, s: (0,)), "LP305"),
    "ungathered lora_B": (lambda t: shaped(t, lambda n, s: (0,) if "lora_B.weight" in n else s), "LP305"),
    "flattened": (lambda t: shaped(t, lambda n, s: (s[0] * s[1],) if "lora_A.weight" in n else s), "LP301"),
    "rank": (lambda t: shaped(t, lambda n, s: (s[0] + 1, *s[1:]) if "lora_A." in n else s), "LP302"),
    "rank of one": (lambda t: shaped(t, lambda n, s: (s[0] + 1, *s[1:]) if n == first_pair(t) else s), "LP302"),
    "one tensor lost": (lambda t: without(t, lambda n: n == first_pair(t)), "LP306"),
    "no lora_B": (lambda t: without(t, lambda n: n.endswith("lora_B.weight")), "LP306"),
    "no lora_A": (lambda t: without(t, lambda n: n.endswith("lora_A.weight")), "LP306"),
    "a layer lost": (lambda t: without(t, LAST_LAYER.search), "LP307"),
    "a layer renumbered": (lambda t: named(t, lambda n: LAST_LAYER.sub(r"\g<1>77", n)), "LP317"),
    "no magnitudes": (lambda t: without(t, lambda n: n.endswith("magnitude_vector")), "LP308"),
    "short magnitudes": (lambda t: shaped(t, lambda n, s: (s[0] - 1,) if "magnitude" in n else s), "LP301"),
    "embeddings with .weight": (
        lambda t: named(t, lambda n: n + ".weight" if "lora_embedding_" in n else n),
        "LP311",
    ),
    "no token rows": (lambda t: without(t, lambda n: n.endswith("trainable_tokens_delta")), "LP308"),
    "no saved weights": (lambda t: without(t, lambda n: not parse_key(n).part), "LP308"),
    "saved weights under an old name": (
        lambda t: named(t, lambda n: n if parse_key(n).part else n.replace(".weight", ".modules_to_save.weight")),
        "LP311",
    ),
    "lost at random": (lost_at_random, "LP306|LP307|LP308"),
    "an unknown module": (
        lambda t: {**t, PREFIX + "model.zzz.lora_A.weight": TensorInfo("F32", (4, 5), 0, 0)},
        "LP316",
    ),
}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    folder = tmp_path_factory.mktemp("peft")
    with tarfile.open(ROOT / "fixtures" / "peft-adapters.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return list(_read(folder))


def _read(folder: Path) -> Iterator[Written]:
    for oracle in sorted(folder.glob("*/*/oracle.json")):
        config = json.loads((oracle.parent / "base_config.json").read_text())
        if not oracle.parent.name.endswith(tuple(f"-{variant}" for variant in VARIANTS)):
            continue
        if config["model_type"] in ARCHITECTURES:
            with open_source(next(oracle.parent.rglob("adapter_config.json")).parent) as source:
                adapter = read_adapter(source)
            assert adapter.config is not None
            name = f"{oracle.parent.parent.name}/{oracle.parent.name}"
            yield Written(name, adapter.raw_config, adapter.config, BaseModel.load(config), adapter.tensors)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_is_one_named_error(mutation: str, adapters: list[Written]) -> None:
    change, code = MUTATIONS[mutation]
    assert len(adapters) > 30
    wrong = []
    tried = 0
    for name, _, config, base, tensors in adapters:
        mutated = change(tensors)
        if mutated == tensors or len(mutated) < len(tensors) / 4:
            continue
        tried += 1
        errors = diagnose(config, base, mutated).errors
        if [1 for error in errors if re.fullmatch(code, error.code) and error.tensor] != [1]:
            wrong.append((name, [(error.code, error.count, error.message) for error in errors]))
    assert tried
    assert wrong == []


def dropped(raw: dict[str, Any], field: str, absent: Any = None) -> bool:
    """Take a field's value away; whether it had one."""
    had = bool(raw.get(field))
    raw[field] = absent
    return had


def one_target_less(raw: dict[str, Any], entry: str | None = None) -> bool:
    targets = raw["target_modules"]
    if not isinstance(targets, list) or len(targets) < 2 or raw.get("target_parameters"):
        return False
    raw["target_modules"] = [*sorted(targets)[1:], *([entry] if entry else [])]
    return True


def excluding(raw: dict[str, Any]) -> bool:
    targets = raw["target_modules"]
    raw["exclude_modules"] = sorted(targets)[:1]
    return isinstance(targets, list) and len(targets) > 1 and not raw.get("target_parameters")


def gate_up(raw: dict[str, Any]) -> bool:
    """PEFT's own pattern for parameters that are not there in every model."""
    return any("gate_up" in key for key in raw["rank_pattern"])


# what it is, what happens to the config (False where it does not apply), the rule, and the field or part of the message
CONFIG_MUTATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "rank": (lambda c: c.update(r=c["r"] + 1) or True, "LP302", "the config gives"),
    "rank lost": (lambda c: c.pop("r") is not None, "LP302", "the config gives"),
    "rank_pattern lost": (lambda c: not gate_up(c) and dropped(c, "rank_pattern", {}), "LP302", "the config gives"),
    "a target lost": (one_target_less, "LP313", "does not target"),
    "a target misspelt": (lambda c: one_target_less(c, "misspelt"), "LP313", "does not target"),
    "a target excluded": (excluding, "LP313", "does not target"),
    "DoRA off": (lambda c: dropped(c, "use_dora", False), "LP314", "use_dora"),
    "DoRA on": (
        lambda c: not (c["lora_bias"] or c.get("target_parameters") or c["use_dora"]) and not c.update(use_dora=True),
        "LP308",
        "use_dora",
    ),
    "lora_bias off": (lambda c: dropped(c, "lora_bias", False), "LP314", "lora_bias"),
    "tokens off": (lambda c: dropped(c, "trainable_token_indices"), "LP314", "trainable_token_indices"),
    "other tokens": (
        lambda c: dropped(c, "trainable_token_indices", [1, 2, 4, 5]),
        "LP301",
        "number of trained tokens 3 instead of 4",
    ),
    "another task": (
        lambda c: c["task_type"] == "CAUSAL_LM" and not c.update(task_type="SEQ_CLS"),
        "LP308",
        "task_type is SEQ_CLS",
    ),
    "nothing targeted": (
        lambda c: not c.get("target_parameters") and not c.update(target_modules=["misspelt"]),
        "LP206",
        "misspelt",
    ),
    "a list as a string": (
        lambda c: not c.get("target_parameters") and not c.update(target_modules="q_proj"),
        "LP206",
        "q_proj",
    ),
}


@pytest.mark.parametrize("mutation", CONFIG_MUTATIONS)
def test_every_mutation_of_the_config_is_one_named_error(mutation: str, adapters: list[Written]) -> None:
    change, code, says = CONFIG_MUTATIONS[mutation]
    wrong = []
    tried = 0
    for name, raw, _, base, tensors in adapters:
        changed = json.loads(json.dumps(dict(raw)))
        if not change(changed):
            continue
        config, problems = parse_config(changed)
        assert not problems
        tried += 1
        errors = diagnose(config, base, tensors).errors
        told = [(error.code, error.count, error.message) for error in errors]
        if len(told) != 1 or told[0][0] != code or says not in told[0][2] + str(errors[0].field):
            wrong.append((name, told))
    assert tried
    assert wrong == []
