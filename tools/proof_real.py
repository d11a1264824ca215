"""Compare the definitions with real configs: a folder of ``config.json`` files, under the class that each one names.

Each is built on the meta device as ``from_pretrained`` would build it, and compared module by module. What a config
names in vain is told apart: a class that transformers has not (the class of its type stands in for it), a type that it
has not, and a config that its own class refuses. Needs torch and transformers (see the Makefile's ``proof``).

usage: python tools/proof_real.py FOLDER [--all] [--write FILE]     (exit 1: a definition differs, or is missing)
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof_configs import class_type  # noqa: E402
from proof_parts import parts_difference  # noqa: E402
from proof_timm import import_timm  # noqa: E402

from lora_packer.base_model import ARCHITECTURES, TEXT_ONLY, BaseModel  # noqa: E402
from lora_packer.base_model.meta import modules_of  # noqa: E402
from lora_packer.base_model.registry import TYPES_OF_CLASSES  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

# A class that can be built, and a definition that is it, is not it, or is not there.
EXACT, DIFFERS, UNDEFINED = "exact", "differs", "no definition"
# Nothing to compare with: another library's class, which one of transformers stands in for, its own type, or neither.
STANDS_IN, NO_TYPE, REFUSED = "another class", "no such type", "refused"
# The config names a class of another type than its own: from_pretrained and the auto classes read it otherwise.
CONTRADICTS = "two types"
FAILING = (DIFFERS, UNDEFINED)


class Row(NamedTuple):
    """One config: its file, its type, the class that it was compared with, and what came out."""

    file: str
    model_type: str
    cls: str
    verdict: str
    how: str = ""


class NothingToCompareError(Exception):
    """There is nothing to compare a config with: why, as a verdict."""

    def __init__(self, verdict: str, how: str) -> None:
        super().__init__(how)
        self.verdict = verdict


def built(config: Mapping[str, Any]) -> tuple[Any, str]:
    """Return transformers' model, and what it is that is exact. Raises NothingToCompareError."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    plain = {key: value for key, value in copy.deepcopy(dict(config)).items() if key != "quantization_config"}
    plain["model_type"] = class_type(str(plain.get("model_type")))
    if plain["model_type"] not in CONFIG_MAPPING_NAMES:
        raise NothingToCompareError(NO_TYPE, "")
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    named: Any = getattr(transformers, names[0], None) if names and names[0].isidentifier() else None
    known = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
    try:
        with torch.device("meta"):
            if not known:
                loaded = transformers.AutoConfig.for_model(**plain)
                generates = type(loaded) in transformers.AutoModelForCausalLM._model_mapping
                auto = transformers.AutoModelForCausalLM if generates else transformers.AutoModel
                return auto.from_config(loaded), STANDS_IN if names else EXACT
            # A class reads a config of another type as its own, such as a text model's of one with towers.
            own = named.config_class
            typed = getattr(own, "model_type", None) == plain["model_type"]
            loaded = transformers.AutoConfig.for_model(**plain) if typed else own.from_dict(plain)
            return named(loaded), EXACT if typed else CONTRADICTS
    except Exception as error:  # noqa: BLE001 - whatever a class meets in a config that it was not written for
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise NothingToCompareError(REFUSED, f"{type(error).__name__}: {' '.join(lines[:2])[:100]}") from None


def compared(config: Mapping[str, Any], file: str) -> Row:
    """Return what comes out for a config."""
    names = config.get("architectures") or ["-"]
    model_type = str(config.get("model_type"))
    model_type = TYPES_OF_CLASSES.get((model_type, str(names[0])), model_type)
    config, defined = {**config, "model_type": model_type}, model_type in ARCHITECTURES
    try:
        theirs, verdict = built(config)
    except NothingToCompareError as reason:
        told = f"the definition was not compared{_held(config)}" if defined else "no definition"
        return Row(file, model_type, str(names[0]), reason.verdict, str(reason) or told)
    cls = type(theirs).__name__
    try:
        base = BaseModel.load({**config, "architectures": [cls]} if verdict == STANDS_IN else config)
    except LoraPackerError as error:
        return Row(file, model_type, cls, UNDEFINED, str(error)[:100])
    found = _difference(theirs, base)
    if verdict == CONTRADICTS:
        return Row(file, model_type, cls, verdict, found or "as which it is exact")
    if found or verdict == EXACT:
        return Row(file, model_type, cls, DIFFERS if found else EXACT, found or "")
    return Row(file, model_type, cls, verdict, f"for {names[0]}, as which it is exact{_answered(config)}")


def _held(config: Mapping[str, Any]) -> str:
    """What holds the definition of a type that transformers has not, or why a check does not know this config."""
    try:
        proof = BaseModel.load(config).proof
    except LoraPackerError as error:
        return f"; unknown to a check: {str(error)[:100]}"
    return "" if proof is None else f"; {proof.how}: {proof.source[:60]}"


def _answered(config: Mapping[str, Any]) -> str:
    """What a check says of a config with another library's class."""
    try:
        BaseModel.load(config)
    except LoraPackerError:
        return "; unknown to a check, since that class has modules of its own"
    return ""


def _difference(theirs: Any, base: BaseModel) -> str | None:
    """The first module that differs, under today's names or those of the class without the towers."""
    expected = modules_of(theirs)
    if TEXT_ONLY in base.dialects and base.dialects[TEXT_ONLY] == expected:
        return None
    for path in [*expected, *base.modules]:
        if expected.get(path) != base.modules.get(path):
            return f"{path}: transformers has {expected.get(path)}, the definition {base.modules.get(path)}"
    return parts_difference(theirs, base)


def rows_of(folder: Path) -> Iterator[Row]:
    """Yield a row for each config of a folder, and of those below it."""
    for path in sorted(folder.rglob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict):
            yield compared(config, path.relative_to(folder).as_posix().removesuffix(".json"))


def main() -> int:
    """Print what is not exact, and how many are what."""
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--all", action="store_true", help="print the exact ones, too")
    options.add_argument("--write", type=Path, help="write all of them as a table")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    import_timm()
    rows = []
    for row in rows_of(args.folder):
        rows.append(row)
        if args.all or row.verdict != EXACT:
            print(f"{row.verdict}: {row.file} ({row.model_type}, {row.cls}) {row.how}".rstrip(), flush=True)
    counts = Counter(row.verdict for row in rows)
    print(f"transformers {transformers.__version__}: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    if args.write:
        head = "| config | type | class | | |\n|---|---|---|---|---|\n"
        lines = (f"| {row.file} | {row.model_type} | {row.cls} | {row.verdict} | {row.how} |" for row in rows)
        args.write.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return 1 if any(row.verdict in FAILING for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
