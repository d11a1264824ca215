"""The adapters that ``tools/oracle.py`` asks PEFT about: small models of every type, and what files do to names.

Each is what a config calls for on a small random model, under the names and in the layout of one writer: today's class,
an older release, the class without the towers, the model's own code (transformers' own changes backwards), experts one
by one, a prefix too many or too few. ``random_config`` needs transformers; nothing else here does.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from proof import model_class
from proof_configs import class_type, random_config

from lora_packer.adapter.config import parse_config
from lora_packer.adapter.keys import PREFIX
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import ARCHITECTURES, BaseModel, Modules
from lora_packer.peft.conversions import recorded
from lora_packer.peft.expected import Era, expect

Raw = dict[str, Any]
Shapes = dict[str, list[int]]

MAX_TENSORS = 1500
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_FUSED = ("gate_up_proj", "down_proj")
_PREFIXES = {
    "no model.": ("model.", ""),
    "one model. more": ("model.", "model.model."),
    "backbone": ("model.", "backbone."),
    "language_model.model": ("model.", "language_model.model."),
    "model.language_model": ("model.", "model.language_model."),
    "language model's names": ("model.language_model.", "model."),
    "before 4.52": ("model.language_model.", "language_model.model."),
    "language_model alone": ("model.language_model.", "language_model."),
    "thrice": ("", "base_model.model."),
}
_ONE_BY_ONE = {
    "mlp gate_proj": ("mlp", *_MLP),
    "mlp w1": ("mlp", "w1", "w3", "w2"),
    "block_sparse_moe w1": ("block_sparse_moe", "w1", "w3", "w2"),
    "feed_forward w1": ("feed_forward", "w1", "w3", "w2"),
    "moe gate_proj": ("moe", *_MLP),
}


def cases(seed: int, of_each: int = 0, only: frozenset[str] = frozenset()) -> Iterator[Raw]:
    """Yield the cases of every model type: id, base, config and tensors; ``of_each`` of a type, drawn, or all.

    Of a type whose tensors PEFT changes nothing about, a third as many.
    """
    for model_type, architecture in ARCHITECTURES.items():
        if architecture.proof is not None or (only and model_type not in only):
            continue
        chance = random.Random(f"{seed} {model_type}")
        base = _base(model_type, chance)
        if base is None:
            continue
        found = list(_distinct(model_type, base, chance))
        converts = model_type in recorded()["classes"]
        wanted = min(len(found), (of_each if converts else -(-of_each // 3)) or len(found))
        yield from (found[at] for at in sorted(chance.sample(range(len(found)), wanted)))


def _distinct(model_type: str, base: Raw, chance: random.Random) -> Iterator[Raw]:
    seen = set()
    for what, config, tensors in _of(base, chance):
        shown = (str(config), str(tensors))
        if tensors and len(tensors) <= MAX_TENSORS and shown not in seen:
            seen.add(shown)
            name = f"{model_type}: {what}"
            yield {"id": name, "type": model_type, "base": base, "config": config, "tensors": tensors}


def _base(model_type: str, chance: random.Random) -> Raw | None:
    """A small config that the definition takes, with the class that transformers has for it.

    One that transformers takes too, where one is drawn: of a null that it has no place for, it builds no model to ask.
    """
    cls = model_class(model_type, "causal-lm") or model_class(model_type, "none")
    last = None
    for _ in range(8):
        try:
            config = random_config(model_type, chance)
            config |= {"architectures": [cls.__name__], "pad_token_id": 0}
            BaseModel.load(config)
        except Exception:  # noqa: BLE001 - transformers' validation has errors of its own
            continue
        last = config
        if _is_taken(config):
            break
    return last


def _is_taken(config: Raw) -> bool:
    from transformers import AutoConfig

    fields = copy.deepcopy(config)
    try:
        AutoConfig.for_model(class_type(fields.pop("model_type")), **fields)
    except Exception:  # noqa: BLE001 - its validation has errors of its own
        return False
    return True


def _of(base: Raw, chance: random.Random) -> Iterator[tuple[str, Raw, Shapes]]:
    model = BaseModel.load(base)
    leaves = sorted({path.rpartition(".")[2] for path, module in model.modules.items() if module.kind == "linear"})
    fused = {
        p.rpartition(".")[2] for p, m in model.modules.items() if m.kind == "parameter" and len(m.weight_shape) == 3
    }
    some = [name for name in leaves if name in _ATTENTION] or chance.sample(leaves, min(3, len(leaves)))
    every = list(dict.fromkeys([*some, *(name for name in leaves if name in _MLP)]))
    configs: dict[str, Raw] = {"some": {"target_modules": some}, "every": {"target_modules": every}}
    configs["all-linear"] = {"target_modules": "all-linear"}
    configs["a pattern"] = {"target_modules": rf".*\.({'|'.join(some)})"}
    configs["of one layer"] = {"target_modules": rf".*\.0\..*({'|'.join(some)})"}
    configs["a saved head"] = {"target_modules": some, "modules_to_save": ["lm_head"]}
    configs["dropout"] = {"target_modules": every, "lora_dropout": 0.05}
    configs["DoRA and biases"] = {"target_modules": some, "use_dora": True, "bias": "all"}
    if fused:
        both = [f"experts.{name}" for name in sorted(fused) if name in _FUSED] or sorted(fused)
        configs["experts"] = {"target_modules": some, "target_parameters": both}
        configs["one of the experts'"] = {"target_modules": some, "target_parameters": both[:1]}
    for how, change in configs.items():
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **change}
        yield from _written(how, config, model, chance)
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": some}
    own = _called_for(plain, model.modules, model)
    yield "no task type", plain, own
    yield "sequence to sequence", plain | {"task_type": "SEQ_2_SEQ_LM"}, own
    yield "another rank", plain | {"r": 8}, own
    yield "one target lost", plain | {"target_modules": some[1:] or ["nothing"]}, own
    yield "a target too many", plain | {"target_modules": [*some, "nothing_like_it"]}, own
    yield "adapter's name left in", plain, {re.sub(r"(\.lora_[AB])\.", r"\1.default.", k): v for k, v in own.items()}
    paths = [name.removeprefix(PREFIX).partition(".lora_")[0] for name in own]
    yield "full paths", plain | {"target_modules": sorted(set(paths))}, own
    for moe in (_MLP, ("w1", "w3", "w2")):
        for names in ((moe[0],), (moe[1],), moe):
            raw = plain | {"target_modules": [*some, *names]}
            yield from _one_by_one(f"experts' {'+'.join(names)}", raw, own, model, set(names))


def _written(how: str, config: Raw, model: BaseModel, chance: random.Random) -> Iterator[tuple[str, Raw, Shapes]]:
    """What the config calls for, as each writer names it."""
    own = _called_for(config, model.modules, model)
    yield f"{how}, today's names", config, own
    for dialect, modules in list(model.dialects.items())[1:]:
        yield f"{how}, {dialect}", config, _called_for(config, modules, model)
    if config.get("target_parameters"):
        yield f"{how}, PEFT 0.18's layout", config, _called_for(config, model.modules, model, Era(swapped_experts=True))
        yield from _one_by_one(how, config, own, model, set(_MLP) | {"w1", "w2", "w3"})
        return
    for name, (found, put) in _PREFIXES.items():
        changed = {PREFIX + _once(key.removeprefix(PREFIX), found, put): shape for key, shape in own.items()}
        yield f"{how}, {name}", config, changed
    yield f"{how}, the model's own code", config, {_backwards(key, model.model_type): s for key, s in own.items()}
    if chance.random() < 0.5:
        half = {key: shape for at, (key, shape) in enumerate(own.items()) if at % 4 < 2}
        mixed = {PREFIX + _once(key.removeprefix(PREFIX), "model.", "other."): own[key] for key in own.keys() - half}
        yield f"{how}, half of them elsewhere", config, half | mixed


def _once(name: str, found: str, put: str) -> str:
    return put + name.removeprefix(found) if name.startswith(found) else name


def _called_for(raw: Raw, modules: Modules, model: BaseModel, era: Era | None = None) -> Shapes:
    config, _ = parse_config(raw)
    try:
        wanted = expect(config, modules, model.default_targets, era or Era())
    except (PatternError, KeyError):
        return {}
    return {name: list(want.shape) for name, want in wanted.required.items()}


def _one_by_one(
    how: str, config: Raw, own: Shapes, model: BaseModel, names: set[str]
) -> Iterator[tuple[str, Raw, Shapes]]:
    """Every expert as modules of its own, in each of the ways in which checkpoints have them."""
    holders: dict[str, tuple[int, ...]] = {}
    for path, module in model.modules.items():
        if module.kind == "parameter" and len(module.weight_shape) == 3 and path.endswith("experts.down_proj"):
            holders[path.removesuffix(".experts.down_proj")] = module.weight_shape
    if not holders:
        return
    plain = {name: shape for name, shape in own.items() if ".experts." not in name}
    for way, (block, *projections) in _ONE_BY_ONE.items():
        if not names & set(projections):
            continue
        tensors = dict(plain)
        for holder, (count, outputs, inputs) in holders.items():
            before = holder.rpartition(".")[0]
            sizes = [(inputs, outputs), (inputs, outputs), (outputs, inputs)]
            for expert in range(count):
                for name, (made, taken) in zip(projections, sizes, strict=True):
                    if name in names:
                        key = f"{PREFIX}{before}.{block}.experts.{expert}.{name}"
                        tensors |= {f"{key}.lora_A.weight": [4, taken], f"{key}.lora_B.weight": [made, 4]}
        raw = {key: value for key, value in config.items() if key != "target_parameters"}
        if "target_parameters" in config:
            raw["target_modules"] = [*config["target_modules"], *projections]
        yield f"{how}, one by one as {way}", raw, tensors
        if "target_parameters" in config:
            changed = {_backwards(key, model.model_type): shape for key, shape in tensors.items()}
            yield f"{how}, one by one as {way}, the model's own code", raw, changed
            both = {"rank_pattern": {r".*\.gate_up_proj": 8}, "alpha_pattern": {r".*\.gate_up_proj": 16}}
            yield f"{how}, one by one as {way}, targeted as fused", config | both, tensors


def _backwards(key: str, model_type: str) -> str:
    """The name that transformers' changes for this type would make this one of, as far as plain text goes."""
    data: Mapping[str, Any] = recorded()
    name = key.removeprefix(PREFIX)
    for kind, sources, targets, *_ in reversed(data["renames"].get(model_type, [])):
        source, target = sources[0].lstrip("^").replace(r"\.", "."), targets[0].replace(r"\.", ".")
        if kind == "WeightRenaming" and not re.search(r"[\\()\[\]*+?|]", source + target) and target in name:
            name = name.replace(target, source, 1)
    return PREFIX + name
