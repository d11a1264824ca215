"""Prove the definitions of ``lora_packer.base_model`` against transformers, module by module, on the meta device.

Needs torch and transformers (development only; see the Makefile's ``proof``). For each model type and each class that
transformers has for it: the class default, random configs around it, and every real config at hand; every module path,
kind, weight shape and bias is compared. A definition that is not proven does not ship: any difference is exit 1.

usage: python tools/proof.py [--only TYPE] [--random N] [--configs FOLDER ...] [--write docs/supported-models.md]
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_packer.base_model import ARCHITECTURES, BaseModel  # noqa: E402
from lora_packer.base_model.meta import modules_of  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

HEADS = {
    "causal-lm": ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "sequence-classification": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",),
    "token-classification": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",),
    "question-answering": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",),
    "none": ("MODEL_MAPPING_NAMES",),
}
# Fields that decide shapes and may be varied freely, and how.
SIZES = ("intermediate_size", "vocab_size", "ffn_dim", "moe_intermediate_size", "shared_expert_intermediate_size")
FLAGS = ("attention_bias", "mlp_bias", "use_qkv_bias", "qkv_bias", "add_bias_linear", "tie_word_embeddings")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def model_class(model_type: str, head: str) -> Any:
    """Return transformers' class for a model type under a head, or None."""
    import transformers
    from transformers.models.auto import modeling_auto

    for table in HEADS[head]:
        name = getattr(modeling_auto, table).get(model_type)
        if name is not None:
            return getattr(transformers, name if isinstance(name, str) else name[0])
    return None


def build(config: Mapping[str, Any], head: str) -> Any:
    """Return transformers' model for a config on the meta device, or None where there is no such class."""
    import torch
    from transformers import AutoConfig

    cls = model_class(config["model_type"], head)
    if cls is None:
        return None
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    loaded = AutoConfig.for_model(**copy.deepcopy(plain))
    with torch.device("meta"):
        return cls(loaded)


def difference(config: Mapping[str, Any], head: str) -> str | None:
    """Return the first difference between the definition and transformers, or None; raises where neither builds."""
    theirs = build(config, head)
    if theirs is None:
        return None
    expected = modules_of(theirs)
    base = BaseModel.load(config).with_head(head)  # type: ignore[arg-type]
    ours = base.modules
    for path in [*expected, *ours]:
        if expected.get(path) != ours.get(path):
            return f"{path}: transformers has {expected.get(path)}, the definition {ours.get(path)}"
    return None


def random_config(model_type: str, chance: random.Random) -> dict[str, Any]:
    """Return a small random config of a type: fewer layers and other sizes than the class default."""
    from transformers import AutoConfig

    config: dict[str, Any] = AutoConfig.for_model(model_type).to_dict()
    config["model_type"] = model_type
    for part in [
        config,
        *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)),
    ]:
        _vary(part, chance)
    return config


def _vary(config: dict[str, Any], chance: random.Random) -> None:
    layers = chance.randint(1, 4)
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"):
        if type(config.get(name)) is int:
            config[name] = layers
    for name in ("layer_types", "mlp_layer_types", "layers_block_type"):
        if isinstance(config.get(name), list):
            config[name] = config[name][:layers] if len(config[name]) >= layers else None
    if {"num_attention_heads", "hidden_size"} <= config.keys() and type(config["hidden_size"]) is int:
        kv = chance.choice((1, 2, 4))
        heads = kv * chance.choice((1, 2, 4))
        head_dim = chance.choice((8, 16, 32))
        config["num_attention_heads"], config["hidden_size"] = heads, heads * head_dim
        if type(config.get("num_key_value_heads")) is int:
            config["num_key_value_heads"] = kv
        if type(config.get("head_dim")) is int:
            config["head_dim"] = chance.choice((head_dim, head_dim * 2))
    for name in SIZES:
        if type(config.get(name)) is int:
            config[name] = 8 * chance.randint(3, 40)
    for name in EXPERTS:
        if type(config.get(name)) is int and config[name] > 1:
            config[name] = chance.choice((4, 6, 8))
    for name in FLAGS:
        if isinstance(config.get(name), bool):
            config[name] = chance.random() < 0.5


def real_configs(folders: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every real config whose type has a definition."""
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            config = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and config.get("model_type") in ARCHITECTURES:
                yield path.name, config


def prove(model_type: str, real: list[tuple[str, dict[str, Any]]], wanted: int) -> tuple[list[str], dict[str, int]]:
    """Return the differences found for a type, and how much was compared."""
    from transformers import AutoConfig

    problems: list[str] = []
    counts = {"heads": 0, "random": 0, "real": 0}
    heads = [head for head in HEADS if model_class(model_type, head) is not None]
    counts["heads"] = len(heads)
    cases = [("default", AutoConfig.for_model(model_type).to_dict() | {"model_type": model_type})]
    cases += [("bare", {"model_type": model_type})]
    cases += real
    for head in heads:
        for name, config in cases:
            problems += _compare(f"{model_type} {name} {head}", config, head)
    counts["real"] = len(real)
    chance = random.Random(model_type)
    for _ in range(wanted * 6):
        if counts["random"] >= wanted:
            break
        config = random_config(model_type, chance)
        try:
            build(config, heads[0])
        except Exception:  # noqa: BLE001 - transformers refuses some random configs in ways of its own
            continue
        counts["random"] += 1
        for head in heads:
            problems += _compare(f"{model_type} random {counts['random']} {head}", config, head)
    if counts["random"] < wanted:
        problems.append(f"{model_type}: only {counts['random']} of {wanted} random configs could be built")
    return problems, counts


def _compare(name: str, config: dict[str, Any], head: str) -> list[str]:
    try:
        found = difference(config, head)
    except LoraPackerError as error:
        return [f"{name}: the definition raises: {error}"]
    except Exception as error:  # noqa: BLE001 - transformers' own
        if name.split()[1] in ("default", "bare"):
            return []  # some class defaults cannot be built
        return [f"{name}: transformers raises {type(error).__name__}: {str(error)[:120]}"]
    return [f"{name}: {found}"] if found else []


def main() -> int:
    """Prove the definitions; print and write the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", action="append")
    options.add_argument("--random", type=int, default=20)
    options.add_argument("--configs", type=Path, action="append", default=[ROOT / "fixtures" / "base-configs"])
    options.add_argument("--write", type=Path)
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    real = list(real_configs(args.configs))
    rows, failed = [], 0
    started = time.perf_counter()
    for model_type in sorted(args.only or ARCHITECTURES):
        mine = [item for item in real if item[1]["model_type"] == model_type]
        problems, counts = prove(model_type, mine, args.random)
        failed += bool(problems)
        for problem in problems[:5]:
            print(problem)
        print(f"{'FAILED' if problems else 'proven'} {model_type}: {counts}", flush=True)
        rows.append(f"| {model_type} | {counts['heads']} | {counts['random']} | {counts['real']} |")
    print(f"{len(rows) - failed} of {len(rows)} types proven in {time.perf_counter() - started:.0f} s")
    if args.write and not failed:
        version = transformers.__version__
        head = f"# Base models\n\nCompared module by module with transformers {version} by `make proof`.\n\n"
        head += "| model type | classes | random configs | real configs |\n|---|---|---|---|\n"
        args.write.parent.mkdir(exist_ok=True)
        args.write.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
