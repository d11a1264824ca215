"""Fuzz the inspector: what the rules make is accepted, and any single change to it is noticed.

For a random base model of any defined type and a random LoRA config on it, the tensors that the rules call for have to
be accepted without an error, under whatever names and layout (transformers' and PEFT's versions) they were made; then
one thing is changed, in a tensor or in the config, and a finding has to say so. Prints every case that does not hold
with the seed that makes it again, and exits 1.

usage: python tools/fuzz.py --cases N [--seed S] [--only TYPE ...]
"""

from __future__ import annotations

import argparse
import copy
import functools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_packer.adapter import LoraConfig, TensorInfo  # noqa: E402
from lora_packer.adapter.config import TASK_TYPES, parse_config  # noqa: E402
from lora_packer.adapter.keys import PREFIX  # noqa: E402
from lora_packer.base_model import ARCHITECTURES, BaseModel  # noqa: E402
from lora_packer.base_model.defaults import recorded  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402
from lora_packer.finding import Finding  # noqa: E402
from lora_packer.inspector.diagnosis import diagnose  # noqa: E402
from lora_packer.inspector.reading import closest  # noqa: E402
from lora_packer.inspector.resized import input_embedding  # noqa: E402
from lora_packer.peft.expected import Era, Expectation, expect  # noqa: E402
from lora_packer.peft.refusals import refused_config, refused_modules  # noqa: E402
from lora_packer.peft.replicate import layers_of, replicated  # noqa: E402
from lora_packer.peft.targets import PatternLookup  # noqa: E402

Tensors = dict[str, TensorInfo]

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "encoder_layers", "decoder_layers")
_TOWERS = ("vision_config", "audio_config")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
# The number of labels is the adapter's own: any is right.
_LABELLED = (f"{PREFIX}score", f"{PREFIX}classif")
_MOST_MODULES = 3_000
_FIELDS_SHOWN = 400


@dataclass(frozen=True, slots=True)
class Case:
    """A base model, a config on it, and the tensors that the rules call for."""

    model_type: str
    base: BaseModel
    dialect: str
    raw: Mapping[str, Any]
    config: LoraConfig
    expectation: Expectation
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class Miss:
    """A case that does not hold: the seed that makes it again, and what was seen."""

    seed: int
    model_type: str
    what: str
    raw: Mapping[str, Any]

    def __str__(self) -> str:
        """Return it on one line."""
        return f"seed {self.seed} ({self.model_type}): {self.what}; config {str(dict(self.raw))[:_FIELDS_SHOWN]}"


# --- base models -----------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def base_model(model_type: str, variant: int) -> BaseModel | None:
    """Return a small base model of a type, or None where its definition refuses so small a one."""
    chance = random.Random(f"{model_type} {variant}")
    recording = ARCHITECTURES[model_type].defaults or model_type
    defaults = recorded(recording) if isinstance(recording, str) else recording
    layers = chance.randint(2, 3)
    config = {"model_type": model_type, **_shrunk(defaults, chance, layers)}
    for name in _TOWERS:  # towers have defaults of their own, elsewhere
        config[name] = {**dict.fromkeys(_DEPTHS, layers), **config.get(name, {})}
    if chance.random() < 0.5:
        config["tie_word_embeddings"] = chance.random() < 0.5
    try:
        base = BaseModel.load(config)
    except (LoraPackerError, ValueError, KeyError, TypeError, IndexError):
        return None
    return base if max(map(len, base.dialects.values())) <= _MOST_MODULES else None


def _shrunk(defaults: Mapping[str, Any], chance: random.Random, layers: int) -> dict[str, Any]:
    """The defaults that decide how many modules there are, made small, and a few sizes made random."""
    result: dict[str, Any] = {}
    for name, value in defaults.items():
        if name.endswith("_config") and isinstance(value, dict):
            result[name] = {**copy.deepcopy(value), **_shrunk(value, chance, layers)}
        elif name in _DEPTHS:
            result[name] = layers
        elif name in _EXPERTS and type(value) is int and value > 4:
            result[name] = chance.choice((4, 5))
        elif name in ("intermediate_size", "vocab_size") and type(value) is int:
            result[name] = 8 * chance.randint(20, 400)
    return result


# --- configs ---------------------------------------------------------------------------------------------------------


