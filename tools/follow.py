"""Print what the installed transformers and PEFT have otherwise than the definitions and rules here.

``make follow`` installs the newest releases into an environment of their own and runs this. One row a difference: a
known type whose modules differ (the first difference), a type that generates and has no definition, a class that a
known type gained or lost, and of PEFT the fields of a LoraConfig, the default targets and other constants, the
conversions of names, and what it refuses. What PEFT was when it was last read stands in ``followed.json``.

usage: python tools/follow.py [--only TYPE] [--random N] [--record]
       (exit 1: a known type differs, or one that generates is neither defined nor listed with a reason; everything else
       is reported. --record: write followed.json)
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import record_conversions  # noqa: E402
import record_tasks  # noqa: E402
from proof import model_class, prove  # noqa: E402
from proof_configs import class_type, of_transformers  # noqa: E402
from proof_undefined import UNDEFINED, unlisted  # noqa: E402

from lora_packer.base_model import ARCHITECTURES  # noqa: E402
from lora_packer.base_model.tasks import FILE as TASKS  # noqa: E402
from lora_packer.peft.conversions import FILE as CONVERSIONS  # noqa: E402

FOLLOWED = Path(__file__).with_name("followed.json")
# What of PEFT decides where an adapter lands, and what it refuses.
_REFUSING = ("tuners/lora", "tuners/tuners_utils.py", "utils", "config.py", "peft_model.py", "mapping_func.py")
_TOLD = 200

Raw = dict[str, Any]


class Row(NamedTuple):
    """One difference: of what, which, and how; ``fails`` where a type is not, or no longer, known."""

    what: str
    name: str
    how: str
    fails: bool = False


def known_types(only: Iterable[str] | None, wanted: int) -> Iterator[Row]:
    """Yield each known type that the installed transformers builds otherwise."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    names = sorted(only or of_transformers())
    here = [name for name in names if class_type(name) in CONFIG_MAPPING_NAMES and _has_class(name)]
    yield from (Row("known type", name, "transformers has no class of it", True) for name in names if name not in here)
    # Forked, so that transformers is imported once.
    with multiprocessing.get_context("fork").Pool() as pool:
        for name, problems in zip(here, pool.imap(_proven, [(name, wanted) for name in here]), strict=True):
            if problems:
                yield Row("known type", name, problems[0].removeprefix(f"{name} "), True)


def _has_class(model_type: str) -> bool:
    return any(model_class(model_type, head) is not None for head in ("causal-lm", "seq2seq", "none"))


def _proven(case: tuple[str, int]) -> list[str]:
    model_type, wanted = case
    try:
        found, counts = prove(model_type, [], wanted)
        # A few draws may be refused by chance, one and all; the class default was compared in any case.
        return found[:-1] if counts["random"] < wanted else found
    except Exception as error:  # noqa: BLE001 - a new release may raise anything
        return [f"transformers raises {type(error).__name__}: {error}"]


def new_types() -> Iterator[Row]:
    """Yield each type that generates and has neither a definition nor a reason why not, and each reason of the past."""
    from transformers.models.auto import modeling_auto

    for line in unlisted(vars(modeling_auto), ARCHITECTURES):
        name, _, how = line.partition(": ")
        yield Row("new type", name, how, name not in UNDEFINED)


def classes() -> Iterator[Row]:
    """Yield the tasks for which a known type gained or lost a class."""
    before, now = json.loads(TASKS.read_text(encoding="utf-8")), json.loads(record_tasks.recorded_text())
    for task, without in before["without"].items():
        for name in sorted(set(without) - set(now["without"][task])):
            yield Row("class", name, f"it has one for {task} now")
        for name in sorted(set(now["without"][task]) - set(without)):
            yield Row("class", name, f"it has none for {task} any more")
    for name in sorted(before["generating"].keys() | now["generating"].keys()):
        was, is_now = before["generating"].get(name), now["generating"].get(name)
        if was != is_now:
            yield Row("class", name, f"what generates was {was}, and is {is_now}")


def conversions() -> Iterator[Row]:
    """Yield each list of changed names that is another one."""
    before = json.loads(CONVERSIONS.read_text(encoding="utf-8"))
    try:
        now = json.loads(json.dumps(record_conversions.record()))
    except SystemExit as error:  # a kind of change that is not known
        yield Row("conversion", "", str(error))
        return
    for part in ("renames", "classes", "towers", "experts", "same"):
        yield from changed("conversion", before[part], now[part])


