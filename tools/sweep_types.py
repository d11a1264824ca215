"""Check an adapter against every model type that the installed transformers has, under each of its classes.

Needs torch and transformers in the environment of lora-packer (see the Makefile's ``proof``). For each type of
transformers' configs the class default is written as a base config, once for each class that its auto classes have,
once without one and once with a class that nobody has; each is checked through the command line. Wrong is: a
traceback, an exit code that is not that of an answer (0, 1, 3; 2 where transformers refuses the config, too), an
unknown answer without a reason, a warning of torch or transformers on the screen, a minute of the processor's time.

usage: python tools/sweep_types.py [--only TYPE ...] [--jobs N] [--all]
       (exit 1: something is wrong; --all: print every answer)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ADAPTER = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
NOBODYS = "NobodysForCausalLM"
_ANSWERS = (0, 1, 3)
_INPUT = 2
_MOST_SECONDS = 60


class Answer(NamedTuple):
    """What a check said of a base config.

    Attributes:
        model_type: of the config.
        named: the class that it names, or None.
        code: the exit code.
        seconds: how long the processor worked on it.
        said: the JSON on the standard output.
        noise: what stood on the standard error.
        refused: whether transformers itself cannot build the config.
    """

    model_type: str
    named: str | None
    code: int
    seconds: float
    said: str
    noise: str
    refused: bool


def classes_of(model_type: str) -> list[str]:
    """Return the names of the classes that any of transformers' auto classes has for a type."""
    import transformers
    from transformers.models.auto import modeling_auto

    tables = (name for name in dir(modeling_auto) if name.startswith("MODEL_") and name.endswith("MAPPING_NAMES"))
    found = [getattr(modeling_auto, name).get(model_type, ()) for name in tables]
    names = {name for item in found for name in ((item,) if isinstance(item, str) else item)}
    return sorted(name for name in names if hasattr(transformers, name))


def answers(model_type: str) -> list[Answer]:
    """Return what the check says of a type, by the class that its config names."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.for_model(model_type).to_dict()
    except Exception:  # noqa: BLE001 - some classes have no default; a bare config is what is left of them
        config = {}
    config["model_type"] = model_type
    return [_checked(config, named) for named in (None, NOBODYS, *classes_of(model_type))]


def _checked(config: dict[str, Any], named: str | None) -> Answer:
    from lora_packer.cli import main

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        content = {**config, **({"architectures": [named]} if named else {"architectures": None})}
        path.write_text(json.dumps(content, default=str), encoding="utf-8")
        out, err, code = io.StringIO(), io.StringIO(), -1
        started = time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["check", str(ADAPTER), "--base-config", str(path), "--format", "json"])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else -1
        seconds = time.process_time() - started
        refused = code == _INPUT and not _builds(config, named)
        return Answer(config["model_type"], named, code, seconds, out.getvalue(), err.getvalue(), refused)


def _builds(config: dict[str, Any], named: str | None) -> bool:
    """Whether transformers builds the config, as the class that it names or as its type's bare model."""
    import torch
    import transformers

    try:
        loaded = transformers.AutoConfig.for_model(**config)
        with torch.device("meta"):
            cls = getattr(transformers, named or "", None)
            _ = cls(loaded) if cls is not None else transformers.AutoModel.from_config(loaded)
    except Exception:  # noqa: BLE001 - whatever its code meets in such a config
        return False
    return True


def wrong(answer: Answer) -> str | None:
    """Return what is wrong with an answer, or None."""
    if "Traceback" in answer.noise or "Traceback" in answer.said:
        return f"a traceback: {answer.noise.strip().splitlines()[-1]}"
    if answer.code not in _ANSWERS and not answer.refused:
        return f"exit {answer.code}: {(answer.noise or answer.said).strip()[:300]}"
    if answer.noise.strip() and not answer.refused:
        return f"noise: {answer.noise.strip()[:300]}"
    if answer.code == 3 and not reasons(answer):
        return f"unknown without a reason: {answer.said[:300]}"
    if answer.seconds > _MOST_SECONDS:
        return f"{answer.seconds:.0f} s"
    return None


def reasons(answer: Answer) -> list[str]:
    """Return why something was not checked."""
    try:
        said = json.loads(answer.said)
    except ValueError:
        return []
    if "error" in said:
        return [str(said["error"])]
    return [item["reason"] for item in said.get("unchecked", ()) if item.get("reason")]


def swept(only: list[str] | None, jobs: int) -> Iterator[Answer]:
    """Yield every answer."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    # Forked, so that transformers is imported once.
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=40) as pool:
        for found in pool.imap_unordered(answers, sorted(only or CONFIG_MAPPING_NAMES)):
            yield from found
        # Ended by themselves: a check takes the signal that would end them for an interrupt.
        pool.close()
        pool.join()


def main() -> int:
    """Check, print what is wrong, and how many answers there were of each kind."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--only", nargs="+")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--all", action="store_true")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import torch  # noqa: F401 - imported once, before the processes are forked
    import transformers

    started, counts, types, failed = time.perf_counter(), Counter[int](), set(), 0
    for answer in swept(args.only, args.jobs):
        problem = wrong(answer)
        counts[answer.code] += 1
        types.add(answer.model_type)
        failed += problem is not None
        if problem is not None or args.all:
            why = problem or "; ".join(dict.fromkeys(reasons(answer)))[:300]
            print(
                f"{'WRONG ' if problem else ''}{answer.model_type} {answer.named}: exit {answer.code} {why}", flush=True
            )
    told = ", ".join(f"{number} with exit {code}" for code, number in sorted(counts.items()))
    seconds = time.perf_counter() - started
    print(f"transformers {transformers.__version__}: {len(types)} types, {told}; {failed} wrong, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