def make_case(seed: int, types: Sequence[str]) -> Case | None:
    """Return the case of a seed, or None where the config drawn adapts nothing or is not one that PEFT takes."""
    chance = random.Random(seed)
    model_type = chance.choice(types)
    base = base_model(model_type, chance.randrange(3))
    if base is None:
        return None
    task = chance.choice(("CAUSAL_LM", "CAUSAL_LM", None, *TASK_TYPES))
    raw = _draw(chance, base, task)
    config, problems = parse_config(raw)
    if any(problem.kind != "unknown" for problem in problems):
        return None
    headed = base if task is None else base.with_head(_HEAD_OF_TASK[task])  # type: ignore[arg-type]
    dialect = chance.choice(list(headed.dialects))
    era = Era(
        swapped_experts=bool(config.target_parameters) and chance.random() < 0.3,
        last_index=config.layers_to_transform is not None and chance.random() < 0.3,
    )
    modules = headed.dialects[dialect]
    if config.layer_replication:
        if layers_of(modules) is None:
            return None
        modules = replicated(modules, config.layer_replication)
    expectation = expect(config, modules, base.default_targets, era, input_embedding(headed, modules))
    if not expectation.targeted or expectation.unsupported or expectation.bad_tokens:
        return None
    refused = [
        *refused_config(config, raw),
        *refused_modules(config, model_type, modules, expectation.targeted, expectation.saved_with_tokens),
    ]
    if refused:
        return None
    wanted = {**expectation.required, **_some(expectation.optional, chance)}
    tensors = {name: TensorInfo("F32", want.shape, 0, 0) for name, want in wanted.items()}
    if any(0 in info.shape for info in tensors.values()):
        return None
    return Case(model_type, base, dialect, raw, config, expectation, tensors)


_HEAD_OF_TASK = {
    "CAUSAL_LM": "causal-lm",
    "SEQ_2_SEQ_LM": "seq2seq",
    "SEQ_CLS": "sequence-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "none",
}


def _some(optional: Mapping[str, Any], chance: random.Random) -> Mapping[str, Any]:
    """What PEFT may write besides goes in whole or not at all."""
    return {} if chance.random() < 0.5 else optional


def _draw(chance: random.Random, base: BaseModel, task: str | None) -> dict[str, Any]:
    modules = base.modules
    layers = [path for path, module in modules.items() if module.kind in ("linear", "conv1d", "embedding")]
    leaves = sorted({path.rpartition(".")[2] for path in layers if not path.rpartition(".")[2].isdecimal()})
    named = chance.sample(leaves, min(len(leaves), chance.randint(1, 4)))
    raw: dict[str, Any] = {"peft_type": "LORA", "r": 2 * chance.randint(1, 8), "lora_alpha": chance.randint(1, 32)}
    raw |= {"task_type": task, "target_modules": _targets(chance, named, layers)}

    def maybe(share: float, **fields: Any) -> None:
        if chance.random() < share:
            raw.update(fields)

    maybe(0.2, use_dora=True)
    maybe(0.1, use_rslora=True)
    maybe(0.1, lora_bias=True)
    maybe(0.1, bias=chance.choice(("all", "lora_only")))
    maybe(0.3, rank_pattern={name: 2 * chance.randint(1, 8) for name in chance.sample(leaves, min(2, len(leaves)))})
    maybe(0.1, rank_pattern={r".*\.1\..*": 6, named[0]: 4})
    maybe(0.2, alpha_pattern={named[-1]: 3})
    maybe(0.1, exclude_modules=chance.choice(([chance.choice(leaves)], r".*\.0\..*")))
    maybe(0.15, layers_to_transform=chance.choice((0, [1], [0, 1])))
    if raw.get("layers_to_transform") is not None:
        maybe(0.3, layers_pattern=chance.choice(("layers", "h", ["layers", "block"])))
    maybe(0.15, modules_to_save=chance.sample([*leaves, "norm", "lm_head"], 1))
    maybe(0.1, trainable_token_indices=chance.sample(range(90), chance.randint(1, 4)))
    maybe(0.05, layer_replication=[[0, 2], [1, 2]])
    maybe(0.05, init_lora_weights=chance.choice(("gaussian", "orthogonal", "pissa", "olora")))
    maybe(0.03, kasa_config={"beta": 0.1})
    maybe(0.03, velora_config={"num_groups": 2})
    maybe(0.03, monteclora_config={"num_samples": 4})
    maybe(0.03, use_bdlora={"target_modules_bd_a": named[:1], "target_modules_bd_b": named[1:2], "nblocks": 2})
    parameters = [(path, module.weight_shape) for path, module in modules.items() if module.kind == "parameter"]
    fused = sorted({path.rpartition(".")[2] for path, shape in parameters if len(shape) == 3 and min(shape) > 1})
    if fused:
        maybe(0.4, target_parameters=chance.sample(fused, chance.randint(1, len(fused))), use_dora=False)
    return raw


