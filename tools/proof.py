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
import multiprocessing
import random
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from make_models import with_remote_code  # noqa: E402
from proof_configs import class_type, of_transformers, random_config  # noqa: E402
from proof_parts import parts_difference  # noqa: E402
from proof_timm import import_timm  # noqa: E402
from proof_undefined import unlisted  # noqa: E402

from lora_packer.base_model import ARCHITECTURES, BaseModel  # noqa: E402
from lora_packer.base_model.meta import modules_of  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

_SEQ2SEQ = ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES")
HEADS = {
    "causal-lm": (
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
        # Before transformers 5 Wav2Vec2 had a masked class, too, which nothing trains.
        "MODEL_FOR_CTC_MAPPING_NAMES",
        "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        *_SEQ2SEQ,
        # Before transformers 5: where the types that see stood.
        "MODEL_FOR_VISION_2_SEQ_MAPPING_NAMES",
    ),
    "seq2seq": _SEQ2SEQ,
    "sequence-classification": (
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    ),
    "token-classification": (
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING_NAMES",
    ),
    "question-answering": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",),
    "none": ("MODEL_MAPPING_NAMES",),
    # The same head in another class, for types that have a causal language model too.
    "masked-lm": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",),
    # Not a head but a dialect: the class without the towers, where a type has both.
    "text-only": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
}

# Classes that no auto class makes: they are proven as a config that names them.
MORE_CLASSES: Mapping[str, tuple[str, ...]] = {
    "clip_text_model": ("CLIPTextModelWithProjection",),
    "clip_vision_model": ("CLIPVisionModelWithProjection",),
    "dpr": ("DPRContextEncoder", "DPRReader"),
    "shieldgemma2": ("ShieldGemma2ForImageClassification",),
    "seamless_m4t": tuple(f"SeamlessM4TFor{name}" for name in ("SpeechToText", "TextToSpeech", "SpeechToSpeech")),
    "seamless_m4t_v2": tuple(f"SeamlessM4Tv2For{name}" for name in ("SpeechToText", "TextToSpeech", "SpeechToSpeech")),
}
# Its class for images is a dialect of the one that writes.
_DIALECTS = ("ShieldGemma2ForImageClassification",)

# No config of Reformer is good for its causal and for its masked class.
OF_OTHER_CONFIGS = (("reformer", "masked-lm"),)


def model_class(model_type: str, head: str) -> Any:
    """Return transformers' class for a model type under a head, or None."""
    import transformers
    from transformers.models.auto import modeling_auto

    import_timm()  # before a class is imported that needs it
    if head in MORE_CLASSES.get(model_type, ()):
        return getattr(transformers, head, None)
    # The text class of some types is registered for the type of their text config.
    types = [class_type(model_type)] if head != "text-only" else [f"{model_type}_text", model_type]
    for table, wanted in ((table, wanted) for table in HEADS[head] for wanted in types):
        name = getattr(modeling_auto, table, {}).get(wanted)  # an older release has not every table
        if name is not None and name not in _DIALECTS:
            return getattr(transformers, name if isinstance(name, str) else name[0])
    return None


def build(config: Mapping[str, Any], head: str, device: str = "meta") -> Any:
    """Return transformers' model for a config on a device, or None where there is no such class."""
    import torch
    from transformers import AutoConfig

    cls = model_class(config["model_type"], head)
    if cls is None:
        return None
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    plain["model_type"] = class_type(config["model_type"])
    loaded = AutoConfig.for_model(**copy.deepcopy(plain))
    if head == "text-only":
        loaded = loaded.get_text_config()
    with torch.device(device):
        return cls(loaded)


def difference(config: Mapping[str, Any], head: str) -> str | None:
    """Return the first difference between the definition and transformers, or None; raises where neither builds.

    The embeddings and PEFT's default targets are compared besides the modules.
    """
    theirs = build(config, head)
    if theirs is None:
        return None
    expected = modules_of(theirs)
    base = BaseModel.load({**config, "architectures": [head]} if head not in HEADS else config)
    if head not in HEADS:
        ours = base.modules
    elif head == "text-only":
        ours = base.with_head("causal-lm").dialects[head]
    elif head == "masked-lm":
        masked_is_seq2seq = model_class(config["model_type"], head) is model_class(config["model_type"], "seq2seq")
        base = base.with_head("seq2seq" if masked_is_seq2seq else "causal-lm")
        ours = base.modules
    else:
        base = base.with_head(head)  # type: ignore[arg-type]
        ours = base.modules
    for path in [*expected, *ours]:
        if expected.get(path) != ours.get(path):
            return f"{path}: transformers has {expected.get(path)}, the definition {ours.get(path)}"
    return parts_difference(theirs, base) if head != "text-only" else None