def peft_now() -> Raw:
    """Return what there is of the installed PEFT: fields, constants, refusals."""
    import peft
    from peft import LoraConfig
    from peft.utils import constants

    package = Path(peft.__file__).parent
    fields = {item.name: _default(item) for item in dataclasses.fields(LoraConfig)}
    named = {name: value for name, value in vars(constants).items() if name.isupper() and _concerns_lora(name)}
    found = {name: _plain(value) for name, value in named.items() if isinstance(value, str | list | dict | tuple | set)}
    return {
        "peft": peft.__version__,
        "field": fields,
        "constant": {
            f"{name}.{key}" if key else name: item
            for name, value in found.items()
            for key, item in (value.items() if isinstance(value, dict) else [("", value)])
        },
        "refusal": dict(sorted(refusals(package))),
    }


def _concerns_lora(name: str) -> bool:
    """Whether a constant is no table of another method's targets."""
    return not name.startswith("TRANSFORMERS_MODELS_TO_") or "_LORA_" in name


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "required" if field.default is dataclasses.MISSING else repr(field.default)


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return sorted(map(str, value)) if isinstance(value, list | tuple | set) else value


def refusals(package: Path) -> Iterator[tuple[str, int]]:
    """Yield each ``raise`` on PEFT's load path, by file, exception and text, and how often it stands there."""
    counts: dict[str, int] = {}
    places = [package / name for name in _REFUSING]
    files = {file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])}
    for path in sorted(file for file in files if file.exists()):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                said = f"{ast.unparse(node.exc.func)}: {_text(node.exc)}"
                key = f"{path.relative_to(package).as_posix()}: {said}"
                counts[key] = counts.get(key, 0) + 1
    yield from counts.items()


def _text(call: ast.Call) -> str:
    """The constant parts of what an exception says."""
    parts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return " ".join(" ".join(parts).split())[:_TOLD]


def changed(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what was added, removed and changed between two mappings."""
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            yield Row(what, name, f"new: {now[name]}")
        elif name not in now:
            yield Row(what, name, f"gone: {before[name]}")
        elif before[name] != now[name]:
            yield Row(what, name, f"was {before[name]}, is {now[name]}")


def rows(only: Iterable[str] | None, wanted: int) -> Iterator[Row]:
    """Yield every difference."""
    yield from known_types(only, wanted)
    if only:
        return
    yield from new_types()
    yield from classes()
    yield from conversions()
    before, now = json.loads(FOLLOWED.read_text(encoding="utf-8")), peft_now()
    for what in ("field", "constant", "refusal"):
        yield from changed(f"PEFT {what}", before[what], now[what])


def line(row: Row) -> str:
    """Return a row of the table."""
    cells = (" ".join(str(cell).split()).replace("|", "\\|") for cell in row[:3])
    return "| " + " | ".join(cell if len(cell) <= _TOLD else f"{cell[:_TOLD]}..." for cell in cells) + " |"


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", action="append")
    options.add_argument("--random", type=int, default=3)
    options.add_argument("--record", action="store_true")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import peft
    import transformers

    # Classes say of random configs what they do not like, one and all of the config with it.
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    if args.record:
        FOLLOWED.write_text(json.dumps(peft_now(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    print(f"transformers {transformers.__version__}, PEFT {peft.__version__}\n\n| what | which | how |\n|---|---|---|")
    started, found = time.perf_counter(), []
    for row in rows(args.only, args.random):
        found.append(row)
        print(line(row), flush=True)
    print(f"\n{summary(found, len(args.only or of_transformers()))}, {time.perf_counter() - started:.0f} s")
    return 1 if any(row.fails for row in found) else 0


def summary(found: Sequence[Row], types: int) -> str:
    """Return what there is to do: known types that differ, types that nobody has looked at, and the rest."""
    known = sum(row.what == "known type" for row in found)
    new = sum(row.what == "new type" for row in found)
    return f"{known} of {types} known types differ, {new} new types, {len(found) - known - new} other differences"


if __name__ == "__main__":
    sys.exit(main())