def _targets(chance: random.Random, named: list[str], layers: list[str]) -> Any:
    kind = chance.random()
    if kind < 0.1:
        return "all-linear"
    if kind < 0.2:
        return rf".*\.({'|'.join(named)})"
    if kind < 0.35:
        return chance.sample(layers, min(len(layers), 4))
    return named


# --- single changes --------------------------------------------------------------------------------------------------

Change = Callable[[Case, random.Random], tuple[dict[str, Any], Tensors] | None]


def _of_a_tensor(change: Callable[[str, TensorInfo, random.Random], tuple[str, TensorInfo] | None]) -> Change:
    """A change to one of the required tensors; None as its result takes the tensor away."""

    def changed(case: Case, chance: random.Random) -> tuple[dict[str, Any], Tensors] | None:
        names = sorted(name for name in case.expectation.required if not name.startswith(_LABELLED))
        if not names:
            return None
        name = chance.choice(names)
        result = change(name, case.tensors[name], chance)
        tensors = {other: info for other, info in case.tensors.items() if other != name}
        if result is not None:
            if result[0] in case.tensors or result == (name, case.tensors[name]):
                return None if result[1] == case.tensors[name] else (dict(case.raw), {**tensors, name: result[1]})
            tensors[result[0]] = result[1]
        return dict(case.raw), tensors

    return changed


def _reshaped(change: Callable[[tuple[int, ...], random.Random], tuple[int, ...]]) -> Change:
    return _of_a_tensor(lambda name, info, chance: (name, info._replace(shape=change(info.shape, chance))))


def _renamed(change: Callable[[str], str]) -> Change:
    return _of_a_tensor(lambda name, info, _: (change(name), info))


def _one_axis(shape: tuple[int, ...], chance: random.Random) -> tuple[int, ...]:
    axis = chance.randrange(len(shape))
    return tuple(size + chance.choice((1, 3, 8)) if at == axis else size for at, size in enumerate(shape))


def _of_the_config(change: Callable[[dict[str, Any], Case, random.Random], bool]) -> Change:
    """A change to the config that changes what it calls for; False where it does not apply."""

    def changed(case: Case, chance: random.Random) -> tuple[dict[str, Any], Tensors] | None:
        raw = copy.deepcopy(dict(case.raw))
        return (raw, case.tensors) if change(raw, case, chance) else None

    return changed


def _other_rank(raw: dict[str, Any], case: Case, _chance: random.Random) -> bool:
    raw["r"] += 1
    by_pattern = PatternLookup(case.config.rank_pattern, 0)
    if case.config.init_lora_weights in ("pissa", "olora"):
        return False  # the matrix may have fewer ranks than both
    return not all(by_pattern(path) for path in case.expectation.targeted)


def _dora_off(raw: dict[str, Any], _case: Case, _chance: random.Random) -> bool:
    return bool(raw.pop("use_dora", False))


def _dora_on(raw: dict[str, Any], case: Case, _chance: random.Random) -> bool:
    raw["use_dora"] = True
    return not case.config.use_dora and not case.config.lora_bias and not case.config.target_parameters


def _target_lost(raw: dict[str, Any], case: Case, chance: random.Random) -> bool:
    """One entry less, where another one does not name its modules too."""
    listed = raw["target_modules"]
    if not isinstance(listed, list) or len(listed) < 2 or case.config.target_parameters:
        return False
    lost = chance.choice(listed)
    raw["target_modules"] = [name for name in listed if name != lost]

    def named(path: str, name: str) -> bool:
        return path == name or path.endswith(f".{name}")

    still = {path for path in case.expectation.targeted for name in raw["target_modules"] if named(path, name)}
    return bool(still) and any(named(path, lost) for path in case.expectation.targeted if path not in still)


