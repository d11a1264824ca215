"""Prove the types that are composed of two models on every type that they may be composed of.

Needs torch and transformers (see the Makefile's ``proof``). Each defined type of transformers with a bare model is the
encoder of a pair, and each with a causal language model the decoder of one; on small random configs, every module is
compared as in ``tools/proof.py``. Where transformers composes a pair and the definition does not, the type is printed
with the reason; any difference is exit 1.

usage: python tools/proof_pairs.py [--only TYPE] [--random N]
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof import build, difference  # noqa: E402
from proof_configs import class_type, of_transformers, pair, random_config  # noqa: E402

from lora_packer.errors import LoraPackerError  # noqa: E402

_WITH_ENCODER, _WITH_DECODER = "vision-encoder-decoder", "speech-encoder-decoder"


def sides(model_type: str) -> Iterator[str]:
    """Yield on which sides of a pair a type may stand."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    if getattr(AutoConfig.for_model(class_type(model_type)), "hidden_size", None) is None:
        return  # transformers asks for it, and raises
    if class_type(model_type) in modeling_auto.MODEL_MAPPING_NAMES:
        yield "encoder"
    if class_type(model_type) in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        yield "decoder"


def drawn(model_type: str, side: str, chance: random.Random) -> dict[str, Any]:
    """Return the config of a pair with the type on a side; the other side is ViT, or BERT."""
    own = random_config(model_type, chance)
    if side == "encoder":
        return pair(_WITH_DECODER, own, random_config("bert", chance))
    return pair(_WITH_ENCODER, random_config("vit", chance), own)


def prove(model_type: str, side: str, wanted: int) -> tuple[int, set[str], set[str]]:
    """Return how many pairs were exact, what differs, and why a pair has no definition."""
    chance = random.Random(model_type + side)
    exact = 0
    wrong: set[str] = set()
    without: set[str] = set()
    for _ in range(wanted * 10):
        if exact + len(wrong) + len(without) >= wanted:
            break
        try:
            config = drawn(model_type, side, chance)
            build(config, "causal-lm")
        except Exception:  # noqa: BLE001 - transformers refuses some pairs in ways of its own
            continue
        try:
            found = difference(config, "causal-lm")
        except LoraPackerError as error:
            without.add(str(error))
            continue
        if found is None:
            exact += 1
        else:
            wrong.add(found)
    return exact, wrong, without


def main() -> int:
    """Prove them, and print a line for each type and side."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", action="append")
    options.add_argument("--random", type=int, default=3)
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    failed = 0
    for model_type in sorted(args.only or of_transformers()):
        for side in sides(model_type):
            exact, wrong, without = prove(model_type, side, args.random)
            failed += bool(wrong)
            said = "differs" if wrong else "no definition" if without else "exact" if exact else "not composed"
            print(f"{said} {side} {model_type}: {exact}", *sorted(wrong)[:2], *sorted(without)[:1], flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
