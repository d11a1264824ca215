"""Prove the definitions of types whose code is in their own repositories against that code, on the meta device.

``proof_remote_listed.py`` says where PyPI has a copy of the code: it is fetched, built under random and real configs,
and every module path, kind, weight shape and bias is compared, as ``proof.py`` does; and for two of them what PEFT
writes. Run it in an environment with an older transformers (``make proof-remote``): such code was written for one.
The defaults in ``lora_packer/base_model/remote.json`` are compared with the config classes. Any difference is exit 1.

usage: python tools/proof_remote.py [--only TYPE] [--random N] [--configs FOLDER ...] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof_configs import vary  # noqa: E402
from proof_parts import parts_difference  # noqa: E402
from proof_remote_listed import SOURCES, Source  # noqa: E402
from proof_remote_peft import peft_difference  # noqa: E402
from remote_code import digest, fetched, imported  # noqa: E402

from lora_packer.base_model import ARCHITECTURES, BaseModel  # noqa: E402
from lora_packer.base_model.defaults import REMOTE  # noqa: E402
from lora_packer.base_model.meta import modules_of  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

# Fields that decide no shape, and that an older transformers refuses or takes for its own.
_OF_A_FILE = frozenset({"model_type", "architectures", "transformers_version", "auto_map", "_name_or_path"})
_OF_A_FILE |= {"rope_scaling", "attn_implementation", "_attn_implementation_autoset", "quantization_config"}


def _of_shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those of a file; a nested config keeps its type, but does not ask for flash attention."""
    kept = {name: value for name, value in config.items() if name not in _OF_A_FILE}
    for name, value in kept.items():
        if isinstance(value, dict) and value.get("_attn_implementation") == "flash_attention_2":
            kept[name] = {field: own for field, own in value.items() if field != "_attn_implementation"}
    return kept


class Code:
    """The classes of a source, imported."""

    def __init__(self, source: Source, cache: Path) -> None:
        self.source = source
        folder = fetched(source.package, source.folder, cache)
        named = (source.config, *source.classes.values())
        files = list(dict.fromkeys(item.partition(":")[0] for item in named))
        self.digest = digest(folder, files)
        modules = imported(folder, files, source.absent, source.without, source.stand_ins)
        held = {item: getattr(modules[item.partition(":")[0]], item.partition(":")[2]) for item in named}
        self.config = held[source.config]
        self.classes = {head: held[item] for head, item in source.classes.items()}

    def default(self) -> dict[str, Any]:
        """The class default, under the names of the repository's own config."""
        return self.ours(self.config().to_dict())

    def ours(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A config of the copy under the names of the repository's own."""
        return {self.source.names.get(name, name): value for name, value in config.items()}

    def build(self, config: Mapping[str, Any], head: str) -> Any:
        """Build a class on the meta device, or in memory where it makes values while it is made."""
        import torch

        fields = _of_shapes({**self.source.seed, **config})
        fields |= {own: config[name] for own, name in self.source.names.items() if name in config}
        made = self.config(**copy.deepcopy(fields))
        # The numbers of a schedule are read one by one while a model is made.
        numbers = mock.patch.object(torch, "linspace", partial(torch.linspace, device="cpu"))
        try:
            with torch.device("meta"), numbers:
                return self.classes[head](made, **self.source.arguments)
        except (NotImplementedError, RuntimeError):
            return self.classes[head](made, **self.source.arguments)


def random_configs(code: Code, model_type: str, wanted: int) -> Iterator[dict[str, Any]]:
    """Yield this many small configs that the code builds."""
    chance, head, found = random.Random(model_type), next(iter(code.classes)), 0
    for _ in range(wanted * 20):
        if found == wanted:
            return
        config = {**code.default(), **copy.deepcopy(dict(code.source.seed))}
        vary(config, chance, declared=True)
        for name, values in code.source.choices.items():
            config[name] = copy.deepcopy(chance.choice(values))
        labels = chance.choice((1, 2, 3))
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(labels)}
        config["label2id"] = {f"LABEL_{index}": index for index in range(labels)}
        config["model_type"] = model_type
        try:
            code.build(config, head)
        except Exception as error:  # noqa: BLE001 - the code refuses some random configs in ways of its own
            refused = f"{type(error).__name__}: {error}"
            continue
        found += 1
        yield config
    if found < wanted:
        raise RuntimeError(f"only {found} of {wanted} random configs could be built; the last: {refused}")