def _tokens_lost(raw: dict[str, Any], _case: Case, _chance: random.Random) -> bool:
    return raw.pop("trainable_token_indices", None) is not None


CHANGES: Mapping[str, Change] = {
    "a tensor lost": _of_a_tensor(lambda *_: None),
    "a size changed": _reshaped(_one_axis),
    "an axis too many": _reshaped(lambda shape, _: (*shape, 1)),
    "turned round": _reshaped(lambda shape, _: shape[::-1] if shape[::-1] != shape else (*shape, 2)),
    "emptied": _reshaped(lambda *_: (0,)),
    "prefix lost": _renamed(lambda name: name.removeprefix(PREFIX)),
    "prefix twice": _renamed(lambda name: PREFIX + name),
    "a wrapper left in": _renamed(lambda name: name.replace(PREFIX, PREFIX + "_orig_mod.", 1)),
    "a segment misspelt": _renamed(lambda name: name.replace(".", "x.", 3)),
    "the end misspelt": _renamed(lambda name: name + "x"),
    "another layer": _renamed(lambda name: ".".join("97" if s.isdecimal() else s for s in name.split("."))),
    "another rank": _of_the_config(_other_rank),
    "DoRA off": _of_the_config(_dora_off),
    "DoRA on": _of_the_config(_dora_on),
    "a target lost": _of_the_config(_target_lost),
    "tokens off": _of_the_config(_tokens_lost),
}


# --- the property ----------------------------------------------------------------------------------------------------


def judge(config: LoraConfig, base: BaseModel, tensors: Tensors) -> list[Finding]:
    """Return what keeps an adapter from being taken as it is."""
    return [item for item in diagnose(config, base, tensors).findings if item.severity != "info"]


def run_case(seed: int, types: Sequence[str]) -> tuple[str, Miss | None]:
    """Run one seed; return which change was tried ("" where there was no case), and the miss if there is one."""
    case = make_case(seed, types)
    if case is None:
        return "", None
    before = judge(case.config, case.base, case.tensors)
    wrong = next((item for item in before if item.severity == "error"), None)
    if wrong is not None:
        return "", Miss(seed, case.model_type, f"refused: {wrong.code} {wrong.message} ({wrong.tensor})", case.raw)
    chance = random.Random(seed + 1)
    what = chance.choice(list(CHANGES))
    changed = CHANGES[what](case, chance)
    if changed is None:
        return "", None
    raw, tensors = changed
    config, problems = parse_config(raw)
    if not tensors or any(problem.kind != "unknown" for problem in problems):
        return what, None  # said of the config itself
    after = judge(config, case.base, tensors)
    if [(item.code, item.message) for item in after] == [(item.code, item.message) for item in before]:
        read = closest(config, case.base, tensors)
        if read.dialect != case.dialect and not read.difference.distance:
            return what, None  # an adapter of other releases, whose modules the changed one has all
        difference = sorted(set(case.tensors.items()) ^ set(tensors.items()))[:2]
        return what, Miss(seed, case.model_type, f"not noticed: {what} {difference}", case.raw)
    if sum(item.severity == "error" for item in after) > 1:
        told = "; ".join(f"{item.code} {item.message}" for item in after if item.severity == "error")
        return what, Miss(seed, case.model_type, f"several errors: {what}: {told}", case.raw)
    return what, None


def run(cases: int, first_seed: int, types: Sequence[str]) -> Iterator[tuple[str, Miss | None]]:
    """Run seeds, from the first one on, until so many cases were judged."""
    seed = first_seed
    judged = 0
    while judged < cases:
        what, miss = run_case(seed, types)
        seed += 1
        if what or miss:
            judged += 1
            yield what, miss


def main() -> int:
    """Fuzz, and print what does not hold."""
    options = argparse.ArgumentParser()
    options.add_argument("--cases", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", action="append", choices=sorted(ARCHITECTURES), metavar="TYPE")
    args = options.parse_args()
    started = time.perf_counter()
    tried: Counter[str] = Counter()
    misses = 0
    for what, miss in run(args.cases, args.seed, args.only or sorted(ARCHITECTURES)):
        tried[what] += 1
        if miss is not None:
            misses += 1
            print(miss, flush=True)
    print(", ".join(f"{what}: {count}" for what, count in sorted(tried.items()) if what))
    print(f"{sum(tried.values())} cases, {misses} misses, {time.perf_counter() - started:.0f} s")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
