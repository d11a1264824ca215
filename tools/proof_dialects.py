"""Prove the older names of ``lora_packer.base_model`` against the older releases of transformers that had them.

An adapter that was trained with an older transformers has its names, and ``BaseModel.dialects`` says which those are.
Run in an environment with such a release (``make proof-dialects``): for each model type that it has and each of its
classes, on small random configs, the modules of the dialect of that release are compared with those that transformers
builds on the meta device: every path, kind, shape and bias. What differs on purpose is in
``proof_dialects_listed.py``; any other difference is exit 1.

usage: python tools/proof_dialects.py [--only TYPE] [--random N] [--all]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof import HEADS, OF_OTHER_CONFIGS, build, model_class  # noqa: E402
from proof_configs import class_type, of_transformers, random_config  # noqa: E402
from proof_dialects_listed import UNBUILT, reason  # noqa: E402
from proof_values import PAIRS  # noqa: E402

from lora_packer.base_model import ARCHITECTURES, BaseModel, Module, Modules  # noqa: E402
from lora_packer.base_model.architecture import (  # noqa: E402
    IMAGE_CLASSIFIER,
    TEXT_ONLY,
    TEXT_ONLY_5_23,
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    TRANSFORMERS_5,
    TRANSFORMERS_5_23,
)
from lora_packer.base_model.defaults import recorded  # noqa: E402
from lora_packer.base_model.meta import modules_of  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

_SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
# What a class default of transformers 4 lacks or has in a way that cannot be built: type -> nested
# config ("" for none) -> fields.
SETTINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "qwen3_vl": {"text_config": {"rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]}}},
    "qwen3_vl_moe": {"text_config": {"rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]}}},
    "dbrx": {"": {"tie_word_embeddings": False}},
    "granitemoehybrid": {"": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]}},
    "mllama": {"text_config": {"rope_scaling": {"rope_type": "default"}}},
    "phi4_multimodal": {
        "vision_config": {**_SMALL, "image_size": 56},
        "audio_config": {"num_blocks": 2, "time_reduction": 8, "input_size": 80, "nemo_final_size": 10},
    },
}
# Types whose root repeats sizes of their nested configs.
SAME_AT_THE_ROOT = ("fuyu", "ovis2", "t5gemma")
# Release -> the dialects that have its names: the first that a definition has.
RELEASES = {
    "5.23": (TRANSFORMERS_5_23, TRANSFORMERS_5),
    "4.57": (TRANSFORMERS_4, TRANSFORMERS_5_23, TRANSFORMERS_5),
    "4.51": (TRANSFORMERS_4_51, TRANSFORMERS_4, TRANSFORMERS_5_23, TRANSFORMERS_5),
}
# The same where the class is the one without the towers.
TEXT_ONLY_OF = {"5.23": (TEXT_ONLY_5_23, TEXT_ONLY)}


def dialect_of(config: Mapping[str, Any], head: str, release: str) -> Modules:
    """Return the modules that the definition has under the names of a release."""
    base = BaseModel.load(config)
    if head == "masked-lm":
        masked_is_seq2seq = model_class(config["model_type"], head) is model_class(config["model_type"], "seq2seq")
        head = "seq2seq" if masked_is_seq2seq else "causal-lm"
    names = RELEASES[release]
    if head == "text-only":
        head, names = "causal-lm", TEXT_ONLY_OF.get(release, (TEXT_ONLY,))
    dialects = base.with_head(head).dialects  # type: ignore[arg-type]
    return next(dialects[name] for name in names if name in dialects)


def differences(config: Mapping[str, Any], head: str, release: str) -> Iterator[tuple[str, str]]:
    """Yield (path, what differs), once for what differs alike in every layer and expert."""
    model = built(config, head)
    theirs, ours = modules_of(model), dialect_of(config, head, release)
    # Where one module has several names, PEFT sees the first alone; since transformers 5 each is a module of its own.
    names = {path for path, _ in model.named_modules(remove_duplicate=False)} - {
        path for path, _ in model.named_modules()
    }
    seen = set()
    for path in [*theirs, *ours]:
        if theirs.get(path) == ours.get(path) or (path in names and path not in theirs):
            continue
        like = re.sub(r"\d+", "N", path)
        if like not in seen:
            seen.add(like)
            yield like, f"transformers has {_short(theirs.get(path))}, the definition {_short(ours.get(path))}"


def _short(module: Module | None) -> str:
    """A module in few words."""
    if module is None:
        return "nothing"
    flags = [name for name in ("bias", "transposed") if getattr(module, name)]
    return " ".join([module.kind, str(module.weight_shape), *flags])


def built(config: Mapping[str, Any], head: str) -> Any:
    """Return the release's model: on the meta device, or in memory where a class copies values while it is made."""
    try:
        return build(config, head)
    except NotImplementedError:  # an activation of Apertus does so
        return build(config, head, device="cpu")
    except RuntimeError as error:  # and Swin, which asks how deep each layer is
        if "meta tensors" not in str(error):
            raise
        return build(config, head, device="cpu")


def heads_of(model_type: str) -> list[str]:
    """Return the heads under which the installed transformers has a class of its own for this type."""
    heads: dict[Any, str] = {}
    for head in HEADS:
        cls = model_class(model_type, head)
        if head == IMAGE_CLASSIFIER or (head == TEXT_ONLY and head not in ARCHITECTURES[model_type].dialects):
            continue
        if cls is not None:
            heads.setdefault(cls, head)
    return list(heads.values())