def real_configs(folders: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every real config whose type has a definition, once."""
    seen: list[dict[str, Any]] = []
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            config = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and config.get("model_type") in ARCHITECTURES and config not in seen:
                seen.append(config)
                yield path.name, config


def prove(model_type: str, real: list[tuple[str, dict[str, Any]]], wanted: int) -> tuple[list[str], dict[str, int]]:
    """Return the differences found for a type, and how much was compared."""
    from transformers import AutoConfig

    problems: list[str] = []
    counts = {"heads": 0, "random": 0, "real": 0}
    heads = [head for head in HEADS if model_class(model_type, head) is not None]
    if "text-only" not in ARCHITECTURES[model_type].dialects:
        heads.remove("text-only") if "text-only" in heads else None
    # One class may stand under several heads.
    heads += MORE_CLASSES.get(model_type, ())
    for head in ("seq2seq", "masked-lm"):
        if head in heads and model_class(model_type, head) is model_class(model_type, "causal-lm"):
            heads.remove(head)
    heads = [head for head in heads if (model_type, head) not in OF_OTHER_CONFIGS]
    counts["heads"] = len(heads)
    cases = [("default", AutoConfig.for_model(class_type(model_type)).to_dict() | {"model_type": model_type})]
    cases += [("bare", {"model_type": model_type})]
    cases += real
    for head in heads:
        for name, config in cases:
            problems += _compare(f"{model_type} {name} {head}", config, head)
    counts["real"] = len(real)
    chance = random.Random(model_type)
    for _ in range(wanted * 20):
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
        if "does not support the use of" in str(error):
            return []  # this class says so of such a config, which another of the type takes
        if name.split()[1] in ("default", "bare"):
            return []  # some class defaults cannot be built
        return [f"{name}: transformers raises {type(error).__name__}: {str(error)[:120]}"]
    return [f"{name}: {found}"] if found else []


def _prove_case(case: tuple[str, list[tuple[str, dict[str, Any]]], int]) -> tuple[list[str], dict[str, int]]:
    return prove(*case)


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
    from transformers.models.auto import modeling_auto

    transformers.logging.set_verbosity_error()
    real = list(real_configs(args.configs))
    types = sorted(args.only or of_transformers())
    cases = [(name, [item for item in real if item[1]["model_type"] == name], args.random) for name in types]
    rows, failed = [], 0
    strays = [] if args.only else list(unlisted(vars(modeling_auto), ARCHITECTURES))
    for stray in strays:
        print(stray, flush=True)
    started = time.perf_counter()
    # Forked, so that transformers is imported once.
    with multiprocessing.get_context("fork").Pool() as pool:
        for model_type, (problems, counts) in zip(types, pool.imap(_prove_case, cases), strict=True):
            failed += bool(problems)
            for problem in problems[:5]:
                print(problem)
            print(f"{'FAILED' if problems else 'proven'} {model_type}: {counts}", flush=True)
            rows.append(f"| {model_type} | {counts['heads']} | {counts['random']} | {counts['real']} |")
    print(f"{len(rows) - failed} of {len(rows)} types proven in {time.perf_counter() - started:.0f} s")
    if args.write and not failed and not strays:
        version = transformers.__version__
        head = f"# Base models\n\nCompared module by module with transformers {version} by `make proof`.\n\n"
        head += "| model type | classes | random configs | real configs |\n|---|---|---|---|\n"
        args.write.parent.mkdir(exist_ok=True)
        args.write.write_text(with_remote_code(head + "\n".join(rows) + "\n"), encoding="utf-8")
    return 1 if failed or strays else 0


if __name__ == "__main__":
    sys.exit(main())