def difference(code: Code, config: Mapping[str, Any], head: str) -> str | None:
    """Return the first difference between the definition and the code, or None."""
    try:
        theirs = code.build(config, head)
    except Exception as error:  # noqa: BLE001 - the code's own
        return f"the code raises {type(error).__name__}: {str(error)[:120]}"
    try:
        base = BaseModel.load(config).with_head(head)  # type: ignore[arg-type]
    except LoraPackerError as error:
        return f"the definition raises: {error}"
    expected = modules_of(theirs)
    for path in [*expected, *base.modules]:
        if expected.get(path) != base.modules.get(path):
            return f"{path}: the code has {expected.get(path)}, the definition {base.modules.get(path)}"
    return parts_difference(theirs, base)


def real_configs(folders: list[Path], model_type: str, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the real configs of a type that are of this source's class, with fewer layers."""
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            config = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(config, dict) and config.get("model_type") == model_type and source.fits(config):
                for name in ("num_layers", "num_hidden_layers"):
                    if type(config.get(name)) is int:
                        config[name] = min(config[name], 4)
                yield path.name, config


def prove(model_type: str, source: Source, args: argparse.Namespace) -> list[str]:
    """Return the differences found for a source."""
    code = Code(source, args.cache)
    problems = []
    if code.digest != source.digest:
        problems.append(f"{model_type}: the files' digest is {code.digest}, and not {source.digest or 'written down'}")
    cases = [
        (f"random {number}", config) for number, config in enumerate(random_configs(code, model_type, args.random))
    ]
    real = list(real_configs(args.configs, model_type, source))
    for name, config in [*cases, *real]:
        for head in code.classes:
            found = difference(code, config, head)
            if found:
                problems.append(f"{model_type} {name} {head}: {found}")
    for name, config in cases[:2]:
        for head in code.classes:
            base = BaseModel.load(config).with_head(head)  # type: ignore[arg-type]
            found = peft_difference(code.build(config, head), base)
            if found:
                problems.append(f"{model_type} {name} {head}: {found}")
    counts = f"{len(cases)} random, {len(real)} real configs, {len(code.classes)} classes"
    print(f"{'FAILED' if problems else 'proven'} {model_type} by {source.package}: {counts}", flush=True)
    return problems


def defaults_difference(model_type: str, code: Code) -> Iterator[str]:
    """Yield each default that is written down otherwise than the config class has it."""
    written = json.loads(REMOTE.read_text(encoding="utf-8"))["types"][model_type]
    theirs = code.default()
    for name, value in written.items():
        if not isinstance(value, dict) and theirs.get(name) != value:
            yield f"{model_type}: the default of {name} is written as {value!r}, and the class has {theirs.get(name)!r}"


def main() -> int:
    """Prove what is listed; print a line for each source."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", action="append")
    options.add_argument("--random", type=int, default=20)
    options.add_argument("--configs", type=Path, action="append", default=[])
    options.add_argument("--cache", type=Path, default=ROOT / "build" / "remote-code")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    problems: list[str] = []
    for model_type, sources in SOURCES.items():
        if args.only and model_type not in args.only:
            continue
        problems += defaults_difference(model_type, Code(sources[0], args.cache))
        for source in sources:
            try:
                problems += prove(model_type, source, args)
            except RuntimeError as error:
                problems.append(f"{model_type} by {source.package}: {error}")
    built = {name for name, item in ARCHITECTURES.items() if item.proof is not None and item.proof.how == "built"}
    problems += [f"{name}: it says that it was built, and nothing is listed" for name in sorted(built - SOURCES.keys())]
    for problem in problems[:50]:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