def one_thing(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config that says each thing once.

    Transformers 4 wrote fields that follow from others into a file, and read these; in a random config they disagree.
    """
    from transformers import PretrainedConfig

    if config["model_type"] in PAIRS:
        return {**config, **{side: one_thing(config[side]) for side in ("encoder", "decoder")}}
    generic = PretrainedConfig().to_dict()
    for name in ("attn_config", "ffn_config"):  # DBRX's, which take their own fields alone
        if isinstance(config.get(name), dict):
            config[name] = {key: value for key, value in config[name].items() if key not in generic}
    for name, fields in SETTINGS.get(config["model_type"], {}).items():
        config.update({name: {**(config.get(name) or {}), **fields}} if name else fields)
    for part in [config, *(part for key, part in config.items() if isinstance(part, dict) and key.endswith("_config"))]:
        if "qk_nope_head_dim" in part:
            part.pop("qk_head_dim", None)
        part.pop("true_hidden_size", None)
        if "encoder_layers" in part:
            part.pop("num_hidden_layers", None)
        if "depths" in part:
            part.pop("hidden_size", None)
        # Every config had these two, and few types read them.
        if "add_cross_attention" not in recorded(class_type(config["model_type"])):
            part.update({name: False for name in ("add_cross_attention", "is_decoder") if name in part})
    for nested in ("text_config", "encoder", "decoder"):
        if config["model_type"] in SAME_AT_THE_ROOT and isinstance(config.get(nested), dict):
            shared = ("hidden_size", "vocab_size") if nested == "text_config" else ("vocab_size",)
            config[nested].update({name: config[name] for name in shared if name in config})
    return config


def cases(model_type: str, wanted: int, release: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``wanted`` small random configs that the release builds, else its class default."""
    from transformers import AutoConfig

    chance, head, found = random.Random(model_type), heads_of(model_type)[0], 0
    for _ in range(wanted * 20):
        if found == wanted:
            return
        try:
            config = random_config(model_type, chance, declared=True)
            config = one_thing(config) if release.startswith("4.") else config
            built(config, head)
        except Exception:  # noqa: BLE001 - the release refuses some random configs in ways of its own
            continue
        found += 1
        yield f"random {found}", config
    if not found:
        yield "default", AutoConfig.for_model(class_type(model_type)).to_dict() | {"model_type": model_type}


def prove(model_type: str, wanted: int, release: str) -> tuple[list[str], int]:
    """Return what differs for a type, and how many models were compared."""
    problems: dict[str, str] = {}  # where -> what
    compared = 0
    for name, config in cases(model_type, wanted, release):
        heads = heads_of(model_type)
        if not release.startswith("4."):  # for which the configs are made to fit
            heads = [head for head in heads if (model_type, head) not in OF_OTHER_CONFIGS]
        for head in heads:
            try:
                found = list(differences(config, head, release))
            except LoraPackerError as error:
                found = [("", f"the definition raises: {error}")]
            except Exception as error:  # noqa: BLE001 - the release cannot build some configs of today
                if "does not support the use of" in str(error):
                    continue  # this class says so of such a config, which another of the type takes
                if name.startswith("random"):
                    problems[f"{model_type} {head}"] = f"transformers raises {type(error).__name__}: {str(error)[:120]}"
                continue
            compared += 1
            for path, text in found:
                if reason(release, model_type, head, path) is None:
                    problems.setdefault(f"{model_type} {head} {path}", f"{text} ({name})")
    if not compared and model_type not in UNBUILT.get(release, {}):
        problems[model_type] = "nothing could be compared"
    return [f"{where}: {what}" for where, what in problems.items()], compared


def _prove_case(case: tuple[str, int, str]) -> tuple[list[str], int]:
    import torch
    from transformers import modeling_utils

    torch.set_num_threads(1)
    # The values on the meta device are none; transformers 5 makes none there.
    with getattr(modeling_utils, "no_init_weights", nullcontext)():
        return prove(*case)


def main() -> int:
    """Compare every type that the installed release has."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", action="append")
    options.add_argument("--random", type=int, default=3)
    options.add_argument("--all", action="store_true", help="print every difference, not the first five of a type")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    transformers.logging.set_verbosity_error()
    release = ".".join(transformers.__version__.split(".")[:2])
    if release not in RELEASES:
        print(f"transformers {transformers.__version__} is installed; this needs one of {sorted(RELEASES)}")
        return 2
    held = [name for name in of_transformers() if class_type(name) in CONFIG_MAPPING_NAMES]
    types = sorted(args.only or [name for name in held if heads_of(name)])
    work = [(name, args.random, release) for name in types]
    started, failed, total = time.perf_counter(), 0, 0
    # Forked, so that transformers is imported once.
    with multiprocessing.get_context("fork").Pool() as pool:
        for model_type, (problems, compared) in zip(types, pool.imap(_prove_case, work), strict=True):
            failed, total = failed + bool(problems), total + compared
            for problem in problems if args.all else problems[:5]:
                print(problem, flush=True)
            print(f"{'FAILED' if problems else 'proven'} {model_type}: {compared} models", flush=True)
    seconds = time.perf_counter() - started
    print(f"transformers {transformers.__version__}: {len(types) - failed} of {len(types)} types proven, ", end="")
    print(f"{total} models compared in {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
